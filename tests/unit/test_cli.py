from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from rayfit.cli import guarded, parse_options
from rayfit.config import Options, flag
from rayfit.decoding import Decoding
from rayfit.errors import RayfitError
from tests.unit.plan.examples import SWEEP


def _parse(*words: str) -> Options:
    return parse_options(SWEEP, words)


def _refusal(*words: str) -> str:
    with pytest.raises(RayfitError) as caught:
        _parse(*words)
    return str(caught.value)


def test_no_words_give_the_defaults() -> None:
    assert _parse() == Options()


def test_words_become_typed_values() -> None:
    options = _parse(
        "--samples", "8,32", "--num-updates", "10", "--learning-rate=1e-6", "--seeds", "0,1,2", "--plan", "--use-gpu"
    )  # fmt: skip
    assert options.samples == (8, 32) and options.seeds == (0, 1, 2)
    assert options.num_updates == (10,) and options.learning_rate == (1e-6,)
    assert options.plan and options.use_gpu and not options.fresh


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ((), None),
        (("--use-gpu",), True),
        (("--use-gpu", "--plan"), True),
        (("--use-gpu", "yes"), True),
        (("--use-gpu=no",), False),
        (("--use-gpu", "auto"), None),
    ],
)
def test_gpus_are_taken_where_they_are_unless_it_is_said(words: tuple[str, ...], meant: bool | None) -> None:
    assert _parse(*words).use_gpu is meant


def test_another_word_for_gpus_is_refused() -> None:
    with pytest.raises(
        RayfitError, match="--use-gpu: expected one of auto, yes, no; got 'yess'; did you mean 'yes'"
    ):
        _parse("--use-gpu", "yess")


def test_every_option_has_its_flag_and_its_line_of_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _parse("--help")
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(Options):
        assert flag(field.name) in shown
        assert field.metadata["help"] in shown
    for limited in ("ci|laptop|paper", "0|1|2|3", "auto|bf16|fp32", "(default: pydoc-1m)"):
        assert limited in shown


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--smaples", "8"), ["--smaples: no such option", "did you mean '--samples'?", "--help"]),
        (("--smaples=8",), ["no such option", "did you mean '--samples'?"]),
        (("--num_workers", "2"), ["no such option", "did you mean '--num-workers'?"]),
        (("--sample", "8"), ["no such option", "did you mean '--samples'?"]),  # never taken for --samples
        (("--xyzzy",), ["--xyzzy: no such option", "--help lists them all"]),
        (("samples",), ["samples: no such option"]),
        (("--samples",), ["--samples", "expected one argument"]),
        (("--plan=yes",), ["--plan", "'yes'"]),
        (("--seeds", "-1,2"), ["--seeds: expected at least 0; got -1"]),
        (("--learning-rate", "-1e-3"), ["--learning-rate: expected more than 0; got -0.001"]),
        (("--learning-rate", "-.5"), ["--learning-rate: expected more than 0; got -0.5"]),
    ],
)
def test_what_cannot_be_meant_is_refused(words: tuple[str, ...], parts: list[str]) -> None:
    message = _refusal(*words)
    for part in parts:
        assert part in message


def test_a_flag_is_not_taken_for_the_value_before_it() -> None:
    assert "--samples" in _refusal("--samples", "--num-updates", "10")


def test_decodings_can_be_given_by_the_names_that_tables_show() -> None:
    names = [
        Decoding.parse(text).name for text in ("greedy", "nucleus:top_k=9,temperature=0.5,block=W2", "min_p")
    ]
    assert _parse("--decodings", ",".join(names)).decodings == tuple(names)


def test_an_error_of_the_user_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise RayfitError("--samples: no")

    assert guarded(fail) == 2
    captured: Any = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: --samples: no\n")
    assert guarded(lambda: 1) == 1


def test_an_error_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 // 0)


class TestConfigFile:
    """Options may stand in a TOML file; the command line wins."""

    def _file(self, tmp_path: Path, text: str) -> str:
        file = tmp_path / "options.toml"
        file.write_text(text)
        return str(file)

    @pytest.mark.parametrize(
        ("text", "meant"),
        [("true", True), ("false", False), ('"yes"', True), ('"no"', False), ('"auto"', None)],
    )
    def test_gpus_are_a_word_or_a_truth(self, tmp_path: Path, text: str, meant: bool | None) -> None:
        assert _parse("--config", self._file(tmp_path, f"use-gpu = {text}")).use_gpu is meant

    def test_it_says_what_the_command_line_leaves_open(self, tmp_path: Path) -> None:
        file = self._file(
            tmp_path,
            'samples = [8, 32]\nlearning-rate = 1\nmodel = "pydoc-0.5m"\nuse_gpu = true\nsequence_length = 128\n',
        )
        options = _parse("--config", file, "--samples", "4", "--sequence-length", "64")
        assert (options.samples, options.sequence_length) == ((4,), 64)
        assert (options.learning_rate, options.model, options.use_gpu) == ((1.0,), ("pydoc-0.5m",), True)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("sampels = [8]", "did you mean 'samples'"),
            ("samples = [8, true]", r"samples: expected int, or a list of them; got \[8, True\]"),
            ("sequence_length = [8]", "sequence_length: expected int; got"),
            ("samples = [0]", "--samples: expected at least 1; got 0"),
            ("samples =", "cannot be read as TOML"),
        ],
    )
    def test_a_slip_is_an_error(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(RayfitError, match=message):
            _parse("--config", self._file(tmp_path, text))

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(RayfitError, match=r"--config: .* cannot be read"):
            _parse("--config", str(tmp_path / "nothing.toml"))

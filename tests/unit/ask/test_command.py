"""The command as a person calls it: flags, standard input, colour, and one line with status 2 for what cannot be."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

from rayfit.cli import guarded
from rayfit.commands import run
from rayfit.records.storage import Storage
from tests.unit.ask.conftest import Models
from tests.unit.fresh import heavy_modules_after

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
TRIAL = "local-n8"


def call(*words: str) -> int:
    return guarded(lambda: run(["generate", *words]))


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert call(*words) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert call(*words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err


@pytest.fixture
def words(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return ["--storage", str(storage.root), "--trial", TRIAL, "--num-new-tokens", "30"]


def test_before_and_after_beside_each_other(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, *words, "--prompt", "The cat sat", "--top", "2")
    assert "\x1b" not in out  # no terminal
    lines = out.splitlines()
    assert lines[:2] == ["prompt:", "  The cat sat"]
    assert re.fullmatch(r"before: original, the original +│ after: local-n8-0123456789ab", lines[3])
    assert "most probable next tokens" in out
    assert max(map(len, lines)) <= 90


def test_colour_is_for_terminals_unless_asked_for(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words += ["--prompt", "The cat sat", "--num-new-tokens", "80"]  # long enough to repeat itself
    without = shown(capsys, *words)
    always = shown(capsys, *words, "--color", "always")
    legend, rest = always.split("\n", 1)
    assert ESCAPE.sub("", rest) == without != rest
    assert "32+" in legend
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert shown(capsys, *words) == always
    assert shown(capsys, *words, "--color", "never") == without
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown(capsys, *words) == without
    assert shown(capsys, *words, "--color", "always") == always


def test_standard_input_is_a_prompt(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = shown(capsys, *words, "--prompt", "The cat sat")
    monkeypatch.setattr(sys, "stdin", io.StringIO("The cat sat\n"))
    assert shown(capsys, *words, "--prompt", "-") == wanted


def test_standard_input_that_is_no_text(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfeabc"), encoding="utf-8"))
    assert "--prompt: is not UTF-8 text" in refusal(capsys, *words, "--prompt", "-")


def test_a_file_holds_one_prompt_per_line(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("The cat sat\n\nA list of\n")
    out = shown(capsys, *words, "--prompts", str(file))
    assert re.findall(r"^prompt.*\n  .*$", out, re.M) == [
        "prompt 1 of 2:\n  The cat sat",
        "prompt 2 of 2:\n  A list of",
    ]
    file.write_text("\n \n")
    assert "holds no prompt; give one per line" in refusal(capsys, *words, "--prompts", str(file))
    file.write_bytes(b"\xff\xfe")
    assert "cannot be read as UTF-8" in refusal(capsys, *words, "--prompts", str(file))
    assert "cannot be read" in refusal(capsys, *words, "--prompts", str(tmp_path / "none"))


def test_flags_change_the_decoding(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words += ["--prompt", "The cat sat"]
    assert "30 tokens" in shown(capsys, *words)
    blocked = shown(capsys, *words, "--block", "local-n9")
    assert "blocker: a ban in force at" in blocked
    hot = [*words, "--decoding", "temperature:temperature=2"]
    assert shown(capsys, *hot, "--seed", "1") == shown(capsys, *hot, "--seed", "1")
    assert shown(capsys, *hot, "--seed", "1") != shown(capsys, *hot, "--seed", "2")


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (("--prompt", " "), "--prompt: is empty"),
        (("--prompt", "x", "--decoding", "gredy"), "did you mean 'greedy'"),
        (("--prompt", "x", "--decoding", "contrastive"), "runs no remote code"),
        (("--prompt", "x", "--decoding", "matched"), "its temperature is found by a sweep"),
        (("--prompt", "a\udcff"), "--prompt: is not UTF-8 text"),
        (("--prompt", "x", "--num-new-tokens", "0"), "num_new_tokens: expected a whole number"),
        (("--prompt", "x", "--seed", "-1"), "decoding.seed"),
        (("--prompt", "x", "--top", "-1"), "--top: expected 0 or more; got -1"),
        (("--prompt", "x", "--trial", "nothing"), "no trial 'nothing'"),
        (("--prompt", "x", "--storage", "/no/where"), "--storage: there is no folder /no/where"),
        (("--prompt", "x", "--block", "nothing"), "--block: there is no file and no trial 'nothing'"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str], capsys: pytest.CaptureFixture[str], given: tuple[str, ...], part: str
) -> None:
    assert part in refusal(capsys, *words, *given)


def test_a_directory_alone_is_one_column(
    words: list[str], models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(capsys, "--model", str(models.original), "--prompt", "A list", "--num-new-tokens", "5")
    assert "│" not in out and str(models.original) in "".join(out.splitlines())


def test_what_is_wrong_is_said_before_torch_is_loaded() -> None:
    code = """
from rayfit.cli import guarded
from rayfit.commands import run
for words in (["--prompt", "x"], ["--model", "pydoc-9m", "--prompt", "x"], ["--trial", "x", "--prompt", "x"]):
    assert guarded(lambda: run(["generate", "--storage", "nowhere", *words])) == 2
"""
    assert heavy_modules_after(code) == []

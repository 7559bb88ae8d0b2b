"""docs/extending: the code of its pages runs as it stands there, and prints what they say."""

from __future__ import annotations

import contextlib
import dataclasses
import doctest
import io
import re
import runpy
import shlex
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from rayfit.cli import parse_options, run_script
from rayfit.columns import column
from rayfit.measure.stage import Measured, Stage, measure
from rayfit.plan.measurements import Generation
from rayfit.plan.planning import make_plan
from rayfit.records.storage import Storage
from rayfit.score import text as text_module
from rayfit.score.text import score_texts
from rayfit.scores import SCORES
from tests.finished import Finished, text_frame
from tests.unit.fresh import ROOT, run_python
from tests.unit.plan.examples import plan_of

PAGES = ROOT / "docs" / "extending"
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block of the page."""

    language: str
    body: str


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page, in its order."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    return [Block(match["language"], textwrap.dedent(match["body"])) for match in _BLOCK.finditer(text)]


def assert_prints(printed: str, expected: str) -> None:
    """Equal but for runs of spaces; `...` in `expected` stands for anything."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if not doctest.OutputChecker().check_output(expected, printed, flags):
        pytest.fail(f"the page says\n{expected}\nbut the code prints\n{printed}")


def run_blocks(blocks: list[Block], folder: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Run blocks one after another in `folder`; after each Python block, all names so far, and what it printed."""
    names: dict[str, Any] = {"__name__": "page"}
    printed = ""
    for block in blocks:
        match block.language:
            case "python":
                with contextlib.redirect_stdout(io.StringIO()) as stream:
                    exec(compile(block.body, "page", "exec"), names)
                printed = stream.getvalue()
                yield names, printed
            case "console":
                for command in re.split(r"^\$ ", block.body, flags=re.M)[1:]:
                    run_command(*command.split("\n", maxsplit=1), folder)
            case "text":
                assert_prints(printed, block.body)
            case other:
                pytest.fail(f"a block in {other!r}, which nothing runs")


def run_command(command: str, expected: str, folder: Path) -> None:
    """A sweep's command, without its training: a plan, or for a cluster its options, which must be accepted.

    A command whose output the page shows runs as it stands there, in a process of its own.
    """
    words = shlex.split(command)
    place = next(index for index, word in enumerate(words) if word.endswith(".py"))
    before, script, arguments = words[:place], words[place], words[place + 1 :]
    sweep = runpy.run_path(script)["SWEEP"]
    if expected:
        assert before == ["python"] and "--plan" in arguments
        done = run_python(script, *arguments, cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert_prints(done.stdout, expected)
    elif before == ["python"]:
        assert run_script(sweep, script, [*dict.fromkeys([*arguments, "--plan"])]) == 0
    else:
        assert before == ["ray", "job", "submit", "--working-dir", ".", "--", "python"]
        parse_options(sweep, arguments)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the project's sweep in it."""
    (tmp_path / "sweeps").mkdir()
    shutil.copy(ROOT / "sweeps" / "data_quantity.py", tmp_path / "sweeps")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_section_is_run_below() -> None:
    for page in PAGES.glob("*.md"):
        assert page.read_text(encoding="utf-8").count("```") == 2 * len(blocks_of(page.stem)) > 0


def test_the_sweep_plans_where_the_page_says(folder: Path) -> None:
    script, *rest = blocks_of("sweep")
    assert len(script.body.splitlines()) < 25
    assert "`sweeps/learning_rate.py`" in (PAGES / "sweep.md").read_text(encoding="utf-8")
    (folder / "sweeps" / "learning_rate.py").write_text(script.body, encoding="utf-8")
    assert list(run_blocks(rest, folder)) == []
    assert not (folder / "runs").exists()
    mine, other = (trial_ids(folder / "sweeps" / f"{name}.py") for name in ("learning_rate", "data_quantity"))
    assert mine[2] in other and mine[0] not in other


def trial_ids(script: Path) -> list[str | None]:
    """The ids of a sweep's trials, in the order of its plan."""
    sweep = runpy.run_path(str(script))["SWEEP"]
    return [trial.id for trial in make_plan(sweep, parse_options(sweep, []), Storage("runs")).trials]


ORIGINAL = [[5, 5, 5, 5], [5, 6, 6, 5], [7, 8, 7, 8], []]
TRIAL = [[1, 2, 2, 3], [4, 3, 2, 1], [9, 8, 9, 8], [1, 1, 1, 1]]


def write_texts(made: Finished, who: str, texts: list[list[int]]) -> None:
    """The texts of the original model, or of the trial, with these token ids."""
    spec = next(spec for spec in made.plan.measurements if isinstance(spec, Generation) and spec.who == who)
    frame = text_frame(spec).with_columns(token_ids=pl.Series(texts, dtype=pl.List(pl.Int32)))
    done = Measured(frames={"texts": frame})
    measure(Stage(kind=spec.kind, run=lambda *_: done), spec, made.launch.bench)


def test_the_score_is_measured_and_compared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage("runs")
    made = Finished(storage, plan_of(storage))
    made.train(made.plan.trials[0])
    write_texts(made, "original", ORIGINAL)
    write_texts(made, "trained", TRIAL)
    monkeypatch.setattr(text_module, "TEXT_SCORES", dict(text_module.TEXT_SCORES))
    steps = run_blocks(blocks_of("score"), folder)
    names, _ = next(steps)
    of_one_text = names["longest_run"]
    assert [of_one_text(text) for text in ORIGINAL] == [4, 2, 1, None]
    names, _ = next(steps)
    assert names["texts"]["longest_run"].to_list() == [4, 2, 1, None, 2, 1, 1, 4]
    _, printed = next(steps)
    # The original has no text of the last context, which is in the mean and not in the difference.
    assert_prints(
        printed,
        f"{made.plan.trials[0].id}: 2.00 (1.00 to ...) over 4 texts\n"
        "minus the original: -1.00 (-2.00 to +0.00), 1 missing\n",
    )

    names, _ = next(steps)
    of_texts = names["longest_run"](ORIGINAL + TRIAL)
    assert of_texts.values.to_list() == [of_one_text(text) for text in ORIGINAL + TRIAL]
    assert of_texts.values.dtype == pl.Int64
    names, _ = next(steps)
    of_text, aggregate = names["ENTRIES"]
    assert (of_text.name, aggregate.name) == (names["AGGREGATE"].column, names["AGGREGATE"].name)
    assert not {of_text.name, aggregate.name} & set(SCORES)
    scored = score_texts(
        pl.DataFrame({"context_id": [1, 2], "domain": "a", "token_ids": [[5, 5, 6], [7, 8, 9]]})
    )
    assert scored["longest_run"].to_list() == [2, 1]
    names, _ = next(steps)
    names["test_longest_run_is_the_longest_stretch_with_one_token"]()
    assert list(steps) == []
    assert len(names["longest_run"](np.empty((0, 3), dtype=np.int64)).values) == 0


def test_a_measurement_of_one_s_own_is_planned_and_has_a_column(folder: Path) -> None:
    """It is run by tests/integration/test_own_measurement.py."""
    ((names, _),) = run_blocks(blocks_of("measurement"), folder)
    sweep = names["SWEEP"]
    plan = make_plan(sweep, parse_options(sweep, ["--samples", "8,32"]), Storage("runs"))
    own = [spec for spec in plan.measurements if spec.kind == "distances"]
    assert [spec.trial for spec in own] == list(plan.unique_trials)
    assert len({spec.id for spec in own}) == len(own)
    assert column("weight_distance").title == "weight distance"
    before = {spec.id for spec in plan.measurements} - {spec.id for spec in own}
    usual = dataclasses.replace(sweep, measures=())
    assert before == {
        spec.id
        for spec in make_plan(
            usual, parse_options(usual, ["--samples", "8,32"]), Storage("runs")
        ).measurements
    }


def test_decodings_declare_what_the_page_says(folder: Path) -> None:
    (_, printed), *rest = run_blocks(blocks_of("decoding"), folder)
    assert printed.count("kind") == 4 and not rest


def test_the_dataset_becomes_rows(folder: Path) -> None:
    *_, (names, _) = run_blocks(blocks_of("dataset"), folder)
    held_out = names["contexts"], names["validation"]
    documents = {document for frame in held_out for document in frame["document"]}
    assert not documents & set(names["eight"]["document"])
    dropped = names["spans"].filter(pl.col("split") == "near_duplicate")
    assert set(dropped["text"].str.contains("luck")) == {True}
    assert not (folder / "runs").exists()

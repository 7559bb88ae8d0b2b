from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rayfit.report.rows import Row, sweep_rows

from rayfit.records.storage import Storage
from rayfit.report.table import render_table
from tests.unit.plan.examples import plan_of
from tests.unit.report.examples import write_all, write_evaluated
from tests.unit.report.records import row


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def _rendered(rows: list[Row], contexts: int = 100, **more: Any) -> str:
    return render_table({"rows": rows, "options": {"contexts": contexts}, **more})


def _table(text: str) -> tuple[list[str], list[str]]:
    """The heading's words and the lines of rows."""
    heading, rule, *rest = text.split("\n")
    assert set(rule) == {"-"}
    return heading.split(), rest[: rest.index("")]


def test_a_line_per_row_with_a_dash_where_a_number_does_not_apply(storage: Storage) -> None:
    plan = plan_of(storage, samples=(8, 128))
    write_all(storage, plan)
    text = _rendered(sweep_rows(plan, storage, {}))
    heading, (truth, original, few, many) = _table(text)
    assert heading[:2] == ["samples", "epochs"] and "TTR" in heading and heading[-1] == "minutes"
    assert truth.split() == ["true", "continuations", *["-"] * 6, "0.660", "-", "-", "-"]
    assert original.split() == ["original", "model", *["-"] * 4, "4.10", "4.00", "0.200", "-", "-", "0.1"]
    numbers = ["100", "0.050", "0.990", "8.00", "1.50", "0.508", "7.0", "3.0", "1.5"]
    assert few.split() == ["hyperfitted", "8", *numbers]
    assert many.split()[:3] == ["hyperfitted", "128", "6.25"]
    assert "All trials: " in text and "updates 100, batch 8" in text


def test_columns_are_aligned(storage: Storage) -> None:
    plan = plan_of(storage, samples=(8, 2000))
    write_all(storage, plan)
    heading, _, *rows = _rendered(sweep_rows(plan, storage, {})).split("\n")[:6]
    for title in ("samples", "TTR", "minutes"):
        end = heading.index(title) + len(title)
        assert all(row[end - 1] != " " and row[end : end + 2] in ("", "  ") for row in rows)


def test_what_went_wrong_stands_in_its_line(storage: Storage) -> None:
    plan = plan_of(storage, samples=(8, 32, 64))
    write_all(storage, plan)
    write_evaluated(storage, plan, plan.trials[1], train_loss=0.5)
    errors = {str(plan.trials[0].id): "the loss is nan at update 3"}
    _, lines = _table(_rendered(sweep_rows(plan, storage, {}, errors)))
    assert lines[2].endswith("FAILED: the loss is nan at update 3")
    assert lines[3].startswith("trained, not hyperfitted  ")
    assert lines[4].endswith("1.5")
    assert "PENDING: not evaluated yet" in _rendered(sweep_rows(plan_of(storage, seeds=(5,)), storage, {}))


def test_seeds_have_lines_and_a_column_of_their_own(storage: Storage) -> None:
    plan = plan_of(storage, seeds=(3, 5))
    write_all(storage, plan)
    heading, lines = _table(_rendered(sweep_rows(plan, storage, {})))
    # The order's seed is the same, and so it is not said beside it.
    assert heading[:2] == ["seed", "train"] and "order" not in heading
    assert [line.split()[1] for line in lines[2:]] == ["3", "5"]


def test_decodings_are_named_where_there_are_several(storage: Storage) -> None:
    plan = plan_of(storage, decodings=("greedy", "nucleus"))
    write_all(storage, plan)
    heading, lines = _table(_rendered(sweep_rows(plan, storage, {})))
    assert heading[0] == "decoding"
    assert [line.removeprefix("original model").split()[0] for line in lines[1:3]] == ["greedy", "nucleus"]
    assert [line.split()[1] for line in lines[3:]] == ["greedy", "nucleus"]


def test_several_texts_are_sections(storage: Storage) -> None:
    rows = [row("trained", domain=domain, ttr_last_96=0.5) for domain in ("news", "fiction")]
    text = _rendered(rows)
    assert [line for line in text.split("\n") if line.startswith("on ")] == ["on news", "on fiction"]


def test_the_legend_says_how_many_contexts(storage: Storage) -> None:
    rows = [row("truth", ttr_last_96=0.5)]
    assert "37 contexts per row" in _rendered(rows, 37)
    prompts = {"name": "mine", "count": 3}
    assert "37 contexts per row; in rows on mine 3 prompts" in _rendered(rows, 37, prompts=prompts)

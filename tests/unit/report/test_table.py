from __future__ import annotations

from pathlib import Path

import pytest

from rayfit.records.storage import Storage
from rayfit.report.rows import sweep_rows
from rayfit.report.table import render_table
from tests.unit.plan.examples import plan_of
from tests.unit.report.examples import write_all, write_evaluated


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def _table(text: str) -> tuple[list[str], list[str]]:
    """The heading's words and the lines of rows."""
    heading, rule, *rest = text.split("\n")
    assert set(rule) == {"-"}
    return heading.split(), rest[: rest.index("")]


def test_a_line_per_row_with_a_dash_where_a_number_does_not_apply(storage: Storage) -> None:
    plan = plan_of(storage, samples=(8, 128))
    write_all(storage, plan)
    heading, (truth, original, few, many) = _table(render_table(sweep_rows(plan, storage, {}), 100))
    assert heading[:3] == ["samples", "updates", "epochs"] and "TTR" in heading and heading[-1] == "minutes"
    assert truth.split() == ["true", "continuations", *["-"] * 7, "0.660", "-", "-", "-"]
    assert original.split() == ["original", "model", *["-"] * 5, "4.10", "4.00", "0.200", "-", "-", "0.1"]
    numbers = ["100", "0.050", "0.990", "8.00", "1.50", "0.508", "7.0", "3.0", "1.5"]
    assert few.split() == ["hyperfitted", "8", "100", *numbers]
    assert many.split()[:4] == ["hyperfitted", "128", "100", "6.25"]


def test_columns_are_aligned(storage: Storage) -> None:
    plan = plan_of(storage, samples=(8, 2000))
    write_all(storage, plan)
    text = render_table(sweep_rows(plan, storage, {}), 100)
    heading, _, *rows = text.split("\n")[:6]
    for title in ("samples", "TTR", "minutes"):
        end = heading.index(title) + len(title)
        assert all(row[end - 1] != " " and row[end : end + 2] in ("", "  ") for row in rows)


def test_what_went_wrong_stands_in_its_line(storage: Storage) -> None:
    plan = plan_of(storage, samples=(8, 32, 64))
    write_all(storage, plan)
    write_evaluated(storage, plan, plan.trials[1], train_loss=0.5)
    errors = {str(plan.trials[0].id): "the loss is nan at update 3"}
    _, lines = _table(render_table(sweep_rows(plan, storage, {}, errors), 100))
    assert lines[2].endswith("FAILED: the loss is nan at update 3")
    assert lines[3].endswith("  not hyperfitted")
    assert lines[4].endswith("1.5")
    assert "PENDING: not evaluated yet" in render_table(
        sweep_rows(plan_of(storage, seeds=(5,)), storage, {}), 1
    )


def test_decodings_are_named_where_there_are_several(storage: Storage) -> None:
    plan = plan_of(storage, decodings=("greedy", "nucleus"))
    write_all(storage, plan)
    _, lines = _table(render_table(sweep_rows(plan, storage, {}), 100))
    assert [line.split(",")[0] for line in lines[1:]] == ["original model"] * 2 + ["hyperfitted"] * 2
    assert "nucleus" in lines[2] and "nucleus" in lines[4] and "," not in lines[0]


def test_the_legend_says_how_many_contexts(storage: Storage) -> None:
    plan = plan_of(storage)
    write_all(storage, plan)
    assert "37 contexts per row" in render_table(sweep_rows(plan, storage, {}), 37)
    assert "37 contexts per row; in rows on mine 3 prompts" in render_table(
        sweep_rows(plan, storage, {}), 37, {"name": "mine", "count": 3}
    )

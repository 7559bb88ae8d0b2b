from __future__ import annotations

from typing import Any

import msgspec

from rayfit.plan.measurements import Prediction
from rayfit.records.storage import Storage
from rayfit.records.sweep import PromptsUsed
from rayfit.report.table import render_table
from tests.finished import Finished, finished
from tests.rows import row
from tests.unit.plan.examples import plan_of
from tests.unit.report.sweeps import with_rows


def _rendered(storage: Storage, **options: Any) -> str:
    return render_table(finished(storage, plan_of(storage, **options)))


def _table(text: str) -> tuple[list[str], list[str]]:
    """The heading's words and the lines of rows."""
    heading, rule, *rest = text.split("\n")
    assert set(rule) == {"-"}
    return heading.split(), rest[: rest.index("")]


def test_a_line_per_row_with_a_dash_where_a_number_does_not_apply(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage, samples=(8, 128)))
    for trial in made.plan.trials:
        made.train(trial)
    for spec in made.plan.measurements:
        taken = 6.0 if spec.kind == "generations" else 0.0
        if isinstance(spec, Prediction) and spec.trial is not None:
            made.measure(spec, train_loss=0.05, seconds=taken)
        else:
            made.measure(spec, seconds=taken)
    text = render_table(msgspec.structs.replace(made.record(), figures=(), scores=()))
    heading, (truth, original, few, many) = _table(text)
    assert heading[:2] == ["samples", "epochs"] and "TTR" in heading and heading[-1] == "minutes"
    assert truth.split() == ["true", "continuations", *["-"] * 6, "0.660", "-", "-", "-"]
    assert original.split() == ["original", "model", *["-"] * 4, "4.10", "4.00", "0.200", "-", "-", "0.1"]
    numbers = ["100", "0.050", "0.990", "8.00", "1.50", "0.600", "7.0", "3.0", "1.5"]
    assert few.split() == ["hyperfitted", "8", *numbers]
    assert many.split()[:3] == ["hyperfitted", "128", "6.25"]
    assert "All trials: " in text and "updates 100, batch 8" in text


def test_columns_are_aligned(storage: Storage) -> None:
    heading, _, *rows = _rendered(storage, samples=(8, 2000)).split("\n")[:6]
    for title in ("samples", "TTR", "minutes"):
        end = heading.index(title) + len(title)
        assert all(row[end - 1] != " " and row[end : end + 2] in ("", "  ") for row in rows)


def test_what_went_wrong_stands_in_its_line(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage, samples=(8, 32, 64))).all()
    for spec in made.plan.measurements:
        if isinstance(spec, Prediction) and spec.trial == made.plan.trials[1]:
            made.measure(spec, train_loss=0.5)
    made.fail(made.plan.trials[0], "the loss is nan at update 3")
    _, lines = _table(render_table(made.record()))
    assert lines[2].endswith("FAILED: the loss is nan at update 3")
    assert lines[3].startswith("trained, not hyperfitted  ")
    assert lines[4].endswith("1.5")
    begun = Finished(storage, plan_of(storage, seeds=(5,))).begun()
    assert "PENDING: not evaluated yet" in render_table(begun)


def test_seeds_have_lines_and_a_column_of_their_own(storage: Storage) -> None:
    heading, lines = _table(_rendered(storage, seeds=(3, 5)))
    # The order's seed is the same, and so it is not said beside it.
    assert heading[:2] == ["seed", "train"] and "order" not in heading
    assert [line.split()[1] for line in lines[2:]] == ["3", "5"]


def test_decodings_are_named_where_there_are_several(storage: Storage) -> None:
    heading, lines = _table(_rendered(storage, decodings=("greedy", "nucleus")))
    assert heading[0] == "decoding"
    assert [line.removeprefix("original model").split()[0] for line in lines[1:3]] == ["greedy", "nucleus"]
    assert [line.split()[1] for line in lines[3:]] == ["greedy", "nucleus"]


def test_several_texts_are_sections(storage: Storage) -> None:
    record = Finished(storage, plan_of(storage)).begun()
    rows = [row("trained", domain=domain, ttr_last_96=0.5) for domain in ("news", "fiction")]
    text = render_table(with_rows(record, rows))
    assert [line for line in text.split("\n") if line.startswith("on ")] == ["on news", "on fiction"]


def test_the_legend_says_how_many_contexts(storage: Storage) -> None:
    record = finished(storage, plan_of(storage, contexts=37))
    assert "37 contexts per row." in render_table(record)
    prompts = PromptsUsed(name="mine", count=3, sha256="0" * 64)
    text = render_table(msgspec.structs.replace(record, prompts=prompts))
    assert "37 contexts per row; in rows on mine 3 prompts" in text

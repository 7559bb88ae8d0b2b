"""Rows joined from records: what applies to whom, what is missing and why, and what counts as early stopping."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from rayfit.config import Options
from rayfit.findings.current import current
from rayfit.findings.join import NO_PREDICTIONS, join
from rayfit.plan.measurements import Measurement
from rayfit.plan.plan import Plan
from rayfit.plan.planning import make_plan
from rayfit.records.storage import Storage
from rayfit.records.sweep import Row
from rayfit.records.trial import loss_floor
from rayfit.report.table import render_table
from tests.finished import Finished
from tests.unit.plan.examples import BASE, SWEEP, plan_of

FLOOR = loss_floor(8, 256)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def _spec(plan: Plan, kind: str, who: str, decoding: str | None = None) -> Measurement:
    return next(
        spec
        for spec in plan.measurements
        if (spec.kind, spec.who) == (kind, who)
        and (decoding is None or spec.decoding is None or spec.decoding.name == decoding)
    )


def test_a_row_per_checkpoint_and_decoding_truth_and_original_first(storage: Storage) -> None:
    plan = plan_of(storage, samples=(8, 32), decodings=("greedy", "nucleus"))
    rows = Finished(storage, plan).all().record().rows
    names = [decoding.name for decoding in plan.decodings]
    ids = [trial.id for trial in plan.trials]
    assert [(row.who, row.trial_id, row.decoding) for row in rows] == [
        ("truth", None, None),
        *(("original", None, name) for name in names),
        *(("trained", trial_id, name) for trial_id in ids for name in names),
    ]
    assert {(row.status, row.domain) for row in rows} == {("FINISHED", "pydoc")}


def test_each_has_what_applies_to_it_and_null_elsewhere(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage))
    made.train(made.plan.trials[0])
    for spec in made.plan.measurements:
        made.measure(spec, seconds=60.0 if spec.kind == "generations" else 0.0)
    truth, original, trained = made.record().rows
    assert truth.value("ttr_last_96") == 0.66
    assert [truth.value(name) for name in ("train_loss", "validation_loss", "samples", "minutes")] == [
        None
    ] * 4
    assert truth.reason is not None and "text scores only" in truth.reason
    assert original.value("validation_loss") == 4.1 and original.minutes == pytest.approx(1.0, abs=0.01)
    assert original.value("longest_overlap_mean") is None
    assert original.reason is not None and "no training rows of its own" in original.reason
    assert original.hyperfitted is None and original.value("train_loss") is None
    assert (trained.samples, trained.updates, trained.epochs, trained.seed) == (8, 100, 100.0, 0)
    assert (trained.minutes, trained.overhead_seconds) == (1.5, 0.25)
    assert trained.value("original_longest_overlap_mean") == 3.0
    assert trained.value("top_1_agreement") == 0.3
    assert trained.hyperfitted is True and trained.reason is None
    assert trained.bounds("ttr_last_96") == pytest.approx((0.58, 0.62))
    assert set(trained.measurements) == {"predictions", "generations", "scores", "comparisons"}


def test_nothing_done_yet_is_pending_and_nothing_is_failed(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage, samples=(8, 32)))
    begun = made.begun()
    rows = join(begun, storage)
    assert {row.status for row in rows} == {"PENDING"} and all(row.reason for row in rows)
    made.train(made.plan.trials[0])
    row = current(begun, storage).rows[2]
    assert (row.status, row.reason, row.value("ttr_last_96")) == ("PENDING", "not evaluated yet", None)
    assert row.minutes == 1.5 and row.hyperfitted is True  # by its own loss, until it is measured


def test_a_row_is_finished_when_all_that_it_needs_is(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage))
    made.train(made.plan.trials[0])
    own = [spec for spec in made.plan.measurements if spec.who == "trained"]
    begun = made.begun()
    for number, spec in enumerate(own, start=1):
        made.measure(spec)
        (row,) = (row for row in join(begun, storage) if row.who == "trained")
        assert row.is_finished == (number == len(own))


def test_a_failed_trial_is_failed_under_every_decoding_and_the_others_are_not(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage, samples=(8, 32), decodings=("greedy", "nucleus"))).all()
    made.fail(made.plan.trials[0], "the loss is nan at update 3")
    for row in made.record().rows:
        if row.trial_id == made.plan.trials[0].id:
            assert (row.status, row.reason) == ("FAILED", "the loss is nan at update 3")
            assert row.value("ttr_last_96") is None and row.samples == 8
        else:
            assert row.status == "FINISHED"


def test_a_failed_measurement_keeps_what_training_told(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage)).all()
    made.fail_measuring(_spec(made.plan, "scores", "trained"), "out of memory")
    row = made.record().rows[2]
    assert (row.status, row.reason) == ("FAILED", "scores: out of memory")
    assert row.minutes == 1.5


def test_what_is_there_is_shown_beside_what_failed_or_is_not_there_yet(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage))
    made.train(made.plan.trials[0])
    for spec in made.plan.measurements:
        if spec.kind != "comparisons":
            made.measure(spec)
    row = join(made.begun(), storage)[2]
    assert (row.status, row.value("ttr_last_96"), row.value("top_1_agreement")) == ("PENDING", 0.6, None)
    assert set(row.measurements) == {"predictions", "generations", "scores"}
    made.fail_measuring(_spec(made.plan, "comparisons", "trained"), "another tokenizer")
    record = made.record()
    row = record.rows[2]
    assert (row.status, row.reason, row.value("ttr_last_96")) == (
        "FAILED",
        "comparisons: another tokenizer",
        0.6,
    )
    shown = render_table(record)
    assert "0.600" in shown and "another tokenizer" in shown


def test_what_was_measured_of_other_weights_is_not_there(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage)).all()
    made.train(made.plan.trials[0], digest="other", fresh=True)
    row = join(made.begun(), storage)[2]
    assert (row.status, row.scores) == ("PENDING", {})
    for spec in made.plan.measurements:
        if spec.who == "trained" and spec.kind != "scores":
            made.measure(spec, texts=["a new text"])
    row = join(made.begun(), storage)[2]
    assert row.status == "PENDING" and row.value("entropy_nats") == 1.5
    assert row.value("ttr_last_96") is None, "it is of the texts before"


def test_a_trial_that_failed_for_another_sweep_is_finished_for_this_one(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage)).all()
    made.fail(made.plan.trials[0], "the old record stays")
    made.launch.trial_errors.clear()  # it was the other sweep's launch that failed
    assert {row.status for row in made.record().rows} == {"FINISHED"}


def test_a_killed_launch_takes_nothing_from_what_was_found(storage: Storage) -> None:
    plan = plan_of(storage, samples=(8, 32), eval_datasets=("topics", "docstrings"))
    before = Finished(storage, plan).all().record()
    assert before.differences and [row for row in before.rows if row.domain == "pooled"]
    begun = Finished(storage, plan, started_at="2026-03-02T10:00:00.000+00:00").begun()
    assert storage.sweep(begun.id) == begun and not begun.is_over
    now = current(begun, storage)
    assert (now.rows, now.differences) == (before.rows, before.differences)


@pytest.mark.parametrize(
    ("own_loss", "measured_loss", "hyperfitted"),
    [
        (0.05, FLOOR + 0.0999, True),
        (0.05, FLOOR + 0.1001, False),  # what the evaluator measured decides
        (5.0, 0.05, True),
        (0.05, None, True),  # not measured: the worker's own loss
        (5.0, None, False),
    ],
)
def test_hyperfitted_is_decided_on_the_evaluator_s_loss(
    storage: Storage, own_loss: float, measured_loss: float | None, hyperfitted: bool
) -> None:
    made = Finished(storage, plan_of(storage))
    made.train(made.plan.trials[0], train_loss=own_loss)
    for spec in made.plan.measurements:
        of_trial = spec.kind == "predictions" and spec.who == "trained"
        made.measure(spec, **({"train_loss": measured_loss} if of_trial else {}))
    row = made.record().rows[2]
    assert row.hyperfitted is hyperfitted
    assert (row.status, bool(row.reason)) == ("FINISHED", not hyperfitted)
    assert hyperfitted or "0.1 above its floor" in str(row.reason)


def test_training_that_stopped_says_at_which_update_or_that_it_did_not(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage, stop_at_train_loss=0.5, samples=(8, 32)))
    made.train(made.plan.trials[0], stopped_at=40)
    made.train(made.plan.trials[1], train_loss=1.0)
    stopped, whole = (row for row in join(made.begun(), storage) if row.who == "trained")
    assert (stopped.updates, stopped.epochs) == (40, 40.0)
    assert (whole.updates, whole.hyperfitted) == (100, False)
    made.all({"train_loss": 1.0})
    _, whole = (row for row in join(made.begun(), storage) if row.who == "trained")
    assert "the training loss 0.5 was not reached" in str(whole.reason)


def test_rows_on_prompts_have_text_scores_alone(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("one\ntwo\n")
    plan = plan_of(storage, prompts=str(tmp_path / "mine.txt"))
    made = Finished(storage, plan).all({"train_loss": 0.5})
    record = made.record()
    assert {row.status for row in record.rows} == {"FINISHED"}
    assert [row.domain for row in record.rows if row.who == "truth"] == ["pydoc"]
    original, mine = (row for row in record.rows if row.domain == "mine")
    for row in (original, mine):
        assert row.value("ttr_last_96") is not None
        measured = ("train_loss", "train_accuracy", "validation_loss", "entropy_nats")
        assert [row.value(name) for name in measured] == [None] * 4
        assert set(row.measurements) == {"generations", "scores"}
        assert "prompts have no true text" in str(row.reason)
    assert "no training rows of its own" in str(original.reason)
    assert [row.domain for row in record.on_texts()] == ["pydoc"] * 3
    # Whether a trial is hyperfitted is the same on prompts, by the loss that was measured elsewhere.
    (usual,) = (row for row in record.rows if row.who == "trained" and row.domain == "pydoc")
    assert usual.hyperfitted is False and mine.hyperfitted is False
    assert str(mine.reason) == f"{NO_PREDICTIONS}; {usual.reason}"


def test_a_matched_original_has_its_temperature_and_the_original_s_predictions(storage: Storage) -> None:
    record = Finished(storage, plan_of(storage, decodings=("greedy", "matched"))).all().record()
    matched = next(row for row in record.rows if row.who == "original" and row.trial_id is not None)
    assert (matched.value("matched_temperature"), matched.value("entropy_nats")) == (0.45, 4.0)
    assert matched.value("top_1_agreement") is None and matched.trial_id == record.trials[0]
    assert matched.arm == "matched to pydoc-1m-pydoc-n8-u100-lr0.001-s0"


def test_of_a_sweep_that_is_over_the_rows_stay_as_they_were(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage)).all()
    record = made.record()
    made.measure(_spec(made.plan, "scores", "trained"), ttr_last_96=0.9)
    assert current(record, storage) == record
    again = msgspec.structs.replace(record.launches[-1], finished_at=None)
    running = msgspec.structs.replace(record, launches=(again,))
    assert [row.value("ttr_last_96") for row in current(running, storage).rows] == [0.66, 0.2, 0.9]


def _early_stopped(storage: Storage, losses: dict[int | None, float]) -> list[Row]:
    plan = plan_of(storage, keep_every=30.0 if len(losses) > 1 else None, decodings=("greedy", "nucleus"))
    made = Finished(storage, plan)
    made.train(plan.trials[0])
    for spec in plan.measurements:
        kept = spec.kind == "predictions" and spec.who == "trained"
        made.measure(spec, **({"validation_loss": losses[spec.subject.update]} if kept else {}))
    return [row for row in made.record().rows if row.who == "trained"]


def test_early_stopping_is_the_checkpoint_of_the_lowest_validation_loss(storage: Storage) -> None:
    rows = _early_stopped(storage, {30: 3.0, 60: 2.0, 90: 2.5, None: 4.0})
    assert len(rows) == 8
    assert {row.update for row in rows if row.early_stopped} == {60}
    assert {row.early_stopped for row in rows if row.update != 60} == {False}


def test_the_final_weights_may_be_the_best(storage: Storage) -> None:
    rows = _early_stopped(storage, {30: 3.0, 60: 2.0, 90: 2.5, None: 1.0})
    assert {row.update for row in rows if row.early_stopped} == {None}


def test_a_trial_without_kept_weights_has_no_early_stopping(storage: Storage) -> None:
    assert {row.early_stopped for row in _early_stopped(storage, {None: 1.0})} == {None}


def test_one_checkpoint_is_the_early_stopping_whatever_it_is_evaluated_on(storage: Storage) -> None:
    plan = plan_of(storage, keep_every=50.0, eval_datasets=("topics", "docstrings"))
    losses = {("topics", 50): 2.0, ("topics", None): 3.0, ("docstrings", 50): 9.0, ("docstrings", None): 1.0}
    made = Finished(storage, plan)
    made.train(plan.trials[0])
    for spec in plan.measurements:
        kept = spec.kind == "predictions" and spec.who == "trained"
        loss = {"validation_loss": losses[spec.contexts.name, spec.subject.update]} if kept else {}
        made.measure(spec, **loss)
    rows = [row for row in made.record().rows if row.who == "trained" and row.domain != "pooled"]
    # The trial is evaluated on neither as its own text: the first of them decides.
    assert {(row.domain, row.update) for row in rows if row.early_stopped} == {
        ("topics", 50),
        ("docstrings", 50),
    }


def test_a_trial_in_two_arms_has_one_original_matched_to_it(storage: Storage) -> None:
    sweep = replace(SWEEP, arms={"one": {}, "the same": {}})
    given = {"decodings": ("greedy", "matched"), "eval_datasets": ("topics", "docstrings")}
    options = Options(**{**BASE, "storage": str(storage.root), **given})
    record = Finished(storage, make_plan(sweep, options, storage)).all().record()
    assert len(record.trials) == 1
    assert [row.arm for row in record.rows if row.who == "trained" and row.domain == "pooled"] == [
        "one",
        "the same",
    ]
    matched = [row.domain for row in record.rows if row.who == "original" and row.trial_id is not None]
    assert matched == ["topics", "docstrings", "pooled"]

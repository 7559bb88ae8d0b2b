from __future__ import annotations

from pathlib import Path

import pytest
from rayfit.plan.evaluations import Subject
from rayfit.report.rows import NO_PREDICTIONS, Row, mark_early_stopped, rows_on_texts, sweep_rows

from rayfit.columns import columns_of_rows
from rayfit.records.storage import Storage
from tests.unit.plan.examples import plan_of
from tests.unit.report.examples import (
    FLOOR,
    scores,
    write_all,
    write_evaluated,
    write_original,
    write_trained,
)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def _statuses(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row["who"], row["status"]) for row in rows]


def test_a_row_per_checkpoint_and_decoding_truth_and_original_first(storage: Storage) -> None:
    plan = plan_of(storage, samples=(8, 32), decodings=("greedy", "nucleus"))
    write_all(storage, plan)
    rows = sweep_rows(plan, storage, {})
    names = [decoding.name for decoding in plan.decodings]
    ids = [trial.id for trial in plan.trials]
    assert [(row["who"], row["trial_id"], row["decoding"]) for row in rows] == [
        ("truth", None, None),
        *(("original", None, name) for name in names),
        *(("trained", trial_id, name) for trial_id in ids for name in names),
    ]
    assert {status for _, status in _statuses(rows)} == {"FINISHED"}
    for row in rows:
        assert set(columns_of_rows()) <= set(row) and row["domain"] == "pydoc"


def test_each_arm_has_what_applies_to_it_and_null_elsewhere(storage: Storage) -> None:
    plan = plan_of(storage)
    write_all(storage, plan)
    truth, original, trained = sweep_rows(plan, storage, {})
    assert truth["ttr_last_96"] == 0.66
    assert [truth[name] for name in ("train_loss", "validation_loss", "samples", "minutes")] == [None] * 4
    assert "text scores only" in truth["reason"]
    assert (original["validation_loss"], original["minutes"]) == (4.1, 0.1)
    assert original["longest_overlap_mean"] is None and "no training rows of its own" in original["reason"]
    assert original["hyperfitted"] is None and original["train_loss"] is None
    assert (trained["samples"], trained["updates"], trained["epochs"], trained["seed"]) == (8, 100, 100.0, 0)
    assert (trained["minutes"], trained["overhead_seconds"]) == (1.5, 0.25)
    assert trained["original_longest_overlap_mean"] == 3.0
    assert trained["hyperfitted"] is True and trained["reason"] is None
    assert trained["intervals"]["ttr_last_96"] == pytest.approx([0.488, 0.528])
    assert original["intervals"].get("train_loss") is None


def test_nothing_done_yet_is_pending_and_nothing_is_failed(storage: Storage) -> None:
    plan = plan_of(storage, samples=(8, 32))
    rows = sweep_rows(plan, storage, {})
    assert {status for _, status in _statuses(rows)} == {"PENDING"}
    assert all(row["reason"] for row in rows)
    write_trained(storage, plan.trials[0])
    row = sweep_rows(plan, storage, {})[2]
    assert (row["status"], row["reason"], row["ttr_last_96"]) == ("PENDING", "not evaluated yet", None)
    assert row["minutes"] == 1.5 and row["hyperfitted"] is True  # by its own loss, until it is evaluated


def test_a_failed_trial_is_failed_under_every_decoding_and_the_others_are_not(storage: Storage) -> None:
    plan = plan_of(storage, samples=(8, 32), decodings=("greedy", "nucleus"))
    write_all(storage, plan)
    failed = plan.trials[0].id
    rows = sweep_rows(plan, storage, {}, {str(failed): "the loss is nan at update 3"})
    for row in rows:
        if row["trial_id"] == failed:
            assert (row["status"], row["reason"]) == ("FAILED", "the loss is nan at update 3")
            assert row["ttr_last_96"] is None and row["samples"] == 8
        else:
            assert row["status"] == "FINISHED"


def test_a_failed_evaluation_keeps_what_training_told(storage: Storage) -> None:
    plan = plan_of(storage)
    write_original(storage, plan)
    write_trained(storage, plan.trials[0])
    rows = sweep_rows(
        plan, storage, {plan.evaluation_id(plan.trials[0], plan.decodings[0]): "evaluation: out of memory"}
    )
    assert (rows[2]["status"], rows[2]["reason"]) == ("FAILED", "evaluation: out of memory")
    assert rows[2]["minutes"] == 1.5 and rows[2]["entropy_nats"] is None


def test_when_the_original_s_evaluation_fails_the_truth_is_missing_too(storage: Storage) -> None:
    plan = plan_of(storage)
    rows = sweep_rows(plan, storage, {plan.evaluation_id(None, plan.decodings[0]): "out of memory"})
    assert _statuses(rows)[:2] == [("truth", "FAILED"), ("original", "FAILED")]
    assert "original model's evaluation" in rows[0]["reason"] and rows[1]["reason"] == "out of memory"


def test_the_truth_is_read_from_any_decoding_that_was_evaluated(storage: Storage) -> None:
    plan = plan_of(storage, decodings=("greedy", "nucleus"))
    write_original(storage, plan, 1)
    rows = sweep_rows(plan, storage, {plan.evaluation_id(None, plan.decodings[0]): "out of memory"})
    assert _statuses(rows)[:3] == [("truth", "FINISHED"), ("original", "FAILED"), ("original", "FINISHED")]


@pytest.mark.parametrize(
    ("own_loss", "evaluated_loss", "hyperfitted"),
    [
        (0.05, FLOOR + 0.1, True),
        (0.05, FLOOR + 0.101, False),  # what the evaluator measured decides
        (5.0, 0.05, True),
        (0.05, None, True),  # not measured: the worker's own loss
        (5.0, None, False),
    ],
)
def test_hyperfitted_is_decided_on_the_evaluator_s_loss(
    storage: Storage, own_loss: float, evaluated_loss: float | None, hyperfitted: bool
) -> None:
    plan = plan_of(storage)
    write_original(storage, plan)
    write_trained(storage, plan.trials[0], own_loss=own_loss)
    write_evaluated(storage, plan, plan.trials[0], train_loss=evaluated_loss)
    row = sweep_rows(plan, storage, {})[2]
    assert row["hyperfitted"] is hyperfitted
    assert (row["status"], bool(row["reason"])) == ("FINISHED", not hyperfitted)
    assert hyperfitted or "0.1 above its floor" in row["reason"]


def test_rows_on_prompts_have_text_scores_alone(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("one\ntwo\n")
    plan = plan_of(storage, prompts=str(tmp_path / "mine.txt"))
    write_all(storage, plan)
    (trial,) = plan.trials
    assert plan.prompts is not None
    record = {"scores": scores(ttr_last_96=0.5, self_bleu_mean=0.1), "seconds": {"total": 1.0}}
    originals, trials = (
        plan.evaluation_of(subject, plan.decodings[0], plan.prompts)
        for subject in (Subject(model=trial.model), Subject(model=trial.model, trial=trial))
    )
    assert _places(sweep_rows(plan, storage, {}))[2:] == [
        ("original", "mine", "PENDING"),
        ("trained", "pydoc", "FINISHED"),
        ("trained", "mine", "PENDING"),
    ]
    storage.write("evaluations", originals.id, record)
    storage.write("evaluations", trials.id, record)
    rows = sweep_rows(plan, storage, {})
    assert {status for _, status in _statuses(rows)} == {"FINISHED"}
    truths = [row for row in rows if row["who"] == "truth"]
    assert [row["domain"] for row in truths] == ["pydoc"]
    original, trained = (row for row in rows if row["domain"] == "mine")
    for row in (original, trained):
        assert (row["ttr_last_96"], row["self_bleu_mean"]) == (0.5, 0.1)
        measured = ("train_loss", "train_accuracy", "validation_loss", "entropy_nats", "predictions_id")
        assert [row[name] for name in measured] == [None] * 5
        assert "prompts have no true text" in row["reason"]
    assert "no training rows of its own" in original["reason"]
    assert trained["reason"] == NO_PREDICTIONS
    given = {"name": "mine", "count": 2}
    assert [row["domain"] for row in rows_on_texts(rows, given)] == ["pydoc"] * 3
    assert rows_on_texts(rows, None) == rows


def test_whether_a_trial_is_hyperfitted_is_the_same_on_prompts(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("one\n")
    plan = plan_of(storage, prompts=str(tmp_path / "mine.txt"))
    (trial,) = plan.trials
    write_trained(storage, trial, own_loss=0.05)
    write_evaluated(storage, plan, trial, train_loss=0.5)
    for spec in plan.evaluations:
        if spec.predictions is not None:
            storage.write("predictions", spec.predictions.id, {"scores": scores(train_loss=0.5)})
        elif spec.subject.trial is not None:
            storage.write("evaluations", spec.id, {"scores": scores(ttr_last_96=0.5)})
    usual, mine = (row for row in sweep_rows(plan, storage, {}) if row["who"] == "trained")
    # the evaluator's loss decides, not the one that the worker measured in its own precision
    assert usual["hyperfitted"] is False and mine["hyperfitted"] is False
    assert mine["train_loss"] is None and mine["reason"].endswith(usual["reason"])


def _places(rows: list[Row]) -> list[tuple[str, str, str]]:
    return [(row["who"], row["domain"], row["status"]) for row in rows]


def _kept(losses: dict[tuple[str, int | None], float]) -> list[Row]:
    return [
        {
            "domain": domain,
            "update": update,
            "decoding": decoding,
            "validation_loss": loss,
            "early_stopped": None,
        }
        for (domain, update), loss in losses.items()
        for decoding in ("greedy", "nucleus")
    ]


def test_early_stopping_is_one_checkpoint_whatever_it_is_evaluated_on() -> None:
    losses = {("own", 8): 2.0, ("own", 16): 3.0, ("own", None): 4.0}
    losses |= {("other", 8): 5.0, ("other", 16): 1.0, ("other", None): 6.0}
    rows = _kept(losses)
    mark_early_stopped(rows, "own")
    assert {(row["domain"], row["update"]) for row in rows if row["early_stopped"]} == {
        ("own", 8),
        ("other", 8),
    }
    # The first text decides where a trial is not evaluated on its own.
    rows = _kept(losses)[6:]
    mark_early_stopped(rows, "own")
    assert {row["update"] for row in rows if row["early_stopped"]} == {16}
    # The final weights may be the best; a trial without any others has no early stopping.
    rows = _kept({("own", 8): 2.0, ("own", None): 1.0})
    mark_early_stopped(rows, "own")
    assert {row["update"] for row in rows if row["early_stopped"]} == {None}
    rows = _kept({("own", None): 1.0})
    mark_early_stopped(rows, "own")
    assert {row["early_stopped"] for row in rows} == {None}

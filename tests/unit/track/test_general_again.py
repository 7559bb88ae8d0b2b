"""How a sweep of several models and domains is followed: again, in part, in kinds that are new, in few calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayfit.measure.stage import Measured, Stage, measure
from rayfit.plan.contexts import HeldOut
from rayfit.plan.measurements import Measurement, Subject
from rayfit.records.storage import Storage
from rayfit.records.values import Entry
from rayfit.track.connection import connect
from rayfit.track.sync import sync_sweep
from tests.unit.track.reading import artifacts, child_of, children_of, history, parent_of, snapshot
from tests.unit.track.sweeps import DOMAINS, MODELS, UPDATES, general, run_of, spec_of, specs_of, value


def test_a_general_sweep_again_changes_nothing(storage: Storage) -> None:
    record = general(storage, keep_every=None, dataset=DOMAINS[:1]).record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    before = snapshot(client)
    assert sync_sweep(storage, record, connect(None, storage), finished=True).unchanged == 7
    for run in children_of(client, parent_of(client, record.id)):
        client.delete_tag(run.info.run_id, "rayfit.written")
    assert sync_sweep(storage, record, client, finished=True).updated == 6
    assert snapshot(client) == before


def test_a_kept_score_made_again_is_the_one_shown_at_its_update(storage: Storage) -> None:
    made = general(storage, model=MODELS[:1], dataset=DOMAINS[:1])
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    trial = made.plan.unique_trials[0]
    of: dict[str, Any] = {"decoding": "greedy", "domain": "code"}
    kept, final = (spec_of(made, "scores", trial, update=update, **of) for update in (40, None))
    made.measure(kept, ttr_last_96=value(kept, "ttr_last_96"), rep_4=-1.0)
    sync_sweep(storage, record, client, finished=True)
    run = child_of(client, parent_of(client, record.id), trial_id=str(trial.id))
    points = sorted(history(client, run)["code/rep_4"], key=lambda point: (point[0], point[2]))
    assert [point[1] for point in points] == [
        value(kept, "rep_4"),
        -1.0,
        value(spec_of(made, "scores", trial, update=80, **of), "rep_4"),
        value(final, "rep_4"),
    ]
    # nothing else was written again
    assert len(history(client, run)["code/ttr_last_96"]) == 3


def test_a_trial_is_complete_with_what_is_wanted_of_it(storage: Storage) -> None:
    made = run_of(storage, samples=(8,), decodings=("greedy", "matched"), keep_every=60.0)
    (trial,) = made.plan.trials
    record = made.begun()
    client = connect(None, storage)
    made.train(trial)
    states = []
    for spec in made.plan.measurements:
        sync_sweep(storage, record, client)
        children = children_of(client, parent_of(client, record.id))
        statuses = {run.data.tags["rayfit.who"]: run.info.status for run in children}
        states.append((statuses.get("original"), statuses["trained"]))
        made.measure(spec)
    originals = sum(spec.trial is None for spec in made.plan.measurements)
    assert states == [
        (None, "RUNNING"),
        *[("RUNNING", "RUNNING")] * (originals - 1),
        *[("FINISHED", "RUNNING")] * (len(states) - originals),
    ]
    sync_sweep(storage, record, client)
    parent = parent_of(client, record.id)
    assert child_of(client, parent, trial_id=str(trial.id)).info.status == "FINISHED"
    # trained anew: the matched original waits for the new temperature too
    made.train(trial, fresh=True, digest="other", finished_at="2026-03-01T11:00:00.000+00:00")
    for kind in ("predictions", "comparisons"):
        for spec in specs_of(made, kind, trial):
            made.measure(spec)
    sync_sweep(storage, record, client)
    new = child_of(client, parent, trial_id=str(trial.id), edition="2")
    assert new.info.status == "RUNNING"
    assert "validation_loss" in new.data.metrics
    assert "original_matched/ttr_last_96" not in new.data.metrics
    assert "ttr_last_96" not in new.data.metrics


def test_what_has_no_row_of_its_own_and_failed_is_told(storage: Storage) -> None:
    made = run_of(storage, samples=(8, 32), further_contexts=20)
    eight, many = made.plan.trials
    alone, beside = spec_of(made, "generations", eight, further=20), spec_of(made, "comparisons", many)
    for trial in (eight, many):
        made.train(trial)
    for spec in made.plan.measurements:
        if spec.id in (alone.id, beside.id):
            made.fail_measuring(spec, "no memory" if spec.id == alone.id else "no disk")
        elif alone.id not in {each.id for each in spec.inputs}:
            made.measure(spec)
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    parent = parent_of(client, record.id)
    for trial, error in ((eight, "generations: no memory"), (many, "comparisons: no disk")):
        run = child_of(client, parent, trial_id=str(trial.id))
        assert (run.info.status, run.data.tags["error"]) == ("FAILED", error)
    assert parent.info.status == "FAILED"


class Quiz(Measurement):
    """A kind of measurement that a sweep adds: nothing in the tracking room knows it."""

    kind = "quizzes"
    version = 1


def _quizzes(plan: Any) -> list[Quiz]:
    return [
        Quiz(
            subject=Subject(model=trial.model, trial=trial),
            contexts=HeldOut(domain=trial.domain),
            settings=plan.evaluation,
        )
        for trial in plan.unique_trials
    ]


def test_a_new_kind_of_measurement_needs_nothing_here(storage: Storage) -> None:
    entry = Entry(value=0.4, low=0.3, high=0.5, count=9)
    stage = Stage(kind="quizzes", run=lambda *_: Measured(scores={"quiz_accuracy": entry}), specs=_quizzes)
    made = run_of(storage, changes={"measures": (stage,)}, samples=(8,))
    (trial,) = made.plan.trials
    made.train(trial)
    for spec in made.plan.measurements:
        if spec.kind == "quizzes":
            measure(stage, spec, made.launch.bench)
        else:
            made.measure(spec)
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    run = child_of(client, parent_of(client, record.id), trial_id=str(trial.id))
    found: Mapping[str, float] = run.data.metrics
    assert (found["quiz_accuracy"], found["interval/quiz_accuracy.low"]) == (0.4, 0.3)
    assert "quizzes/pydoc/record.json" in artifacts(client, run)


class Counting:
    """A client that counts what is asked of it: time is spent there, and differs from machine to machine."""

    def __init__(self, client: Any) -> None:
        self._client, self.calls = client, 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def called(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            return found(*arguments, **options)

        return called


def test_a_large_sweep_is_synced_in_few_calls(storage: Storage) -> None:
    made = run_of(
        storage,
        samples=(8,),
        seeds=tuple(range(8)),
        decodings=("greedy", "nucleus", "greedy:block=W1"),
        eval_datasets=("code", "comments", "docstrings"),
    )
    many = {f"score_{number}": 0.5 for number in range(20)}
    for trial in made.plan.trials:
        made.train(trial)
    for spec in made.plan.measurements:
        made.measure(spec, **(many if spec.kind == "scores" else {}))
    record = made.record()
    client = Counting(connect(None, storage))
    assert sync_sweep(storage, record, client, finished=True).created == 10
    # 10 runs; point by point it would be thousands
    assert client.calls < 10 * 12
    first = client.calls
    assert sync_sweep(storage, record, client, finished=True).unchanged == 10
    assert client.calls - first < 8


def test_many_kept_weights_make_one_curve(storage: Storage) -> None:
    made = run_of(storage, samples=(8,), keep_every=4.0).all()
    (trial,) = made.plan.trials
    record = made.record()
    client = connect(None, storage)
    sync_sweep(storage, record, client, finished=True)
    run = child_of(client, parent_of(client, record.id), trial_id=str(trial.id))
    points = history(client, run)
    assert [step for step, _, _ in points["ttr_last_96"]] == [*range(4, 100, 4), UPDATES]
    steps = [step for step, _, _ in points["curve/train_loss"]]
    assert steps == sorted({*range(0, UPDATES, 17), UPDATES, *range(4, 100, 4)})

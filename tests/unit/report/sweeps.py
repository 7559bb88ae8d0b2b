"""Finished sweeps with all that a report can show: two texts, two seeds, texts that loop, curves, every figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from rayfit.config import Options
from rayfit.plan.contexts import Prompts
from rayfit.plan.measurements import Generation, Measurement, Prediction, TextScores
from rayfit.plan.plan import Plan
from rayfit.plan.planning import make_plan
from rayfit.plan.trials import TrialSpec
from rayfit.records.storage import SWEEPS, Storage
from rayfit.records.sweep import Agreement, Difference, Row, SweepRecord
from rayfit.records.trial import Point
from rayfit.records.values import Entry
from tests.finished import CONTEXTS, Finished
from tests.unit.plan.examples import BASE, SWEEP

DOMAINS = ("docstrings", "topics")
ON_PROMPTS = 0.99
"""TTR of whatever is on prompts."""
LOOP = "<b>round</b> & round "
STORY = "the fox ran home and the owl slept "
FIGURES: tuple[dict[str, Any], ...] = (
    {"kind": "axis", "x": "domain", "y": "ttr_last_96"},
    {"kind": "curve"},
    {"kind": "grid", "y": ["ttr_last_96", "rep_3"]},
    {"kind": "bars", "y": "ttr_last_96"},
    {"kind": "agreement"},
    {"kind": "overlap_histogram"},
    {"kind": "ttr_by_position"},
    {"kind": "calibration"},
)
COMMAND = "python sweeps/data_type.py --seeds 0,1"
_DECLARED = replace(
    SWEEP,
    kind="data_type",
    question="Does it matter <which> text a model is hyperfitted on?",
    source="section 6.2, Table 4",
    varies=("dataset", "seeds"),
    figures=FIGURES,
)
_TAKEN: dict[str, Any] = {
    "scale": "ci",
    "samples": (32,),
    "num_updates": 80,
    "decodings": ("greedy", "greedy:block=W1"),
    "num_workers": 2,
}
_DIFFERENCE = Difference(
    model="pydoc-1m",
    domain=DOMAINS[0],
    decoding="greedy",
    a="hyperfitted",
    b="original model",
    a_trial=None,
    b_trial=None,
    score="ttr_last_96",
    entry=Entry(value=0.45, low=0.4, high=0.5, count=CONTEXTS),
)


@dataclass(frozen=True)
class Kept:
    """A sweep's record and where it lies."""

    record: SweepRecord
    storage: Storage

    def with_figures(self, *kinds: str) -> SweepRecord:
        """The record with figures of these kinds alone."""
        return msgspec.structs.replace(self.record, figures=tuple({"kind": kind} for kind in kinds))


def data_type_plan(storage: Storage, *, varies: Sequence[str] = _DECLARED.varies, **changes: Any) -> Plan:
    """A plan of the sweep of texts, with these options changed."""
    options = {**BASE, **_TAKEN, "storage": str(storage.root), **changes}
    return make_plan(replace(_DECLARED, varies=tuple(varies)), Options(**options), storage)


def full_sweep(storage: Storage) -> SweepRecord:
    """A sweep with everything that a report can show."""
    made = begin(storage, data_type_plan(storage, dataset=DOMAINS, eval_datasets=DOMAINS, seeds=(0, 1)))
    measure_all(made)
    agreement = Agreement(
        model="pydoc-1m",
        labels=("original model", *DOMAINS),
        trials=(None, *made.begun().trials[::2]),
        matrix=((1.0, 0.41, 0.43), (0.41, 1.0, 0.72), (0.43, 0.72, 1.0)),
        num_positions=2040,
    )
    other = Entry(value=-0.01, low=-0.06, high=0.04, count=CONTEXTS)
    differences = (_DIFFERENCE, msgspec.structs.replace(_DIFFERENCE, domain=DOMAINS[1], entry=other))
    return ended(made, agreement=agreement, differences=differences)


def prompt_sweep(storage: Storage) -> SweepRecord:
    """A sweep of one text, with rows on four prompts of one's own."""
    file = storage.root.parent / "mine.txt"
    file.write_text("one\ntwo\nthree\nfour\n")
    made = begin(storage, data_type_plan(storage, dataset=DOMAINS[:1], prompts=str(file)))
    measure_all(made)
    figures = tuple(each for each in FIGURES if each["kind"] not in ("agreement", "grid"))
    return ended(made, figures=figures, differences=())


def begin(storage: Storage, plan: Plan) -> Finished:
    """A launch of a plan whose trials are all trained."""
    made = Finished(storage, plan, script="sweeps/data_type.py")
    for trial in plan.unique_trials:
        made.train(trial, curve=_curve(trial))
    return made


def measure_all(made: Finished) -> None:
    """Everything of a launch measured."""
    for spec in made.plan.measurements:
        made.measure(spec, **_found(spec))


def ended(made: Finished, **changes: Any) -> SweepRecord:
    """The record of a launch that took two and a half minutes, on its command alone."""
    record = made.record(**changes)
    launch = msgspec.structs.replace(
        record.launches[-1],
        command=COMMAND,
        started_at="2026-01-02T03:04:05.000+00:00",
        finished_at="2026-01-02T03:06:35.000+00:00",
        git_commit="c" * 40,
    )
    record = msgspec.structs.replace(record, launches=(launch,))
    made.storage.write(SWEEPS, record.id, record)
    return record


def with_rows(record: SweepRecord, rows: Sequence[Row], **changes: Any) -> SweepRecord:
    """The record with rows that a test made."""
    return msgspec.structs.replace(record, rows=tuple(rows), **changes)


def remove(storage: Storage, kind: str) -> None:
    """All records of a kind, gone."""
    for path in Path(storage.root).glob(f"{kind}/*/record.json"):
        path.unlink()


def _curve(trial: TrialSpec) -> list[Point]:
    seed = trial.selection.sample_seed
    validation = (3.9, 4.8 + seed, 6.4 + seed, 7.5 + seed)
    entropies = (3.7, 2.6, 1.9, 1.5)
    train = ((0, 3.2, 0.35), (20, 0.9, 0.8), (40, 0.2, 0.97), (80, 0.02, 0.99))
    return [
        Point(
            update=update,
            epoch=update / 4,
            train_loss=loss,
            train_accuracy=accuracy,
            batch_loss=loss,
            validation_loss=held_out,
            validation_entropy_nats=entropy,
            gradient_norm=1.0,
            train_rows=8,
            seconds=60.0,
        )
        for (update, loss, accuracy), held_out, entropy in zip(train, validation, entropies, strict=True)
    ]


def _found(spec: Measurement) -> dict[str, Any]:
    """What a measurement finds: trials say more than their original, most of all on their own text."""
    trained = spec.who == "trained"
    if isinstance(spec, Generation):
        words = STORY if trained else LOOP
        return {
            "texts": [f"Once {place} {words * (2 + place)}" for place in range(CONTEXTS)],
            "columns": {"context": [f"He said <{place}> & went" for place in range(CONTEXTS)]},
            "seconds": 6.0,
        }
    if isinstance(spec, Prediction):
        return _predicted(spec.subject.trial)
    if isinstance(spec, TextScores):
        on_prompts = isinstance(spec.contexts, Prompts)
        return {**_scored(spec), **({"ttr_last_96": ON_PROMPTS} if on_prompts else {})}
    return {}


def _predicted(trial: TrialSpec | None) -> dict[str, Any]:
    """Two of 15 bins have positions. The original is right as often as it is sure; a trial a fifth as often."""
    right = 1.0 if trial is None else 0.2
    positions = [0.0] * 6 + [10.0] + [0.0] * 7 + [30.0]
    confidence = [0.0] * 6 + [4.5] + [0.0] * 7 + [29.0]
    columns = {
        "calibration_positions": [positions] * CONTEXTS,
        "calibration_confidence": [confidence] * CONTEXTS,
        "calibration_correct": [[right * number for number in confidence]] * CONTEXTS,
    }
    if trial is None:
        return {"columns": columns, "validation_loss": (3.9, 3.8, 4.0), "entropy_nats": 3.7}
    seed = trial.selection.sample_seed
    loss = (7.5 + seed, 7.2 + seed, 7.8 + seed)
    return {"columns": columns, "validation_loss": loss, "entropy_nats": 1.5, "train_loss": 0.02}


def _scored(spec: TextScores) -> dict[str, Any]:
    if spec.who == "truth":
        return {"ttr_last_96": (0.7, 0.68, 0.72)}
    trial = spec.subject.trial
    if trial is None:
        ttr, rep_3 = (0.2, 0.17, 0.23), (0.7, 0.66, 0.74)
        overlaps: Mapping[str, int] = {"2": 3, "3": 4, "9": 1}
    else:
        mean = 0.6 + 0.02 * trial.selection.sample_seed
        mean += 0.05 if trial.domain.name == spec.contexts.name else 0.0
        ttr, rep_3 = (mean, mean - 0.03, mean + 0.03), (0.08, 0.06, 0.1)
        overlaps = {"4": 5, "12": 3}
    curve = {"first_position": 96, "values": [ttr[0] + 0.001 * place for place in range(40)]}
    ends = {} if trial is None else {"longest_overlap_mean": 9.5, "original_longest_overlap_mean": 3.5}
    columns: dict[str, Sequence[Any]] = {"ttr_last_96": [0.9 / (1 + place) for place in range(CONTEXTS)]}
    if trial is not None:
        columns["longest_overlap"] = range(CONTEXTS)
    return {
        "columns": columns,
        "series": {"ttr_by_position": curve, "longest_overlap_histogram": overlaps},
        "ttr_last_96": ttr,
        "rep_3": rep_3,
        **ends,
    }

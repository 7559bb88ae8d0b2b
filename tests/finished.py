"""Sweeps that "ran": their records made by the product's own builders, with outcomes that a test chooses.

Nothing is trained, generated or scored here; which keys a record has, under which ids it lies and what follows from what
is the product's doing alone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import polars as pl

from rayfit.console import Console
from rayfit.measure.stage import Measured, Stage, measure
from rayfit.plan.contexts import Prompts
from rayfit.plan.measurements import Generation, Measurement, Prediction, TextScores
from rayfit.plan.plan import Plan
from rayfit.plan.trials import TrialSpec, curve_updates
from rayfit.prepare.prepare import Prepared
from rayfit.prepare.token_rows import ROWS, VALIDATION, contexts_file, write_rows
from rayfit.records.frames import OF
from rayfit.records.measurement import MeasurementRecord
from rayfit.records.provenance import now
from rayfit.records.states import KeptWeights, Spent
from rayfit.records.storage import Storage, write_parquet
from rayfit.records.sweep import SweepRecord
from rayfit.records.trial import Point, TrialFailure, TrialRecord
from rayfit.records.trials import new_attempt, publish_trial, write_failure
from rayfit.records.values import Entry
from rayfit.score.calibration import NUM_BINS
from rayfit.score.predictions import MEANS
from rayfit.sweep.launch import Launch
from rayfit.sweep.record import begun_record, ended_record, write_record
from rayfit.sweep.tasks import trial_task
from rayfit.sweep.trial import EngineFacts, Times, trial_record
from rayfit.train.schedule import TrainResult

CONTEXTS = 4
SCRIPT = "sweeps/data_quantity.py"

Values = Mapping[str, float | tuple[float, float, float] | None]

# What a measurement finds unless a test says otherwise, by kind and by whose it is.
FOUND: dict[tuple[str, str], Values] = {
    ("predictions", "original"): {"validation_loss": 4.1, "entropy_nats": 4.0},
    ("predictions", "trained"): {
        "validation_loss": 8.0,
        "entropy_nats": 1.5,
        "train_loss": 0.02,
        "train_accuracy": 0.99,
    },
    ("scores", "truth"): {"ttr_last_96": 0.66},
    ("scores", "original"): {"ttr_last_96": 0.2, "rep_4": 0.7},
    ("scores", "trained"): {
        "ttr_last_96": 0.6,
        "rep_4": 0.05,
        "longest_overlap_mean": 7.0,
        "original_longest_overlap_mean": 3.0,
    },
    ("comparisons", "trained"): {"top_1_agreement": 0.3},
    ("temperatures", "trained"): {"matched_temperature": 0.45},
}


def entries(values: Values) -> dict[str, Entry]:
    """Scores: a number with an interval of 0.02 around it, (value, low, high), or None for one that is missing."""
    found = {}
    for name, value in values.items():
        if value is None:
            found[name] = Entry(value=None, reason="not measured in this test")
        elif isinstance(value, tuple):
            found[name] = Entry(value=value[0], low=value[1], high=value[2], count=CONTEXTS)
        else:
            found[name] = Entry(value=value, low=value - 0.02, high=value + 0.02, count=CONTEXTS)
    return found


class Finished:
    """A launch of a plan in a storage, step by step: `train`, `fail`, `measure`, or `all`, then `record`."""

    def __init__(
        self,
        storage: Storage,
        plan: Plan,
        *,
        started_at: str = "2026-03-01T10:00:00.000+00:00",
        script: str = SCRIPT,
        prepared: Prepared | None = None,
    ) -> None:
        assert not plan.pending
        paths = {model.name: storage.root / "originals" / model.name for model in plan.models}
        self.storage, self.plan = storage, plan
        self.prepared = prepared or Prepared(plan, paths)
        self.launch = Launch(
            prepared=self.prepared,
            storage=storage,
            script=script,
            command=f"python {script} --scale {plan.options.scale}",
            console=Console(io.StringIO()),
            trials=list(plan.unique_trials),
            measurements=list(plan.measurements),
            started_at=started_at,
        )
        self._write_rows()

    def all(self, values: Mapping[str, float] | None = None) -> Finished:
        """Every trial trained and everything measured; `values` replace what is found wherever it is."""
        for trial in self.plan.unique_trials:
            self.train(trial)
        for spec in self.plan.measurements:
            own = FOUND.get((spec.kind, spec.who), {})
            self.measure(spec, **{name: value for name, value in (values or {}).items() if name in own})
        return self

    def train(
        self,
        trial: TrialSpec,
        *,
        train_loss: float = 0.02,
        stopped_at: int | None = None,
        seconds: float = 90.0,
        overhead: float | None = 0.25,
        finished_at: str | None = None,
        digest: str = "",
        fresh: bool = False,
        curve: Sequence[Point] | None = None,
    ) -> TrialRecord:
        """A finished trial whose worker's last loss is `train_loss`; `seconds` in all. Published as a group does."""
        task = trial_task(self.prepared, trial, self.storage, self.launch.script)
        last = stopped_at or task.schedule.num_updates
        measured = sorted(
            {
                *curve_updates(task.schedule.num_updates, task.schedule.batch_size, task.eval_every),
                *task.schedule.keep,
                last,
            }
        )
        points = list(
            curve
            or (_point(trial, update, last, train_loss, seconds) for update in measured if update <= last)
        )
        attempt = new_attempt(self.storage, task.id, "test")
        result = TrainResult(
            weights_sha256=digest or f"{trial.id} weights",
            points=tuple(points),
            spent=Spent(train=seconds - 2, measure=1.0, export=0.5),
            first_update_at=1_000.0 + (overhead or 0.0),
            first_measure_seconds=0.0,
            exported_at=1_000.0 + seconds,
            updates=last,
            stopped_at_update=stopped_at,
            kept={
                update: KeptWeights(
                    weights_sha256=f"{trial.id} at {update}",
                    path=f"{attempt.name}/" + ("checkpoint" if update == last else f"weights-{update}"),
                )
                for update in task.schedule.keep
                if update <= last
            },
        )
        blocks = None if trial.recipe.adapter is None else (1,)
        facts = EngineFacts(1_000_000, 1_000_000, blocks, "cpu", "sdpa", None)
        times = Times(self.launch.started_at, None if overhead is None else 1_000.0)
        record = trial_record("group-test", facts, task, result, attempt.name, times)
        record = msgspec.structs.replace(
            record,
            finished_at=finished_at or self.launch.started_at,
            seconds=msgspec.structs.replace(record.seconds, total=seconds),
        )
        frame = pl.DataFrame([msgspec.structs.asdict(point) for point in points], infer_schema_length=None)
        write_parquet(attempt / "curve.parquet", frame)
        return publish_trial(self.storage, record, attempt=attempt, fresh=fresh, same_bits=not fresh)

    def fail(self, trial: TrialSpec, error: str, *, failed_at: str | None = None) -> None:
        """A trial that failed, as the driver keeps it."""
        before = self.storage.trial(trial.id)
        failure = TrialFailure(
            id=str(trial.id),
            error=error,
            failed_at=failed_at or now(),
            readable=trial.readable,
            declared=trial.declared(),
            edition=1 if before is None else before.edition,
        )
        write_failure(self.storage, failure)
        self.launch.trial_errors[str(trial.id)] = error

    def fail_measuring(self, spec: Measurement, error: str) -> None:
        """A measurement that failed."""
        self.launch.errors[spec.id] = f"{spec.kind}: {error}"

    def measure(
        self,
        spec: Measurement,
        *,
        texts: Sequence[str] | None = None,
        series: Mapping[str, Any] | None = None,
        columns: Mapping[str, Sequence[Any]] | None = None,
        seconds: float = 0.0,
        **values: float | tuple[float, float, float] | None,
    ) -> MeasurementRecord:
        """A finished measurement: what is found as a rule, with `values` changed; a generation's texts as given.

        `columns`: of its file, in place of those that it has: a value per text.
        """
        scores = entries({**FOUND.get((spec.kind, spec.who), {}), **values})
        frames: dict[str, pl.DataFrame] = {}
        about: dict[str, Any] = {}
        if isinstance(spec, Generation):
            frames = {"texts": text_frame(spec, texts)}
            about = {
                "vocabulary_size": 1_000,
                "num_contexts": CONTEXTS,
                "num_new_tokens": spec.how.num_new_tokens,
                "contexts_fingerprint": self.launch.bench.contexts_fingerprint(spec),
            }
            if spec.matching is not None:
                scores = entries({"matched_temperature": 0.45, **values})
        elif isinstance(spec, TextScores):
            frames, about = {"scores": score_frame(spec, scores)}, {OF: spec.generation.id}
        elif isinstance(spec, Prediction):
            frames = {"texts": prediction_frame(scores)}
        frames = {name: _with_columns(frame, columns or {}) for name, frame in frames.items()}
        done = Measured(scores=scores, series=series or {}, frames=frames, about=about, seconds=seconds)
        return measure(Stage(kind=spec.kind, run=lambda *_: done), spec, self.launch.bench)

    def begun(self) -> SweepRecord:
        """The sweep's record as its driver writes it at the start."""
        record = begun_record(self.launch)
        write_record(record, self.storage)
        return record

    def record(self, **changes: Any) -> SweepRecord:
        """The sweep's record when its launch has ended, written; `changes` replace fields of it."""
        record = ended_record(self.begun(), self.launch)
        record = msgspec.structs.replace(record, **changes)
        write_record(record, self.storage)
        return record

    def _write_rows(self) -> None:
        for trial in self.plan.unique_trials:
            declared = trial.declared_rows() or {}
            if self.storage.rows(trial.rows_id) is not None:
                continue
            write_rows(
                self.storage,
                trial.rows_id,
                "training rows",
                declared,
                2,
                {ROWS: _rows(trial.selection.samples)},
            )
        for spec in self.plan.measurements:
            identifier = spec.settings.rows_id(spec.contexts, spec.subject.model)
            if self.storage.rows(identifier) is None:
                frames = {contexts_file(spec.contexts): _rows(CONTEXTS)}
                if not isinstance(spec.contexts, Prompts):
                    frames[VALIDATION] = _rows(CONTEXTS)
                declared = spec.settings.declared_contexts(spec.contexts)
                write_rows(self.storage, identifier, "held-out rows", declared, 2, frames)


def finished(storage: Storage, plan: Plan, values: Mapping[str, float] | None = None) -> SweepRecord:
    """The record of a sweep in which everything ended well."""
    return Finished(storage, plan).all(values).record()


def _with_columns(frame: pl.DataFrame, columns: Mapping[str, Sequence[Any]]) -> pl.DataFrame:
    return frame.with_columns(
        pl.Series(name, values, dtype=frame.schema[name]) for name, values in columns.items()
    )


def _rows(count: int) -> pl.DataFrame:
    rows = [(f"doc{place}", 0, 9, f"text {place}", [2, *range(3, 12)]) for place in range(min(count, 8))]
    schema = {"document": pl.String, "start": pl.Int64, "end": pl.Int64, "text": pl.String}
    return pl.DataFrame(rows, schema={**schema, "token_ids": pl.List(pl.Int32)}, orient="row")


def _point(trial: TrialSpec, update: int, last: int, train_loss: float, seconds: float) -> Point:
    done = update / last
    return Point(
        update=update,
        epoch=update * trial.recipe.batch_size / trial.selection.samples,
        train_loss=train_loss if update == last else 4.0 * math.exp(-5 * done) + train_loss,
        train_accuracy=min(0.99, 0.2 + done),
        batch_loss=None if update == 0 else 4.0 * math.exp(-5 * done),
        validation_loss=4.1 + 4.0 * done**0.6,
        validation_entropy_nats=4.0 - 2.4 * done**0.5,
        gradient_norm=None if update == 0 else 1.0,
        train_rows=trial.selection.samples if update == last else min(trial.selection.samples, CONTEXTS),
        seconds=seconds * done,
    )


def text_frame(spec: Generation, texts: Sequence[str] | None = None) -> pl.DataFrame:
    """The file of a generation: `CONTEXTS` contexts, their texts as given (the last of them repeated) or of its own."""
    told = list(texts or [f"{spec.who} text"])
    words = [told[min(place, len(told) - 1)] for place in range(CONTEXTS)]
    has_truth = not isinstance(spec.contexts, Prompts)
    ids = [[sum(map(ord, word)) % 900 + 3 for word in text.split()] for text in words]
    return pl.DataFrame(
        {
            "context_id": [f"doc{place}:0" for place in range(CONTEXTS)],
            "domain": [spec.contexts.name] * CONTEXTS,
            "context": [f"context {place}" for place in range(CONTEXTS)],
            "truth": pl.Series(
                ["a true text"] * CONTEXTS if has_truth else [None] * CONTEXTS, dtype=pl.String
            ),
            "text": words,
            "context_ids": pl.Series([[2, 3]] * CONTEXTS, dtype=pl.List(pl.Int32)),
            "truth_ids": pl.Series(
                [[4, 5, 6]] * CONTEXTS if has_truth else [None] * CONTEXTS, dtype=pl.List(pl.Int32)
            ),
            "token_ids": pl.Series(ids, dtype=pl.List(pl.Int32)),
            "steps_banned": pl.Series([None] * CONTEXTS, dtype=pl.Int32),
            "steps_changed": pl.Series([None] * CONTEXTS, dtype=pl.Int32),
        }
    )


def score_frame(spec: TextScores, scores: Mapping[str, Entry]) -> pl.DataFrame:
    """The file of text scores: each text has the mean of all."""

    def column(name: str, default: float | None) -> list[float | None]:
        value = scores[name].value if name in scores else default
        return [value] * CONTEXTS

    trained = spec.who == "trained"
    longest = scores["longest_overlap_mean"].value if "longest_overlap_mean" in scores else None
    floats = {name: column(name, 0.5) for name in ("ttr_first_96", "ttr_last_96", "rep_2", "rep_3", "rep_4")}
    floats |= {name: column(f"{name}_mean", 0.1) for name in ("self_bleu", "self_bleu_in_domain")}
    floats["dataset_bleu"] = column("dataset_bleu_mean", 0.2 if trained else None)
    return pl.DataFrame(
        {
            "context_id": [f"doc{place}:0" for place in range(CONTEXTS)],
            **{name: pl.Series(values, dtype=pl.Float64) for name, values in floats.items()},
            "loop_period": pl.Series([None] * CONTEXTS, dtype=pl.Int64),
            "longest_overlap": pl.Series(
                [None if longest is None else int(longest)] * CONTEXTS, dtype=pl.Int64
            ),
            "ends_in_loop": pl.Series([False] * CONTEXTS),
            "exceeded_run": pl.Series(
                [None if longest is None else longest > 5] * CONTEXTS, dtype=pl.Boolean
            ),
            "score_notes": pl.Series([None] * CONTEXTS, dtype=pl.String),
        }
    )


def prediction_frame(scores: Mapping[str, Entry], choices: Sequence[int] = (3, 4, 5)) -> pl.DataFrame:
    """The file of predictions: each text has the mean of all, and the same first choices."""
    entropy = scores["entropy_nats"].value if "entropy_nats" in scores else None
    floats = dict.fromkeys(MEANS, 0.5) | {"nll_nats": 2.0, "nll_context_nats": 2.0}
    if entropy is not None:
        floats |= {"entropy_nats": entropy, "entropy_bits": entropy / math.log(2)}
    bins = [float(len(choices))] + [0.0] * (NUM_BINS - 1)
    return pl.DataFrame(
        {
            **{name: [value] * CONTEXTS for name, value in floats.items()},
            "num_positions": pl.Series([len(choices)] * CONTEXTS, dtype=pl.Int64),
            "top_1": pl.Series([list(choices)] * CONTEXTS, dtype=pl.List(pl.Int32)),
            **{
                f"calibration_{name}": [[share * count for count in bins]] * CONTEXTS
                for name, share in (("positions", 1.0), ("confidence", 0.5), ("correct", 0.5))
            },
        }
    )

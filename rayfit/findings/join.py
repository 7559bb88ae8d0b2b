"""A sweep's rows, filled from the records of its trials and measurements: each record is read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from rayfit.plan.rows import NOT_YET
from rayfit.records.measurement import MeasurementRecord
from rayfit.records.storage import Storage
from rayfit.records.sweep import PlannedMeasurement, Row, SweepRecord
from rayfit.records.trial import TrialRecord, is_hyperfitted
from rayfit.records.values import Entry

NO_PREDICTIONS = "prompts have no true text, over which losses, perplexity and entropy are taken"
NO_OVERLAP = "has no training rows of its own; each trial's row has its overlap with that trial's rows"
TEXT_SCORES_ONLY = "true continuations have text scores only"
NOT_HYPERFITTED = "not hyperfitted: the final training loss is more than 0.1 above its floor"

_Subject = tuple[str, str, str | None, int | None]


def join(record: SweepRecord, storage: Storage) -> tuple[Row, ...]:
    """The rows of a sweep as its record declares them, with the numbers that are there by now."""
    return Join(record, storage).rows(record)


class Join:
    """The rows of one sweep, filled from the records of its trials and measurements; nothing read is kept.

    A row is FINISHED when its trial is trained and all its measurements are recorded, and FAILED when one of them failed:
    the worse of them counts, and the scores of the others are there all the same. What is missing is null, and `reason`
    says why. Measurements of weights or inputs that were made anew since count as not there.
    """

    def __init__(self, record: SweepRecord, storage: Storage) -> None:
        self._storage = storage
        # By subject and domain, then by decoding: None for what no decoding changes.
        self._planned: dict[tuple[_Subject, str, str | None], dict[str | None, list[PlannedMeasurement]]] = {}
        for each in record.measurements:
            if not each.further:
                key = (each.who, each.model, each.trial_id, each.update), each.domain, each.matched_to
                self._planned.setdefault(key, {}).setdefault(each.decoding, []).append(each)

    def rows(self, record: SweepRecord, chosen: Callable[[Row], bool] | None = None) -> tuple[Row, ...]:
        """The rows of the record (all, or those chosen), with the numbers that are there by now.

        `record`: the sweep's as it is now, with what failed. All rows of a trial must be chosen together, for one of its
        checkpoints is its early stopping. Raises RayfitError for a record that cannot be read.
        """
        rows = [row for row in record.rows if chosen is None or chosen(row)]
        reading = _Reading(record, self._storage)
        own = [self._of(row) for row in rows]
        for planned in own:
            for each in planned:
                reading.read(each)
        return tuple(_early_stopped(reading.fill(row, each) for row, each in zip(rows, own, strict=True)))

    def _of(self, row: Row) -> list[PlannedMeasurement]:
        """The measurements of a row: of its subject on its domain, under its decoding or whatever decoding."""
        is_matched = row.who == "original" and row.trial_id is not None
        subject = (row.who, row.model, None if is_matched else row.trial_id, row.update)
        matched_to = row.trial_id if is_matched else None
        plain = self._planned.get((subject, row.domain, None), {})
        matched = self._planned.get((subject, row.domain, matched_to), {})
        own = matched.get(row.decoding, []) if row.decoding is not None else []
        return [*plain.get(None, []), *own]


class _Reading:
    """What the records say, each read once."""

    def __init__(self, record: SweepRecord, storage: Storage) -> None:
        self._record, self._storage = record, storage
        self._trials: dict[str, TrialRecord | None] = {}
        self._found: dict[str, MeasurementRecord | None] = {}
        self._train_losses: dict[_Subject, float] = {}

    def read(self, each: PlannedMeasurement) -> None:
        """Read a measurement's record, unless it was read before."""
        if each.id in self._found:
            return
        found = self._found[each.id] = self._storage.measurement(each.kind, each.id)
        # A training's loss is of its training rows: the same on whatever domain it was measured.
        loss = None if found is None else found.scores.get("train_loss")
        if loss is not None and loss.value is not None:
            self._train_losses.setdefault((each.who, each.model, each.trial_id, each.update), loss.value)

    def _trained(self, trial_id: str) -> TrialRecord | None:
        if trial_id not in self._trials:
            self._trials[trial_id] = self._storage.trial(trial_id)
        return self._trials[trial_id]

    def fill(self, row: Row, own: list[PlannedMeasurement]) -> Row:
        """The row with the numbers of its measurements."""
        errors = self._record.failed_measurements
        error = next((errors[each.id] for each in own if each.id in errors), "")
        of_trial = self._record.failed.get(row.trial_id or "", "")
        trained = self._trained(row.trial_id) if row.trial_id is not None else None
        read = {each.id: record for each in own if (record := self._found[each.id]) is not None}
        found = [record for record in read.values() if is_current(record, read, trained)]
        changes: dict[str, Any] = {"status": "FINISHED", "reason": self._known_gaps(row)}
        if of_trial or error:
            changes = {"status": "FAILED", "reason": of_trial or error}
        elif len(found) < len(own) or not own:
            changes = {"status": "PENDING", "reason": NOT_YET}
        if not of_trial:
            scores: dict[str, Entry] = {}
            for record in found:
                scores |= record.scores
            changes |= {"scores": scores, "measurements": {record.kind: record.id for record in found}}
        if row.who == "original" and found:
            seconds = [each.seconds for each in found if each.decoding is not None]
            changes["minutes"] = round(sum(seconds) / 60, 3)
        row = msgspec.structs.replace(row, **changes)
        return row if trained is None or row.who != "trained" else self._with_training(row, trained)

    def _known_gaps(self, row: Row) -> str | None:
        if row.who == "truth":
            return TEXT_SCORES_ONLY
        prompts = self._record.prompts
        gaps = [NO_PREDICTIONS] if prompts is not None and row.domain == prompts.name else []
        gaps += [NO_OVERLAP] if row.who == "original" else []
        return "; ".join(gaps) or None

    def _with_training(self, row: Row, trained: TrialRecord) -> Row:
        """The row with what is known of its training."""
        loss = self._train_losses.get((row.who, row.model, row.trial_id, row.update))
        updates = row.update or trained.stopped_at_update or row.updates
        assert updates is not None and row.samples is not None and row.batch_size is not None
        changes: dict[str, Any] = {
            "updates": updates,
            "epochs": updates * row.batch_size / row.samples,
            "trainable_parameters": trained.trainable_parameters,
            "train_loss_floor": trained.floor,
        }
        if row.update is None:
            # The evaluator's loss decides where there is one; the worker's own, in training precision, until then.
            loss = trained.final.train_loss if loss is None else loss
            changes["minutes"] = round(trained.seconds.total / 60, 3)
            changes["overhead_seconds"] = trained.overhead_seconds
        if loss is not None:
            changes["hyperfitted"] = is_hyperfitted(loss, trained.floor)
            if row.is_finished and not changes["hyperfitted"]:
                reached = row.stop_at_train_loss is None or trained.stopped_at_update is not None
                unreached = (
                    "" if reached else f"; the training loss {row.stop_at_train_loss:g} was not reached"
                )
                changes["reason"] = "; ".join(filter(None, [row.reason, NOT_HYPERFITTED])) + unreached
        return msgspec.structs.replace(row, **changes)


def is_current(
    record: MeasurementRecord, read: Mapping[str, MeasurementRecord], trial: TrialRecord | None
) -> bool:
    """True when a measurement is of the trial's weights as they are now, and so is all that it was computed from.

    `read`: the records that are there, by id; inputs that are not among them are not asked. So a matched original, whose
    own weights no training changes, waits for the new temperature too.
    """
    if record.who == "trained":
        now = None if trial is None else (trial.weights_sha256, trial.edition)
        if (record.weights_sha256, record.edition) != now:
            return False
    return all(
        read[each].content == content and is_current(read[each], read, trial)
        for each, content in record.inputs.items()
        if each in read
    )


def _early_stopped(rows: Iterable[Row]) -> list[Row]:
    """The rows, those of each trial's weights with the lowest validation loss marked as its early stopping.

    One checkpoint per trial, whatever it is evaluated on: validation rows are of the text it was trained on, or, where it
    is not evaluated there, of the first text. Nothing is marked of a trial of which only the final weights are there.
    """
    rows = list(rows)
    groups: dict[tuple[str | None, str | None], list[Row]] = {}
    for row in rows:
        if row.who == "trained":
            groups.setdefault((row.arm, row.trial_id), []).append(row)
    best = {
        key: _best_update(own) for key, own in groups.items() if any(row.update is not None for row in own)
    }
    return [_marked(row, best) for row in rows]


def _best_update(own: list[Row]) -> tuple[bool, int | None]:
    """Whether any validation loss is there, and the update of the lowest."""
    measured = [row for row in own if row.value("validation_loss") is not None]
    at_home = [row for row in measured if row.domain == row.train_text]
    at_home = at_home or [row for row in measured if row.domain == measured[0].domain]
    best = min(at_home, key=lambda row: row.value("validation_loss"), default=None)
    return best is not None, None if best is None else best.update


def _marked(row: Row, best: Mapping[tuple[str | None, str | None], tuple[bool, int | None]]) -> Row:
    found = best.get((row.arm, row.trial_id)) if row.who == "trained" else None
    if found is None:
        return row
    return msgspec.structs.replace(row, early_stopped=found[0] and row.update == found[1])

"""A sweep's record taken apart once, by the runs that show it: each of them finds its own without looking at the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from rayfit.columns import TRAINED
from rayfit.findings.join import Join
from rayfit.records.storage import Storage
from rayfit.records.sweep import PlannedMeasurement, Row, SweepRecord
from rayfit.track.scores import Names


@dataclass
class _Own:
    """What one run shows: measurements, and the places of its rows in the sweep's record."""

    planned: list[PlannedMeasurement] = field(default_factory=list)
    places: list[int] = field(default_factory=list)


class SweepIndex:
    """The measurements and rows of a sweep by child: a trial, by its id, or an original model, by its name.

    A matched original belongs to the trial that it is matched to, the true continuations to the original model in whose
    tokens they are. `record` is the sweep's as it is now: what it declares stays, what failed may grow. `rows` are the
    record's, as far as `refresh` has not filled them; `models` the original models that are measured.
    """

    def __init__(self, record: SweepRecord, storage: Storage) -> None:
        self.record, self.names = record, Names(record)
        self._storage = storage
        self._join: Join | None = None
        self._own: dict[str, _Own] = {}
        for each in record.measurements:
            self._of(each.trial_id or each.matched_to or each.model).planned.append(each)
        for place, row in enumerate(record.rows):
            self._of(row.trial_id or row.model).places.append(place)
        self._arms: dict[str, list[str]] = {}
        for arm, trials in record.arms.items():
            for trial_id in trials:
                self._arms.setdefault(trial_id, []).append(arm)
        self.rows = list(record.rows)
        of_trials = set(record.trials)
        self.models = [child for child in self._own if child not in of_trials]

    def _of(self, child: str) -> _Own:
        return self._own.setdefault(child, _Own())

    def planned(self, child: str) -> list[PlannedMeasurement]:
        """The measurements of a child."""
        return self._of(child).planned

    def rows_of(self, child: str) -> list[Row]:
        """The rows of a child as they are known by now."""
        return [self.rows[place] for place in self._of(child).places]

    def declared_row(self, trial_id: str) -> Row | None:
        """A row of a trial's final weights, which says what is declared of it; None where only others are measured."""
        rows = self.rows_of(trial_id)
        return next((row for row in rows if row.who == TRAINED and row.update is None), None)

    def arms(self, trial_id: str) -> str | None:
        """The names of the arms that a trial stands in; None where the sweep has no arms of its own."""
        return "; ".join(self._arms.get(trial_id, [])) or None

    def error(self, child: str) -> str | None:
        """Why a child, or one of its measurements, failed; None where nothing did."""
        failed = self.record.failed_measurements
        found = (failed[each.id] for each in self.planned(child) if each.id in failed)
        return self.record.failed.get(child) or next(found, None)

    def refresh(self, children: Iterable[str]) -> None:
        """Fill the rows of these children from the records that are there by now, where the record's are only declared."""
        if self._join is None:
            self._join = Join(self.record, self._storage)
        for child in children:
            places = self._of(child).places
            declared = tuple(self.record.rows[place] for place in places)
            # Given the rows of one child alone, it neither looks at the others nor reads of them.
            joined = self._join.rows(msgspec.structs.replace(self.record, rows=declared))
            for place, row in zip(places, joined, strict=True):
                self.rows[place] = row

"""A sweep's measurements as its runs show them: the names of their scores, their points, their files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rayfit.columns import COLUMNS, ORIGINAL, POOLED, TRUTH
from rayfit.decoding import Decoding
from rayfit.findings.join import is_current
from rayfit.identity import slug
from rayfit.records.codec import dumps
from rayfit.records.measurement import MeasurementRecord
from rayfit.records.storage import RECORD, Storage
from rayfit.records.sweep import PlannedMeasurement, Row, SweepRecord
from rayfit.records.trial import TrialRecord
from rayfit.records.values import Entry
from rayfit.track.content import Point, latest, milliseconds, points, valid_key

PLAIN = Decoding().name
# The original model, sampled at the temperature that gives it a trial's entropy.
MATCHED = "original_matched"
# What stands before the first slash is a group of its own in MLflow's charts.
INTERVAL = "interval"


class Names:
    """What the scores of one sweep are called: decoding and domain before the slash, where they tell scores apart."""

    def __init__(self, record: SweepRecord) -> None:
        self._short = short_names(each.decoding for each in record.measurements if each.decoding is not None)
        self._prompts = None if record.prompts is None else record.prompts.name
        self._has_several = len({each.domain for each in record.measurements} - {self._prompts}) > 1

    def prefix(self, decoding: str | None, domain: str, *, matched: bool = False) -> tuple[str, ...]:
        """What stands before a score's name, `matched`: of the original at a trial's entropy.

        Of scores that no decoding changes (None) the domain, where the sweep measures in several, and always of prompts;
        of scores of texts the decoding's short name before it, which plain greedy decoding has not.
        """
        short = () if self.is_plain(decoding) and not matched else (self._of_decoding(decoding, matched),)
        return short + ((domain,) if self._has_several or self.is_of_prompts(domain) else ())

    def is_plain(self, decoding: str | None) -> bool:
        """True for plain greedy decoding, of whatever length the sweep has, and for no decoding."""
        return decoding is None or self._short.get(decoding, decoding) == PLAIN

    def is_of_prompts(self, domain: str) -> bool:
        """True for the prompts of one's own, which stand in the place of a domain."""
        return domain == self._prompts

    def label(self, each: PlannedMeasurement) -> str:
        """The name of the folder of a measurement's files, within that of its kind."""
        prefix = self.prefix(each.decoding, each.domain, matched=each.matched_to is not None)
        words = [
            *(["truth"] if each.who == TRUTH else []),
            *([PLAIN] if each.decoding is not None and self.is_plain(each.decoding) else []),
            *prefix,
        ]
        further = [f"further-{each.further}"] if each.further else []
        return slug("-".join([*(words or [each.domain]), *further]))

    def _of_decoding(self, decoding: str | None, matched: bool) -> str:
        short = self._short.get(str(decoding), str(decoding))
        if not matched:
            return short
        # Settings of a matched decoding stand behind it where two of them must be told apart.
        settings = Decoding.parse(short).settings
        return f"{MATCHED}:{settings}" if settings else MATCHED


def short_names(decodings: Iterable[str]) -> dict[str, str]:
    """The decodings without the number of tokens, where that is the same for all; `greedy` is plain.

    >>> short_names(["nucleus:top_p=0.8,num_new_tokens=224"])
    {'nucleus:top_p=0.8,num_new_tokens=224': 'nucleus:top_p=0.8'}
    """
    parsed = {name: Decoding.parse(name) for name in decodings}
    if len({decoding.num_new_tokens for decoding in parsed.values()}) > 1:
        return {name: name for name in parsed}
    return {name: decoding.without_length().name for name, decoding in parsed.items()}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A measurement of a run. `record` is None while it is not finished, or of the training before.

    `prefix`: what stands before the slash of its scores' names, None where they are not the run's own: those of further
    contexts would have the names that those of the usual contexts have, and the true continuations' are no model's.
    """

    planned: PlannedMeasurement
    record: MeasurementRecord | None
    folder: Path
    label: str
    prefix: tuple[str, ...] | None

    def points(self, last_update: int) -> list[Point]:
        """Its scores, at its own update or the last: `name`, and the interval as `interval/name.low` and `.high`.

        Of weights kept along training, which make curves, without the intervals: most of all numbers would be those.
        """
        if self.record is None or self.prefix is None:
            return []
        values: dict[str, float | None] = {}
        for name, entry in self.record.scores.items():
            prefix = () if _is_of_weights(name) else self.prefix
            values |= score_values(valid_key(*prefix, name), entry, interval=self.planned.update is None)
        step = last_update if self.planned.update is None else self.planned.update
        return points(values, milliseconds(self.record.finished_at) or 0, step)

    def files(self) -> dict[str, Path]:
        """Its record and its files as artifacts, in `KIND/LABEL/`; none of kept weights, for there are many of them."""
        if self.record is None or self.planned.update is not None:
            return {}
        place = f"{self.planned.kind}/{self.label}"
        # A file has a new name each time it is made; among the artifacts it is to take the old one's place.
        own = {
            f"{place}/{name}{Path(file).suffix}": self.folder / file
            for name, file in self.record.files.items()
        }
        return {f"{place}/{RECORD}": self.folder / RECORD, **own}


def _is_of_weights(score: str) -> bool:
    """True for a score of the training rows: the same on whatever domain a checkpoint is measured."""
    return score in COLUMNS and COLUMNS[score].is_of_weights


def score_values(key: str, entry: Entry, *, interval: bool) -> dict[str, float | None]:
    """A score under its key, and the ends of its interval; None for what it has not, and nothing without a value."""
    if entry.value is None:
        return {}
    ends = {f"{INTERVAL}/{key}.low": entry.low, f"{INTERVAL}/{key}.high": entry.high}
    return {key: entry.value, **(ends if interval else {})}


def read_measured(
    storage: Storage, names: Names, planned: Sequence[PlannedMeasurement], trial: TrialRecord | None = None
) -> list[Measured]:
    """The measurements of one run with what the storage holds of them, each record read once.

    `trial`: the record of the trial that they are of; what is of its training before counts as not there. Raises
    RayfitError for a record that cannot be read.
    """
    found = {each.id: storage.measurement(each.kind, each.id) for each in planned}
    records = {key: record for key, record in found.items() if record is not None}
    return [
        Measured(
            planned=each,
            record=records[each.id]
            if each.id in records and is_current(records[each.id], records, trial)
            else None,
            folder=storage.folder(each.kind, each.id),
            label=names.label(each),
            prefix=(
                None
                if each.further or each.who == TRUTH
                else names.prefix(each.decoding, each.domain, matched=each.matched_to is not None)
            ),
        )
        for each in planned
    ]


def is_complete(own: Sequence[Measured]) -> bool:
    """True when everything that the sweep measures of a run is there."""
    return bool(own) and all(each.record is not None for each in own)


def all_points(own: Sequence[Measured], last_update: int) -> dict[tuple[str, int], Point]:
    """The scores of all of them, by name and update; of final weights where some were kept at the same update."""
    found: dict[tuple[str, int], Point] = {}
    for each in sorted(own, key=lambda each: each.planned.update is not None):
        for point in each.points(last_update):
            found.setdefault((point.key, point.step), point)
    return found


def pooled_points(
    names: Names, rows: Iterable[Row], time: int, last_update: int
) -> dict[tuple[str, int], Point]:
    """The scores of all domains together, under `pooled`, by name and update: only rows hold them."""
    found: dict[tuple[str, int], Point] = {}
    for row in rows:
        if row.domain != POOLED:
            continue
        is_matched = row.who == ORIGINAL and row.trial_id is not None
        values: dict[str, float | None] = {}
        for name, entry in row.scores.items():
            is_fixed = name in COLUMNS and COLUMNS[name].of != "texts"
            if is_fixed and is_matched:
                continue  # the original's own, whatever it is matched to
            prefix = names.prefix(None if is_fixed else row.decoding, POOLED, matched=is_matched)
            values |= score_values(valid_key(*prefix, name), entry, interval=row.update is None)
        for point in points(values, time, last_update if row.update is None else row.update):
            found.setdefault((point.key, point.step), point)
    return found


def last_finished(own: Sequence[Measured]) -> int | None:
    """When the last of them was done, in milliseconds since 1970."""
    return latest(milliseconds(each.record.finished_at) for each in own if each.record)


def measured_files(own: Sequence[Measured]) -> dict[str, Path | str]:
    """The artifacts of all of them, and `measurements.json`: which they are, with their ids."""
    entries = [msgspec.to_builtins(each.planned) for each in own if each.record]
    listed = {"measurements.json": dumps(entries)} if entries else {}
    return {**listed, **{path: file for each in own for path, file in each.files().items()}}


def measured_with(own: Sequence[Measured]) -> dict[str, Any]:
    """How a run was measured, where all of it was measured alike."""
    about = [each.record.about for each in own if each.record]
    values = {
        name: {each[name] for each in about if name in each} for name in ("eval_precision", "num_new_tokens")
    }
    return {name: next(iter(found)) for name, found in values.items() if len(found) == 1}

"""The measurements of a sweep as its runs show them: whose they are, their scores' names, their files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from rayfit.columns import COLUMNS, ORIGINAL
from rayfit.records.storage import RECORD, Storage
from rayfit.track.content import Point, latest, milliseconds, points, valid_key
from rayfit.track.names import Names

# what stands before the slash is a group of its own in MLflow's charts
INTERVAL = "interval"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One entry of a sweep's evaluations or comparisons. `record` is None while it is not finished.

    `trial_id`: whose run it belongs to, None for the original of `model`; a matched original belongs to the trial that
    it is matched to. `update`: of weights kept along training. `prefix`: before the slash of its scores' names, None
    where they are not the run's own; `fixed_prefix`: of those among them that no decoding changes (`fixed`). `label`
    names its files; kept weights have none, for there are many of them.
    """

    entry: Mapping[str, Any]
    model: str | None
    trial_id: str | None
    update: int | None
    is_matched: bool
    folder: Path
    label: str
    prefix: tuple[str, ...] | None
    fixed_prefix: tuple[str, ...] | None
    fixed: frozenset[str]
    record: dict[str, Any] | None

    def score_points(self, last_update: int) -> list[Point]:
        """Its scores, at its own update or the last: `name`, and the interval as `interval/name.low` and `.high`.

        Of weights kept along training, which make curves, without the intervals: most of all numbers would be those.
        """
        if self.record is None:
            return []
        values: dict[str, Any] = {}
        for name, score in self.record.get("scores", {}).items():
            prefix, number = self.prefix_of(name), score.get("value")
            if prefix is None or number is None:
                continue
            key = valid_key(*prefix, name)
            ends = (score.get("low"), score.get("high"))
            values |= {key: number} if self.update is not None else interval_values(key, number, ends)
        step = last_update if self.update is None else self.update
        return points(values, milliseconds(self.record.get("finished_at")) or 0, step)

    def prefix_of(self, score: str) -> tuple[str, ...] | None:
        """What stands before the slash of a score's name, None for one that is not the run's own."""
        prefix = self.fixed_prefix if score in self.fixed else self.prefix
        return () if prefix is not None and _is_of_weights(score) else prefix

    def files(self) -> dict[str, Path]:
        """Its record and its generations, as artifacts."""
        if self.record is None or self.update is not None:
            return {}
        folder = "comparisons" if "comparison_id" in self.entry else "evaluations"
        found = {f"{folder}/{self.label}.json": self.folder / RECORD}
        if generations := self.record.get("generations"):
            found[f"generations/{self.label}.parquet"] = self.folder / generations
        return {path: file for path, file in found.items() if file.is_file()}

    def of_training(self, trial: Mapping[str, Any]) -> Measurement:
        """The same; as not finished where it is of the training before the one that a trial's record is of."""
        record = self.record or {}
        if self.is_matched:
            now, then = trial.get("edition", 1), record.get("matched_to_edition")
        else:
            now, then = trial.get("weights_sha256"), record.get("checkpoint_weights_sha256")
        return self if now is None or then is None or now == then else replace(self, record=None)


def _is_of_weights(score: str) -> bool:
    """Whether a score is of the training rows: the same on whatever domain a checkpoint is measured."""
    return score in COLUMNS and COLUMNS[score].is_of_weights


def interval_values(key: str, value: Any, interval: Sequence[Any]) -> dict[str, Any]:
    """A score under its key, and the ends of its interval, None where it has none."""
    low, high = interval
    return {key: value, f"{INTERVAL}/{key}.low": low, f"{INTERVAL}/{key}.high": high}


def read_measurements(storage: Storage, sweep: Mapping[str, Any]) -> list[Measurement]:
    """Every evaluation and comparison that a sweep's record names, with what storage holds of it."""
    names = Names(sweep)

    @cache
    def of_predictions(identifier: str | None) -> frozenset[str]:
        """The scores that an evaluation has from its predictions, which no decoding changes."""
        found = storage.read("predictions", identifier) if identifier else None
        return frozenset((found or {}).get("scores", {}))

    evaluations = [
        _evaluation(storage, names, entry, of_predictions(entry.get("predictions_id")))
        for entry in sweep.get("evaluations", [])
    ]
    return [*evaluations, *(_comparison(storage, names, entry) for entry in sweep.get("comparisons", []))]


def _evaluation(
    storage: Storage, names: Names, entry: Mapping[str, Any], fixed: frozenset[str]
) -> Measurement:
    decoding, domain, further = entry["decoding"], entry["domain"], entry.get("further", 0)
    is_matched = entry.get("matched_to") is not None
    return Measurement(
        entry=entry,
        model=entry.get("model"),
        trial_id=entry.get("matched_to") or (entry.get("trial_id") if entry["who"] != ORIGINAL else None),
        update=entry.get("update"),
        is_matched=is_matched,
        folder=storage.folder("evaluations", entry["evaluation_id"]),
        label=names.label(decoding, domain, matched=is_matched, further=further),
        # of further contexts, the scores have the names that those of the usual contexts have
        prefix=None if further else names.prefix(decoding, domain, matched=is_matched),
        # of a matched original, they are those of the original
        fixed_prefix=None if further or is_matched else names.domain_prefix(domain),
        fixed=fixed,
        record=storage.read("evaluations", entry["evaluation_id"]),
    )


def _comparison(storage: Storage, names: Names, entry: Mapping[str, Any]) -> Measurement:
    record = storage.read("comparisons", entry["comparison_id"])
    prefix = names.domain_prefix(entry["domain"])
    return Measurement(
        entry=entry,
        model=None,
        trial_id=entry["trial_id"],
        update=None,
        is_matched=False,
        folder=storage.folder("comparisons", entry["comparison_id"]),
        label="-".join(("beside-original", *prefix)),
        prefix=prefix,
        fixed_prefix=prefix,
        fixed=frozenset((record or {}).get("scores", {})),
        record=record,
    )


def of_trial(measurements: Sequence[Measurement], trial: Mapping[str, Any]) -> list[Measurement]:
    """Those of a trial, given its record; what is of the training before counts as not done."""
    return [entry.of_training(trial) for entry in measurements if entry.trial_id == trial["id"]]


def of_original(measurements: Sequence[Measurement], model: str | None) -> list[Measurement]:
    """Those of a model before any training; None where a sweep's record names no models."""
    return [entry for entry in measurements if entry.trial_id is None and entry.model == model]


def is_complete(own: Sequence[Measurement]) -> bool:
    """Whether everything that the sweep measures of this run is there."""
    return bool(own) and all(entry.record is not None for entry in own)


def all_points(own: Sequence[Measurement], last_update: int) -> dict[tuple[str, int], Point]:
    """The scores of all of them, by name and update; of final weights where some were kept at the same update."""
    found: dict[tuple[str, int], Point] = {}
    for entry in sorted(own, key=lambda entry: entry.update is not None):
        for point in entry.score_points(last_update):
            found.setdefault((point.key, point.step), point)
    return found


def last_finished(own: Sequence[Measurement]) -> int | None:
    """When the last of them was done, in milliseconds."""
    return latest(milliseconds(entry.record.get("finished_at")) for entry in own if entry.record)


def named_files(own: Sequence[Measurement]) -> dict[str, Path | str]:
    """The artifacts of all of them, and `measurements.json`: which they are, with their ids."""
    entries = [dict(entry.entry) for entry in own if entry.record]
    listed = {"measurements.json": json.dumps(entries, indent=1, sort_keys=True)} if entries else {}
    return {**listed, **{path: file for entry in own for path, file in entry.files().items()}}

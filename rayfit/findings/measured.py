"""The measurements that rows stand on, each record read once: series, counts and files that no row has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rayfit.records.measurement import MeasurementRecord
from rayfit.records.storage import Storage
from rayfit.records.sweep import PlannedMeasurement, Row, SweepRecord


@dataclass(frozen=True)
class Measured:
    """A row with its measurement of one kind."""

    row: Row
    record: MeasurementRecord


def measured(rows: Iterable[Row], kind: str, storage: Storage) -> list[Measured]:
    """The rows that have a measurement of this kind, each with its record, in their order.

    Two rows may share one, where two arms hold the same training or where no decoding changes it. Raises RayfitError as
    `read_record`.
    """
    read: dict[str, MeasurementRecord | None] = {}
    found = []
    for row in rows:
        identifier = row.measurements.get(kind)
        if identifier is None:
            continue
        if identifier not in read:
            read[identifier] = storage.measurement(kind, identifier)
        record = read[identifier]
        if record is not None:
            found.append(Measured(row, record))
    return found


def further(record: SweepRecord, rows: Iterable[Row], kind: str, storage: Storage) -> list[Measured]:
    """The finished measurements of this kind on further contexts, which are in no row, with the rows they belong to.

    Of two rows that hold the same training it is the first. Raises RayfitError as `read_record`.
    """
    own: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        own.setdefault(_of_what(row), row)
    found = []
    for each in record.measurements:
        place = own.get(_of_what(each)) if each.further and each.kind == kind else None
        made = None if place is None else storage.measurement(kind, each.id)
        if place is not None and made is not None:
            found.append(Measured(place, made))
    return found


def _of_what(one: Row | PlannedMeasurement) -> tuple[Any, ...]:
    return one.who, one.model, one.trial_id, one.update, one.decoding, one.domain

"""Which row of a sweep an evaluation belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rayfit.records.storage import Storage
from rayfit.report.rows import Row, is_truth, value


@dataclass(frozen=True)
class Evaluated:
    """A finished evaluation of a sweep: its row and its record."""

    row: Row
    record: dict[str, Any]


def evaluated(record: Mapping[str, Any], storage: Storage) -> Iterator[Evaluated]:
    """The sweep's rows that have a finished evaluation, with its record, in the order of the rows.

    Two rows may share an evaluation, where two arms hold the same training. Rows of before they named their evaluations
    are found by the entries of the sweep's record.
    """
    rows = [row for row in record.get("rows", []) if not is_truth(row)]
    named = any(value(row, "evaluation_id") for row in rows)
    entries = record.get("evaluations", [])
    for row in rows:
        identifiers = (
            [value(row, "evaluation_id")]
            if named
            else [
                entry["evaluation_id"]
                for entry in entries
                if not entry.get("further") and _belongs(row, entry)
            ][:1]
        )
        for identifier in filter(None, identifiers):
            evaluation = storage.read("evaluations", identifier)
            if evaluation is not None:
                yield Evaluated(row, evaluation)


def further(record: Mapping[str, Any], storage: Storage) -> Iterator[Evaluated]:
    """The finished evaluations on further contexts, which have no rows of their own, with the rows they belong to."""
    rows = [row for row in record.get("rows", []) if not is_truth(row)]
    for entry in record.get("evaluations", []):
        row = next((row for row in rows if _belongs(row, entry)), None)
        evaluation = storage.read("evaluations", entry["evaluation_id"]) if entry.get("further") else None
        if row is not None and evaluation is not None:
            yield Evaluated(row, evaluation)


def _belongs(row: Row, entry: Mapping[str, Any]) -> bool:
    names = ("who", "trial_id", "decoding", "domain", "update", *(["model"] if "model" in entry else []))
    return all(value(row, name) == entry.get(name) for name in names)

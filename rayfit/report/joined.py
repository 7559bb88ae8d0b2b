"""Which row of a sweep an evaluation belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rayfit.records.storage import Storage
from rayfit.report.rows import Row


@dataclass(frozen=True)
class Evaluated:
    """A finished evaluation of a sweep: its row and its record."""

    row: Row
    record: dict[str, Any]


def evaluated(record: Mapping[str, Any], storage: Storage) -> Iterator[Evaluated]:
    """The sweep's finished evaluations with their rows, in the order of the sweep's record."""
    rows = [row for row in record.get("rows", []) if row["arm"] != "truth"]
    for entry in record.get("evaluations", []):
        evaluation = storage.read("evaluations", entry["evaluation_id"])
        if evaluation is None:
            continue
        found = next((row for row in rows if _belongs(row, entry, evaluation)), None)
        if found is not None:
            yield Evaluated(found, evaluation)


def _belongs(row: Row, entry: Mapping[str, Any], evaluation: Mapping[str, Any]) -> bool:
    same = all(row.get(name) == entry.get(name) for name in ("arm", "trial_id", "decoding", "update"))
    # Originals have no trial that tells them apart: their model does, where there are several.
    own_model = row["arm"] != "original" or row.get("model") in (None, evaluation["model_name"])
    return same and own_model and row["domain"] == entry["domain"]

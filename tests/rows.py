"""Single rows as a finished sweep has them, with what a test is about in place of their own."""

from __future__ import annotations

from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from rayfit.records.storage import Storage
from rayfit.records.sweep import ROW_FIELDS, Row
from rayfit.records.values import Entry
from tests.finished import finished
from tests.unit.plan.examples import plan_of


@cache
def _usual() -> dict[str, Row]:
    """A row of each who, of a finished sweep of one trial."""
    with TemporaryDirectory() as folder:
        storage = Storage(folder)
        return {row.who: row for row in finished(storage, plan_of(storage)).rows}


def row(who: str, **values: Any) -> Row:
    """The row of one trial, its original or the truth, with these values of its fields and with these scores alone.

    A score is a number, or (value, low, high). What the usual row took is left out unless it is given.
    """
    fields = {name: value for name, value in values.items() if name in ROW_FIELDS}
    scores = {name: _entry(value) for name, value in values.items() if name not in fields}
    bare: dict[str, Any] = {"minutes": None, "overhead_seconds": None, "reason": None, "measurements": {}}
    return msgspec.structs.replace(_usual()[who], **{**bare, **fields}, scores=scores)


def _entry(value: Any) -> Entry:
    value, low, high = value if isinstance(value, tuple) else (value, None, None)
    return Entry(value=value, low=low, high=high)

"""What records are made of: typed values that are written as JSON and read back, or refused with the file and the key."""

from __future__ import annotations

from typing import Literal

import msgspec

Who = Literal["truth", "original", "trained"]
"""Whose texts or predictions: the true continuations, the original model's, or those of a trial's weights."""

Status = Literal["FINISHED", "FAILED", "PENDING"]


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a record. A key that is unknown or missing, or of another type, is refused when it is read."""


class Entry(Value, frozen=True, kw_only=True):
    """One score of a record: a mean with its 95% interval, or nulls with a reason.

    `value`, `low` and `high` are in the unit of the score (`rayfit.scores`). `count`: how many texts were
    measured. `reason` says why the value, or the interval alone, is null.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    count: int = 0
    reason: str | None = None


def missing(reason: str) -> Entry:
    """The entry of a score that was not measured, and why."""
    return Entry(value=None, reason=reason)

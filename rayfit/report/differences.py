"""Paired differences of arms as a table: a line per pair, a cell per score, the first score drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rayfit.columns import Column, column

# What a pair has in common.
_ABOUT = ("model", "domain", "decoding")


def difference_table(found: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A line per pair of arms in the order given, with a cell per score; None where there are none.

    `about`: the columns in which pairs differ besides their arms. Each line's `bar`, in percent of a cell, draws the
    first score's interval around 50, on one scale for all lines.
    """
    if not found:
        return None
    scores: list[str] = list(dict.fromkeys(one["score"] for one in found))
    # What is the same in all lines is not repeated in each.
    about = [name for name in _ABOUT if len({_get(one, name) for one in found}) > 1]
    pairs: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for one in found:
        key = (str(one["a"]), str(one["b"]), *(_get(one, name) for name in _ABOUT))
        pairs.setdefault(key, {})[one["score"]] = one
    drawn = [one for one in found if one["score"] == scores[0]]
    ends = [abs(one[name]) for one in drawn for name in ("value", "low", "high") if one.get(name) is not None]
    lines = []
    for key, own in pairs.items():
        first = own.get(scores[0], {})
        shared = dict(zip(_ABOUT, key[2:], strict=True))
        lines.append(
            {
                "a": key[0],
                "b": key[1],
                "about": [column(name).text(shared[name] or None) for name in about],
                "cells": [_cell(own.get(score, {}), score) for score in scores],
                "contexts": next((one["count"] for one in own.values() if one.get("count")), ""),
                "bar": _bar(first, max(ends, default=0.0)),
            }
        )
    columns: list[Column] = [column(score) for score in scores]
    return {"about": [column(name).heading for name in about], "scores": columns, "lines": lines}


def _get(one: Mapping[str, Any], name: str) -> str:
    return str(one.get(name) or "")


def _cell(one: Mapping[str, Any], score: str) -> dict[str, Any]:
    value, low, high = (one.get(name) for name in ("value", "low", "high"))
    text = "" if value is None else _signed(score, value)
    if value is None or low is None or high is None:
        return {"text": text, "interval": "", "is_clear": False}
    interval = f"{_signed(score, low)} to {_signed(score, high)}"
    return {"text": text, "interval": interval, "is_clear": low > 0 or high < 0}


def _bar(one: Mapping[str, Any], reach: float) -> dict[str, float] | None:
    if reach <= 0 or any(one.get(name) is None for name in ("value", "low", "high")):
        return None
    left, point, right = (round(50 + 47 * one[name] / reach, 1) for name in ("low", "value", "high"))
    return {"left": left, "width": round(right - left, 1), "point": point}


def _signed(score: str, value: float) -> str:
    sign = "+" if value > 0 else "\u2212" if value < 0 else ""
    return sign + column(score).text(abs(value))

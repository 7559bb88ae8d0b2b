"""Paired differences of arms as a table with a drawn interval each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rayfit.report.columns import column, number_text
from rayfit.report.labels import decoding_text


def difference_table(found: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Lines in the order given, intervals drawn on one scale per score; None where there are none."""
    if not found:
        return None
    reach: dict[str, float] = {}
    for one in found:
        ends = [abs(one[name]) for name in ("value", "low", "high") if one.get(name) is not None]
        reach[one["score"]] = max([reach.get(one["score"], 0.0), *ends])
    # What is the same in all lines is not repeated in each.
    names = [
        name
        for name in ("score", "model", "domain", "decoding")
        if name == "score" or len({_get(one, name) for one in found}) > 1
    ]
    titles = {"score": "score", "model": "model", "domain": "on", "decoding": "decoding"}
    return {
        "columns": [titles[name] for name in names],
        "lines": [_line(one, names, reach[one["score"]]) for one in found],
    }


def _get(one: Mapping[str, Any], name: str) -> str:
    return str(one.get(name) or "")


def _line(one: Mapping[str, Any], names: Sequence[str], reach: float) -> dict[str, Any]:
    score, value, low, high = one["score"], one.get("value"), one.get("low"), one.get("high")
    words = {
        "score": column(score).title,
        "model": _get(one, "model"),
        "domain": _get(one, "domain"),
        "decoding": decoding_text(one.get("decoding")),
    }
    interval, clear, bar = "", False, None
    if value is not None and low is not None and high is not None:
        interval = f"{_signed(score, low)} to {_signed(score, high)}"
        clear = low > 0 or high < 0
        left, point, right = (round(50 + 47 * number / (reach or 1.0), 1) for number in (low, value, high))
        bar = {"left": left, "width": round(right - left, 1), "point": point}
    return {
        "a": one["a"],
        "b": one["b"],
        "about": [words[name] for name in names],
        "value": "" if value is None else _signed(score, value),
        "interval": interval,
        "is_clear": clear,
        "count": one.get("count") or "",
        "bar": bar,
    }


def _signed(score: str, value: float) -> str:
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{number_text(score, abs(value))}"  # noqa: RUF001

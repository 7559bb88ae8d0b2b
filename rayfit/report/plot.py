"""The plot a sweep ends with."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from rayfit.report.rows import Row

_TITLES = {
    "samples": "training sequences",
    "ttr_last_96": "type-token ratio of the last 96 generated tokens",
}
_SHARES = ("ttr_last_96", "train_accuracy")


def draw_plot(rows: list[Row], x: str, y: str, target: Path, *, title: str) -> None:
    """`y` against `x`, a point per finished trial with its 95% interval, as PNG; lines mark the original and the truth."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullLocator, ScalarFormatter

    figure, axes = pyplot.subplots(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    decodings = sorted({row["decoding"] for row in rows if row["arm"] == "hyperfitted"})
    for decoding in decodings:
        label = "hyperfitted" if len(decodings) == 1 else f"hyperfitted, {decoding}"
        trials = [row for row in rows if row["arm"] == "hyperfitted" and row["decoding"] == decoding]
        _draw_trials(axes, [row for row in trials if row.get(y) is not None], x, y, label)
    _draw_levels(axes, rows, y, several_decodings=len(decodings) > 1)
    ticks = sorted({row[x] for row in rows if row.get(x) is not None})
    if ticks:
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
    if y in _SHARES:
        axes.set_ylim(0, 1)
    axes.set_xlabel(_TITLES.get(x, x))
    axes.set_ylabel(_TITLES.get(y, y))
    axes.set_title("\n".join(textwrap.fill(line, 90) for line in title.splitlines()), fontsize=9)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(target)
    pyplot.close(figure)


def _draw_trials(axes: Any, points: list[Row], x: str, y: str, label: str) -> None:
    points = sorted(points, key=lambda row: (row[x], row["seed"]))
    bounds = [row["intervals"].get(y, [row[y], row[y]]) for row in points]
    below = [max(0.0, row[y] - low) for row, (low, _) in zip(points, bounds, strict=True)]
    above = [max(0.0, high - row[y]) for row, (_, high) in zip(points, bounds, strict=True)]
    one_each = len({row[x] for row in points}) == len(points)
    axes.errorbar(
        [row[x] for row in points],
        [row[y] for row in points],
        yerr=[below, above],
        fmt="o-" if one_each else "o",
        color="#1b5e8c",
        capsize=3,
        label=label,
    )


def _draw_levels(axes: Any, rows: list[Row], y: str, *, several_decodings: bool) -> None:
    for arm, color, label in (
        ("truth", "#2e7d32", "true continuations"),
        ("original", "#b23b3b", "original model"),
    ):
        for row in rows:
            if row["arm"] == arm and row.get(y) is not None:
                name = f"{label}, {row['decoding']}" if row["decoding"] and several_decodings else label
                axes.axhline(row[y], color=color, linestyle="--", linewidth=1.2, label=name)
                if interval := row["intervals"].get(y):
                    axes.axhspan(*interval, color=color, alpha=0.08, linewidth=0)

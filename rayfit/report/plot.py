"""The plot a sweep ends with."""

from __future__ import annotations

from pathlib import Path

from rayfit.report.rows import Row

_TITLES = {
    "samples": "training sequences",
    "ttr_last_96": "type-token ratio of the last 96 generated tokens",
}


def draw_plot(rows: list[Row], x: str, y: str, target: Path, *, title: str) -> None:
    """`y` against `x`, a point per finished trial with its 95% interval, as PNG; lines mark the original and the truth."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullLocator, ScalarFormatter

    figure, axes = pyplot.subplots(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    decodings = sorted({row["decoding"] for row in rows if row["arm"] == "hyperfitted"})
    for decoding in decodings:
        points = [
            row for row in rows if row["arm"] == "hyperfitted" and row["decoding"] == decoding and row[y] is not None
        ]
        points.sort(key=lambda row: (row[x], row["seed"]))
        values = [row[y] for row in points]
        bounds = [row["intervals"].get(y, [row[y], row[y]]) for row in points]
        spread = [[v - low for v, (low, _) in zip(values, bounds, strict=True)]]
        spread.append([high - v for v, (_, high) in zip(values, bounds, strict=True)])
        label = "hyperfitted" if len(decodings) == 1 else f"hyperfitted, {decoding}"
        one_each = len({row[x] for row in points}) == len(points)
        axes.errorbar(
            [row[x] for row in points],
            values,
            yerr=spread,
            fmt="o-" if one_each else "o",
            color="#1b5e8c",
            capsize=3,
            label=label,
        )
    for arm, color, label in (("truth", "#2e7d32", "true continuations"), ("original", "#b23b3b", "original model")):
        for row in rows:
            if row["arm"] == arm and row.get(y) is not None:
                name = label if row["decoding"] is None or len(decodings) == 1 else f"{label}, {row['decoding']}"
                axes.axhline(row[y], color=color, linestyle="--", linewidth=1.2, label=name)
                if interval := row["intervals"].get(y):
                    axes.axhspan(*interval, color=color, alpha=0.08, linewidth=0)
    ticks = sorted({row[x] for row in rows if row[x] is not None})
    if ticks:
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(0, 1)
    axes.set_xlabel(_TITLES.get(x, x))
    axes.set_ylabel(_TITLES.get(y, y))
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(target)
    pyplot.close(figure)

"""The one picture that stands for a sweep, and all its figures as picture files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rayfit.records.sweep import Row
from rayfit.report.figures.axis import axis_figure
from rayfit.report.figures.draw import figure_png
from rayfit.report.figures.model import Figure


def draw_plot(rows: Sequence[Row], x: str, y: str, target: Path, *, title: str) -> None:
    """`y` against `x` with intervals, as PNG; lines mark the original model and the true continuations."""
    figure_png(axis_figure(rows, x, [y]), target, title=title)


def write_pictures(drawn: Sequence[Figure], folder: Path) -> list[Path]:
    """Each figure as `figure-1-axis.png` and so on in a folder, for what shows images; empty ones are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for place, figure in enumerate(drawn, start=1):
        if figure.panels:
            paths.append(folder / f"figure-{place}-{figure.kind.replace('_', '-')}.png")
            figure_png(figure, paths[-1])
    return paths

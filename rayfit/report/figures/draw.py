"""Figures as pictures: one SVG per panel for the report, one PNG of the whole figure for everything else."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rayfit.report.figures.model import Bars, Figure, Heat, Line, Look, Panel
from rayfit.report.figures.palette import heat_colours

# Narrow enough that its 9-point text is still read on a phone, where a panel is as wide as the screen.
_PANEL_INCHES = (4.8, 3.2)
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": "#8a939b",
    "axes.labelcolor": "#333f48",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "xtick.color": "#333f48",
    "ytick.color": "#333f48",
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "grid.color": "#dfe4e8",
    "grid.linewidth": 0.7,
    "svg.fonttype": "path",
    "svg.hashsalt": "rayfit",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


def panel_svg(panel: Panel | Bars) -> bytes:
    """One panel as SVG, its text as outlines so that it looks the same everywhere; the same panel gives the same bytes."""
    with _pyplot() as pyplot:
        figure, axes = pyplot.subplots(figsize=_size(panel), layout="constrained")
        draw_panel(axes, panel)
        target = io.BytesIO()
        figure.savefig(target, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return target.getvalue()


def look_svg(look: Look) -> bytes:
    """A look's line and marker, small, for a legend beside words."""
    with _pyplot() as pyplot:
        figure = pyplot.figure(figsize=(0.5, 0.2))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.plot([0.02, 0.98], [0.5, 0.5], color=look.colour, linestyle=look.dash, linewidth=1.8)
        axes.plot([0.5], [0.5], color=look.colour, marker=look.marker, markersize=6)
        target = io.BytesIO()
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
        pyplot.close(figure)
    return target.getvalue()


def figure_png(drawn: Figure, target: Path, *, title: str = "") -> None:
    """The whole figure as PNG: panels in rows of two, a legend, and `title` above."""
    panels = drawn.panels or (Panel("", "", "", ()),)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    size = (7.2, 4.4) if len(panels) == 1 else (5.2 * columns, 3.6 * rows)
    if len(panels) == 1 and isinstance(panels[0], Bars):
        size = (7.2, max(2.5, _size(panels[0])[1] + 0.8))
    legend_columns, looks = _legend_form(drawn.legend, size[0])
    lines = sum(1 + look.label.count("\n") for look in looks) / legend_columns
    # Up to four lines of legend have their place in the size; more would be taken from the panels.
    size = (size[0], size[1] + 0.18 * max(0.0, lines - 4))
    with _pyplot() as pyplot:
        figure, grid = pyplot.subplots(
            rows, columns, figsize=size, dpi=150, layout="constrained", squeeze=False
        )
        for place, axes in enumerate(grid.flat):
            if place >= len(panels):
                axes.set_axis_off()
            elif isinstance(heat := panels[place], Heat):
                _draw_heat(axes, heat)
            else:
                draw_panel(axes, heat)
        if drawn.legend and len(drawn.legend) > 1:
            handles = [_handle(look) for look in looks]
            figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns)
        if drawn.missing:
            grid.flat[0].text(
                0.5, 0.5, drawn.missing, ha="center", va="center", transform=grid.flat[0].transAxes
            )
        wrapped = "\n".join(textwrap.fill(line, 90) for line in (title or drawn.title).splitlines())
        figure.suptitle(wrapped, fontsize=9)
        figure.savefig(target)
        pyplot.close(figure)


def _legend_form(legend: Sequence[Look], inches: float) -> tuple[int, list[Look]]:
    """Columns of a legend so wide, one where two would not fit, and its looks with labels that are no wider."""
    characters = int(inches / _INCHES_PER_CHARACTER)
    half = characters // 2 - _HANDLE_CHARACTERS
    columns = 2 if all(len(look.label) <= half for look in legend) else 1
    width = characters // columns - _HANDLE_CHARACTERS
    return columns, [replace(look, label=textwrap.fill(look.label, width)) for look in legend]


# An average character at the legend's 8.5 points, and what a handle with its gaps takes, both a little over.
_INCHES_PER_CHARACTER = 0.072
_HANDLE_CHARACTERS = 8


def draw_panel(axes: Any, panel: Panel | Bars) -> None:
    """Draw a panel onto matplotlib axes, without a legend."""
    if isinstance(panel, Bars):
        _draw_bars(axes, panel)
        return
    for level in panel.levels:
        axes.axhline(level.y, color=level.look.colour, linestyle=level.look.dash, linewidth=1.4)
        if level.bounds:
            axes.axhspan(*level.bounds, color=level.look.colour, alpha=0.09, linewidth=0)
    for line in panel.lines:
        _draw_line(axes, line, steps=panel.steps)
    _scale_axes(axes, panel)
    axes.set_xlabel(panel.x_title)
    axes.set_ylabel(panel.y_title)
    axes.set_title(panel.title, fontsize=9)
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _scale_axes(axes: Any, panel: Panel) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    if panel.x_scale == "log":
        axes.set_xscale("log", base=2 if panel.x_ticks else 10)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if panel.x_ticks:
            axes.xaxis.set_minor_locator(NullLocator())
    places = [*(place for place, _ in panel.x_ticks), *(x for line in panel.lines for x in line.x)]
    if places and (panel.x_ticks or panel.x_scale == "log"):
        # Lines may be drawn shifted, which matplotlib's own margins do not see.
        axes.set_xlim(*_with_margin(places, log=panel.x_scale == "log"))
    if panel.x_ticks:
        long = max(len(text) for _, text in panel.x_ticks) * len(panel.x_ticks) > 44
        axes.set_xticks(
            [place for place, _ in panel.x_ticks],
            [textwrap.fill(text, 16) for _, text in panel.x_ticks],
            rotation=30 if long else 0,
            ha="right" if long else "center",
            rotation_mode="anchor" if long else "default",
        )
    if panel.y_range:
        axes.set_ylim(*panel.y_range)
    elif panel.lines:
        # A loss is never below nothing, and how near to nothing it comes is the point.
        lowest = min((min(line.y) for line in panel.lines if line.y), default=0.0)
        if lowest >= 0 and not panel.steps:
            axes.set_ylim(bottom=0)
    if panel.steps:
        axes.set_ylim(bottom=0)


def _with_margin(places: list[float], *, log: bool) -> tuple[float, float]:
    """The least and greatest place, and a tenth of what lies between beyond each."""
    low, high = min(places), max(places)
    if log:
        margin = (high / low) ** 0.1 if high > low else 2.0
        return low / margin, high * margin
    margin = 0.1 * (high - low) or 0.5
    return low - margin, high + margin


def _draw_line(axes: Any, line: Line, *, steps: bool) -> None:
    from matplotlib.transforms import ScaledTranslation

    look = line.look
    if steps:
        axes.step(line.x, line.y, where="post", color=look.colour, linestyle=look.dash, linewidth=1.5)
        return
    place = axes.transData
    if line.shift:
        place = place + ScaledTranslation(line.shift / 72, 0, axes.figure.dpi_scale_trans)
    for x, y in line.singles:
        axes.plot(
            [x],
            [y],
            transform=place,
            marker=look.marker,
            color=look.colour,
            markersize=3,
            alpha=0.45,
            linestyle="none",
        )
    dense = len(line.x) > 15
    bounds = line.bounds or tuple(None for _ in line.x)
    below = [max(0.0, y - bound[0]) if bound else 0.0 for y, bound in zip(line.y, bounds, strict=True)]
    above = [max(0.0, bound[1] - y) if bound else 0.0 for y, bound in zip(line.y, bounds, strict=True)]
    joined = line.joined and len(line.x) > 1
    axes.errorbar(
        line.x,
        line.y,
        yerr=[below, above] if any(below) or any(above) else None,
        color=look.colour,
        marker="none" if dense else look.marker,
        markersize=5.5,
        linestyle=look.dash if joined else "none",
        linewidth=1.6,
        elinewidth=1.1,
        capsize=2.5,
        transform=place,
    )
    for x, y, hollow in zip(line.x, line.y, line.hollow, strict=False):
        if hollow and not dense:
            axes.plot([x], [y], transform=place, **_HOLLOW, marker=look.marker, markeredgecolor=look.colour)


_HOLLOW: dict[str, Any] = {
    "markerfacecolor": "white",
    "markersize": 5.5,
    "markeredgewidth": 1.5,
    "linestyle": "none",
    "zorder": 5,
}


def _draw_bars(axes: Any, panel: Bars) -> None:
    places = range(len(panel.bars))
    low, high = panel.x_range or (
        0.0,
        max((bar.bounds or (0, bar.value))[1] for bar in panel.bars) * 1.18 or 1.0,
    )
    for place, bar in zip(places, panel.bars, strict=True):
        error = None
        if bar.bounds:
            error = [[max(0.0, bar.value - bar.bounds[0])], [max(0.0, bar.bounds[1] - bar.value)]]
        axes.barh(place, bar.value, height=0.42, color=bar.look.colour, xerr=error, error_kw=_ERROR)
        # The label stands above its bar, so that bars are as wide as the picture however long the labels are.
        fitted = max(6.8, min(8.5, 8.5 * 60 / max(1, len(bar.label))))
        axes.text(low, place - 0.32, bar.label, va="bottom", ha="left", fontsize=fitted, color="#333f48")
        end = max(bar.value, bar.bounds[1] if bar.bounds else bar.value)
        axes.text(
            end + (high - low) * 0.012, place, bar.text, va="center", ha="left", fontsize=8.5, color="#333f48"
        )
    axes.set_xlim(low, high)
    axes.set_ylim(len(panel.bars) - 0.5, -0.85)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(panel.x_title)
    axes.set_title(panel.title, fontsize=9)
    axes.grid(axis="x")
    axes.set_axisbelow(True)


_ERROR = {"elinewidth": 1.1, "capsize": 2.5, "ecolor": "#10202e"}


def _draw_heat(axes: Any, heat: Heat) -> None:
    for i, row in enumerate(heat.values):
        for j, value in enumerate(row):
            background, text = ("#f2f4f6", "#333f48") if value is None else heat_colours(heat.shade(value))
            axes.add_patch(_rectangle(j, i, background))
            axes.text(j + 0.5, i + 0.5, heat.texts[i][j], color=text, ha="center", va="center", fontsize=9)
    axes.set_xlim(0, len(heat.column_labels))
    axes.set_ylim(len(heat.row_labels), 0)
    axes.set_xticks(
        [j + 0.5 for j in range(len(heat.column_labels))],
        [textwrap.fill(name, 14) for name in heat.column_labels],
        fontsize=8,
    )
    axes.set_yticks(
        [i + 0.5 for i in range(len(heat.row_labels))], [textwrap.fill(name, 24) for name in heat.row_labels]
    )
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(heat.title, fontsize=9)


def _rectangle(x: float, y: float, colour: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", linewidth=1)


def _handle(look: Look) -> Any:
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], color=look.colour, marker=look.marker, linestyle=look.dash, markersize=5, label=look.label
    )


def _size(panel: Panel | Bars | Heat) -> tuple[float, float]:
    if isinstance(panel, Bars):
        return _PANEL_INCHES[0], 0.75 + 0.42 * len(panel.bars)
    return _PANEL_INCHES


@contextmanager
def _pyplot() -> Iterator[Any]:
    """pyplot with the house style and no window; matplotlib is imported only where something is drawn."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context(_STYLE):
        yield pyplot

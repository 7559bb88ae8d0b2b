"""Figures as a page shows them: pictures with their words, heat maps as tables, legends with swatches."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from rayfit.report.figures.draw import look_svg, panel_svg
from rayfit.report.figures.model import Figure, Heat
from rayfit.report.figures.palette import heat_colours
from rayfit.report.figures.words import alt_text


@dataclass(frozen=True)
class Key:
    """A line of a legend; `swatch`: an SVG in base64."""

    label: str
    swatch: str


@dataclass(frozen=True)
class Picture:
    """A panel as an SVG in base64, and in words."""

    alt: str
    data: str


@dataclass(frozen=True)
class HeatCell:
    """A cell of a heat map: its number and what goes below, empty where there is none, and its colours."""

    text: str
    note: str
    background: str
    colour: str


@dataclass(frozen=True)
class HeatTable:
    """A heat map as a table; a line is its name and its cells."""

    title: str
    column_title: str
    column_labels: tuple[str, ...]
    lines: tuple[tuple[str, tuple[HeatCell, ...]], ...]


@dataclass(frozen=True)
class ShownFigure:
    """A figure with everything drawn, or what is missing."""

    kind: str
    title: str
    caption: str
    missing: str
    legend: tuple[Key, ...]
    pictures: tuple[Picture, ...]
    heats: tuple[HeatTable, ...]


def shown_figure(figure: Figure) -> ShownFigure:
    """A figure for a page: every panel drawn, heat maps as tables."""
    return ShownFigure(
        kind=figure.kind,
        title=figure.title,
        caption=figure.caption,
        missing=figure.missing,
        legend=tuple(Key(look.label, _base64(look_svg(look))) for look in figure.legend),
        pictures=tuple(
            Picture(alt_text(panel), _base64(panel_svg(panel)))
            for panel in figure.panels
            if not isinstance(panel, Heat)
        ),
        heats=tuple(_heat(panel) for panel in figure.panels if isinstance(panel, Heat)),
    )


def _heat(heat: Heat) -> HeatTable:
    lines = []
    for i, name in enumerate(heat.row_labels):
        cells = []
        for j, number in enumerate(heat.values[i]):
            background, colour = ("", "") if number is None else heat_colours(heat.shade(number))
            cells.append(HeatCell(heat.texts[i][j], heat.notes[i][j], background, colour))
        lines.append((name, tuple(cells)))
    return HeatTable(heat.title, heat.column_title, heat.column_labels, tuple(lines))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")

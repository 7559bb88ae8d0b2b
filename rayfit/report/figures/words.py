"""Figures in words, for those who cannot see them."""

from __future__ import annotations

from rayfit.report.figures.model import Bars, Line, Panel

_MOST_POINTS = 9


def alt_text(panel: Panel | Bars) -> str:
    """What a panel shows, with its numbers."""
    if isinstance(panel, Bars):
        return f"Bars of {panel.x_title}: {'; '.join(f'{bar.label} {bar.text}' for bar in panel.bars)}."
    ticks = dict(panel.x_ticks)
    parts = [f"{panel.y_title} against {panel.x_title}"]
    parts += [f"{line.look.label}: {_points(line, ticks)}" for line in panel.lines if line.x]
    parts += [f"level of {level.look.label}: {_number(level.y)}" for level in panel.levels]
    return ". ".join(parts) + "."


def _points(line: Line, ticks: dict[float, str]) -> str:
    places = list(range(len(line.x)))
    if len(line.x) > _MOST_POINTS:
        places = [round(place * (len(line.x) - 1) / (_MOST_POINTS - 1)) for place in range(_MOST_POINTS)]
    return ", ".join(f"{ticks.get(line.x[i], _number(line.x[i]))}: {_number(line.y[i])}" for i in places)


def _number(value: float) -> str:
    return f"{value:.3g}"

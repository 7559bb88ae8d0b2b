"""The figures of a sweep, as its declaration asks for them: numbers first, drawn after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rayfit.columns import TRAINED, columns_of_evaluations
from rayfit.errors import unknown
from rayfit.findings.labels import telling
from rayfit.plan.declaration import FIGURES
from rayfit.records.storage import Storage
from rayfit.records.sweep import Row, SweepRecord
from rayfit.report.figures.along import curve_figure
from rayfit.report.figures.axis import axis_figure
from rayfit.report.figures.bars import bars_figure
from rayfit.report.figures.heat import agreement_figure, grid_figure
from rayfit.report.figures.model import Figure
from rayfit.report.figures.reliability import calibration_figure
from rayfit.report.figures.series import overlap_figure, position_figure

_Y = "ttr_last_96"
# What a kind of figure is about that names no score.
_SHOWS = {"agreement": ["top_1_agreement"]}


def figures(record: SweepRecord, storage: Storage) -> list[Figure]:
    """Every figure that a sweep's record asks for; where it asks for none, what suits its rows.

    They are of the texts: few prompts make no curve, and have no losses.
    Raises RayfitError for a kind of figure that there is not.
    """
    rows = record.on_texts()
    return [_figure(wanted, record, rows, storage) for wanted in record.figures or default_figures(rows)]


def default_figures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """TTR against what varies (bars where nothing does), and the training curves."""
    trials = [row for row in rows if row.who == TRAINED]
    axes = telling(trials, but=columns_of_evaluations())
    first: dict[str, Any] = {"kind": "axis", "x": axes[0], "y": _Y} if axes else {"kind": "bars", "y": _Y}
    return [first, {"kind": "curve"}]


def _figure(wanted: Mapping[str, Any], record: SweepRecord, rows: list[Row], storage: Storage) -> Figure:
    kind = wanted["kind"]
    if kind == "axis":
        return axis_figure(rows, wanted["x"], _listed(wanted["y"]))
    if kind == "bars":
        return bars_figure(rows, _listed(wanted.get("y", _Y)))
    if kind == "grid":
        return grid_figure(rows, _listed(wanted.get("y", _Y)))
    if kind == "curve":
        return curve_figure(record.trials, rows, storage)
    if kind == "agreement":
        return agreement_figure(record.agreement)
    if kind == "overlap_histogram":
        return overlap_figure(record, rows, storage)
    if kind == "ttr_by_position":
        return position_figure(rows, storage)
    if kind == "calibration":
        return calibration_figure(rows, storage)
    raise unknown("sweep: figures", str(kind), FIGURES)


def figure_columns(wanted: Sequence[Mapping[str, Any]]) -> list[str]:
    """The scores that a sweep's figures are about, so that its table shows them too."""
    return [name for figure in wanted for name in _listed(figure.get("y", _SHOWS.get(figure["kind"], [])))]


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)

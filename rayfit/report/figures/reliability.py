"""Reliability diagrams: how often a model's first choice is right, by how confident it is (Guo et al. 2017, Figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import msgspec
import numpy as np

from rayfit.columns import telling_columns
from rayfit.findings.measured import Measured, measured
from rayfit.records.frames import PREDICTIONS, prediction_texts
from rayfit.records.storage import Storage
from rayfit.records.sweep import Row
from rayfit.report.figures.model import Figure, Line, Look, Panel
from rayfit.report.figures.series import Series, seed_series
from rayfit.score.calibration import Calibration, calibration_error, reliability
from rayfit.score.predictions import stored_calibration

KIND = "calibration"
_TITLE = "Whether the model's confidence can be believed"
# A little more than 0 to 1, so that points on the edge are seen whole.
_Y_RANGE = (-0.03, 1.03)
_IDEAL = Look("perfect calibration", "#a3adb5", "", "-")


@dataclass(frozen=True)
class _Calibrated:
    """One checkpoint's sums over the true texts of a domain, and its expected calibration error."""

    sums: Calibration
    error: float


def calibration_figure(rows: Sequence[Row], storage: Storage) -> Figure:
    """Accuracy against confidence, in bins, of the original and the trained; a panel per model and domain."""
    groups = seed_series(_of_final_weights(rows, storage), markers=True)
    if not groups:
        return Figure(KIND, _TITLE, missing="no checkpoint's predictions over the true texts are there")
    several = len({group.panel for group in groups}) > 1
    lines: dict[str, list[Line]] = {}
    for group in groups:
        lines.setdefault(group.panel, []).append(_line(group, several))
    ideal = Line(_IDEAL, (0.0, 1.0), (0.0, 1.0))
    panels = tuple(
        Panel(title, "confidence (bin mean)", "accuracy (share)", (ideal, *found), y_range=_Y_RANGE)
        for title, found in lines.items()
    )
    caption = (
        "The probability of the most probable token against how often that token is the true one, at every position of "
        "the held-out true texts, in 15 bins of equal width; below the diagonal a model is surer than it is right. ECE: "
        "expected calibration error. Seeds are pooled, their ECE is averaged; bars are 95% intervals over texts."
    )
    legend = (_IDEAL, *(line.look for found in lines.values() for line in found))
    return Figure(KIND, _TITLE, caption, panels, legend)


def _of_final_weights(rows: Sequence[Row], storage: Storage) -> list[tuple[Measured, _Calibrated]]:
    """Final weights' predictions on each domain, once however many decodings generated from them."""
    found: dict[tuple[Any, ...], tuple[Measured, _Calibrated]] = {}
    read: dict[str, _Calibrated | None] = {}
    for one in measured([row for row in rows if row.update is None], PREDICTIONS, storage):
        identifier = one.record.id
        if identifier not in read:
            read[identifier] = _read(identifier, storage)
        row = msgspec.structs.replace(one.row, decoding=None)
        key = (identifier, *(row.value(name) for name in telling_columns()))
        calibrated = read[identifier]
        if calibrated is not None:
            found.setdefault(key, (replace(one, row=row), calibrated))
    return list(found.values())


def _read(predictions_id: str, storage: Storage) -> _Calibrated | None:
    frame = prediction_texts(storage, predictions_id)
    sums = None if frame is None else stored_calibration(frame)
    error = None if sums is None else calibration_error(sums, num_resamples=1).value
    return None if sums is None or error is None else _Calibrated(sums, error)


def _line(group: Series, several: bool) -> Line:
    """One line of a panel, named with its error, and with its panel where there are several."""
    error = fmean(one.error for one in group.found)
    name = f"{group.look.label}, {group.panel}" if several else group.look.label
    bins = reliability(_pooled([one.sums for one in group.found]))
    return Line(
        replace(group.look, label=f"{name}: ECE {error:.3f}"),
        tuple(one.confidence for one in bins),
        tuple(one.accuracy for one in bins),
        tuple(one.interval for one in bins),
    )


def _pooled(seeds: list[Calibration]) -> Calibration:
    """Sums over seeds, text by text where all seeds have the same texts, so that texts remain what is drawn again."""
    join = sum if len({len(one.positions) for one in seeds}) == 1 else np.concatenate
    names = ("positions", "confidence", "correct")
    return Calibration(*(join([getattr(one, name) for one in seeds]) for name in names))

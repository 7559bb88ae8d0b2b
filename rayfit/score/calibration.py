"""The expected calibration error of a model's first choice: how far its confidence can be believed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rayfit.errors import RayfitError
from rayfit.score.statistics import NUM_RESAMPLES, Estimate, resampled_counts

NUM_BINS = 15


@dataclass(frozen=True)
class Calibration:
    """Sums per text and bin, float64 (num_texts, 15): they add up over texts, domains and workers.

    `positions`: predicted positions whose confidence falls into the bin. `confidence`: sum of their confidences.
    `correct`: how many of them have the true token as their first choice.
    """

    positions: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray


def calibration(confidence_BT: np.ndarray, correct_BT: np.ndarray) -> Calibration:
    """Sort predictions into 15 bins of equal width by their confidence, the bin m being ((m-1)/15, m/15].

    `confidence_BT`: probability of the most probable token, in [0, 1], of B texts at T positions. `correct_BT`:
    bool, whether that token is the true one. Raises RayfitError for shapes that differ and for confidences outside
    [0, 1].
    """
    if confidence_BT.ndim != 2 or confidence_BT.shape != correct_BT.shape:
        raise RayfitError(
            f"calibration: confidence has shape {confidence_BT.shape}, correct {correct_BT.shape}; "
            "both must be (texts, positions)"
        )
    if not ((confidence_BT >= 0) & (confidence_BT <= 1)).all():
        raise RayfitError("calibration: a confidence is not between 0 and 1")
    num_texts = len(confidence_BT)
    bins = np.searchsorted(np.arange(1, NUM_BINS) / NUM_BINS, confidence_BT)
    cells = (bins + NUM_BINS * np.arange(num_texts)[:, None]).ravel()

    def sums(weights: np.ndarray | None) -> np.ndarray:
        flat = None if weights is None else weights.astype(np.float64).ravel()
        added = np.bincount(cells, flat, minlength=num_texts * NUM_BINS).astype(np.float64)
        return added.reshape(num_texts, NUM_BINS)

    return Calibration(sums(None), sums(confidence_BT), sums(correct_BT))


@dataclass(frozen=True)
class ReliabilityBin:
    """One bin of a reliability diagram: positions, mean confidence, accuracy with its 95% interval over texts, or none."""

    positions: int
    confidence: float
    accuracy: float
    interval: tuple[float, float] | None


def reliability(found: Calibration) -> tuple[ReliabilityBin, ...]:
    """The bins that hold positions, from low confidence to high, over all positions of all texts.

    Guo et al. 2017, section 2. The intervals are bootstrap intervals over texts; resamples without a position in a bin
    have no part in the bin's. A bin that one text alone fills has none.
    """
    drawn = resampled_counts(len(found.positions), NUM_RESAMPLES)
    bins = []
    for place in np.flatnonzero(found.positions.sum(axis=0)):
        positions, correct = found.positions[:, place], found.correct[:, place]
        total = positions.sum()
        interval = None
        if np.count_nonzero(positions) > 1:
            weights = drawn @ positions
            shares = (drawn @ correct)[weights > 0] / weights[weights > 0]
            low, high = np.quantile(shares, [0.025, 0.975])
            interval = (float(low), float(high))
        confidence = float(found.confidence[:, place].sum() / total)
        bins.append(ReliabilityBin(int(total), confidence, float(correct.sum() / total), interval))
    return tuple(bins)


def calibration_error(found: Calibration, *, num_resamples: int = NUM_RESAMPLES) -> Estimate:
    """Expected calibration error: the mean distance of accuracy from confidence, in [0, 1]; lower is better.

    The sum over bins of (share of positions in the bin) x |accuracy - mean confidence in the bin|, over all positions
    of all texts; Guo et al. 2017 (On Calibration of Modern Neural Networks), equation 3. The interval is of the same
    number over texts drawn with replacement; as a mean of absolute values it leans upwards where positions are few.
    """
    weights = found.positions.sum(axis=1)
    num_texts, num_missing = int((weights > 0).sum()), int((weights == 0).sum())
    if not num_texts:
        return Estimate(None, None, None, 0, num_missing, "no text was measured")
    gaps, positions = (found.correct - found.confidence)[weights > 0], weights[weights > 0]
    value = float(np.abs(gaps.sum(axis=0)).sum() / positions.sum())
    if num_texts == 1:
        return Estimate(value, None, None, 1, num_missing, "one text has no interval")
    drawn = resampled_counts(num_texts, num_resamples)
    errors = np.abs(drawn @ gaps).sum(axis=1) / (drawn @ positions)
    low, high = np.quantile(errors, [0.025, 0.975])
    return Estimate(value, float(low), float(high), num_texts, num_missing)

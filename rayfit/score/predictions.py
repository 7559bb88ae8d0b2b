"""A checkpoint's predictions over true texts: a row per text to be kept, and the scores of any set of such rows."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from rayfit.errors import RayfitError
from rayfit.records.values import Entry
from rayfit.score.calibration import Calibration, calibration, calibration_error
from rayfit.score.statistics import Estimate, bootstrap_mean
from rayfit.scores import TOP_K

if TYPE_CHECKING:
    from rayfit.score.logits import TokenStatistics


def _mean(values_BT: Any) -> np.ndarray:
    """The mean over a text's positions, float64."""
    return np.asarray(values_BT.double().mean(dim=1))


CHECKPOINT_SCORES: dict[str, Callable[[TokenStatistics], np.ndarray]] = {
    "entropy_nats": lambda given: _mean(given.entropy_nats),
    "entropy_bits": lambda given: _mean(given.entropy_nats) / math.log(2),
    "true_token_reciprocal_rank": lambda given: _mean(1.0 / given.rank.double()),
    **{
        f"top_{k}_mass": lambda given, at=at: _mean(given.top_mass[..., at])  # type: ignore[misc]
        for at, k in enumerate(TOP_K)
    },
    **{
        f"true_token_in_top_{k}": lambda given, k=k: _mean(given.rank <= k)  # type: ignore[misc]
        for k in TOP_K
    },
}
"""Every score of a checkpoint's predictions that is a mean over texts: a number for each of the true texts."""

MEANS = tuple(CHECKPOINT_SCORES)

_MOST_NATS = math.log(sys.float_info.max)

_BINS = tuple(f"calibration_{name}" for name in ("positions", "confidence", "correct"))


def prediction_frame(statistics: TokenStatistics, context_length: int) -> pl.DataFrame:
    """One row per text, in their order, of what a checkpoint predicts over contexts with their continuations.

    Columns, Float64 unless said otherwise, each a mean over the text's predicted positions: those of `CHECKPOINT_SCORES`,
    `nll_nats` and `nll_context_nats` (negative log-likelihood of the true token over the text, and over the first
    `context_length` tokens alone); `num_positions` (Int64); `top_1` (List(Int32), the first choice at every position, for
    `agreement_matrix` and `choice_statistics`); `calibration_positions`, `calibration_confidence`,
    `calibration_correct` (List(Float64), sums per bin, as `Calibration`).

    Raises RayfitError where a text has no position to predict, in its context or after it.
    """
    num_positions = statistics.nll_nats.shape[1]
    # Position i predicts token i + 1, so the first token of a text is never predicted.
    if not 2 <= context_length <= num_positions:
        raise RayfitError(
            f"predictions: texts of {num_positions + 1} tokens with contexts of {context_length}; a context needs 2 "
            "tokens or more and a continuation after it"
        )

    # Rounding may leave a probability a little above 1.
    bins = calibration(np.minimum(statistics.top_mass[..., 0].numpy(), 1.0), statistics.correct.numpy())
    return pl.DataFrame(
        {
            "nll_nats": _mean(statistics.nll_nats),
            "nll_context_nats": statistics.nll_nats[:, : context_length - 1].mean(dim=1).numpy(),
            **{name: score(statistics) for name, score in CHECKPOINT_SCORES.items()},
            "num_positions": np.full(len(statistics.nll_nats), num_positions, dtype=np.int64),
            "top_1": pl.Series(statistics.top_1.tolist(), dtype=pl.List(pl.Int32)),
            **{
                name: pl.Series(sums.tolist(), dtype=pl.List(pl.Float64))
                for name, sums in zip(_BINS, (bins.positions, bins.confidence, bins.correct), strict=True)
            },
        }
    )


def prediction_scores(frames: pl.DataFrame | Sequence[pl.DataFrame]) -> dict[str, Entry]:
    """Scores, by their names in the registry, of one domain's frame or of several domains' frames together.

    The means of `CHECKPOINT_SCORES`; `perplexity_contexts` and `perplexity_texts` (pooled over tokens), the same with
    `_mean` behind (mean over texts of each text's own perplexity); and `calibration_error`. Intervals are 95% bootstrap
    intervals over texts. Texts are all of one length, so pooling positions and averaging over texts is the same.

    Raises RayfitError for texts of several lengths.
    """
    frame = frames if isinstance(frames, pl.DataFrame) else pl.concat(frames)
    if frame["num_positions"].n_unique() > 1:
        lengths = sorted(frame["num_positions"].unique() + 1)
        raise RayfitError(
            f"predictions: texts of {lengths} tokens; positions are pooled over texts of one length"
        )
    found = {name: bootstrap_mean(frame[name]).entry() for name in MEANS}
    for name, column in (("perplexity_contexts", "nll_context_nats"), ("perplexity_texts", "nll_nats")):
        found[name] = as_perplexity(bootstrap_mean(frame[column])).entry()
        found[f"{name}_mean"] = bootstrap_mean(frame[column].exp()).entry()
    found["calibration_error"] = calibration_error(stored_calibration(frame)).entry()
    return found


def as_perplexity(nll_nats: Estimate) -> Estimate:
    """The exponential of a mean negative log-likelihood; it is monotone, so the interval goes with it.

    Null with the reason where it is more than a float64 holds: the mean, or the interval's end, is above 709 nats.
    """
    numbers = (nll_nats.value, nll_nats.low, nll_nats.high)
    if any(number is not None and number > _MOST_NATS for number in numbers):
        reason = f"a mean of {nll_nats.value:g} nats per token has no finite perplexity"
        return Estimate(None, None, None, nll_nats.num_texts, nll_nats.num_missing, reason)
    value, low, high = (None if number is None else math.exp(number) for number in numbers)
    return Estimate(value, low, high, nll_nats.num_texts, nll_nats.num_missing, nll_nats.reason)


def stored_calibration(frame: pl.DataFrame) -> Calibration:
    """The sums per text and bin that a `prediction_frame` holds."""
    return Calibration(*(np.array(frame[name].to_list(), dtype=np.float64) for name in _BINS))


def stored_choices(frame: pl.DataFrame) -> np.ndarray:
    """Column `top_1` of a `prediction_frame` as int32 (num_texts, num_positions); raises where lengths differ."""
    if frame["num_positions"].n_unique() > 1:
        raise RayfitError("predictions: texts of several lengths have no common positions")
    return np.array(frame["top_1"].to_list(), dtype=np.int32).reshape(len(frame), -1)

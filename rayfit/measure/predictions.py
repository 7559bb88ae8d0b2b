"""A checkpoint's predictions over true texts: scores that no decoding changes, and a row per text, kept for comparing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import torch

from rayfit.data.rows import token_matrix
from rayfit.errors import RayfitError
from rayfit.gpu_memory import in_halves
from rayfit.measure.bench import Bench
from rayfit.measure.checkpoint import computed_with, held_model, whole_rows
from rayfit.measure.stage import Measured
from rayfit.plan.measurements import Prediction
from rayfit.records.values import Entry
from rayfit.score.logits import NOT_FINITE, TokenStatistics, loss_sums, token_statistics
from rayfit.score.predictions import prediction_frame, prediction_scores
from rayfit.score.statistics import bootstrap_mean

_ROWS_AT_ONCE = 16


def predict(spec: Prediction, bench: Bench) -> Measured:
    """Measure a subject's predictions over contexts, validation rows and, for a trial, its training rows.

    Keeps a row per text, with its choices, as `texts`. Raises RayfitError for token ids that do not fit the model and for
    logits that are not finite.
    """
    checkpoint = bench.checkpoint(spec)
    model, device = held_model(checkpoint), checkpoint.device
    with whole_rows(model):
        contexts = statistics_of(model, token_matrix(bench.contexts(spec)), device)
        validation = row_means(model, token_matrix(bench.validation(spec)), device)
        rows = bench.training_rows(spec.subject.trial)
        train = None if rows is None else row_means(model, token_matrix(rows), device)
        about = computed_with(model, _ROWS_AT_ONCE)
    frame = prediction_frame(contexts, spec.settings.context_length)
    scores = {
        **prediction_scores(frame),
        "validation_loss": _mean_entry(validation["nll_nats"]),
        "validation_entropy_nats": _mean_entry(validation["entropy_nats"]),
        "validation_accuracy": _mean_entry(validation["correct"]),
    }
    if train is not None:
        scores["train_loss"] = _mean_entry(train["nll_nats"])
        scores["train_accuracy"] = _mean_entry(train["correct"])
    return Measured(scores=scores, frames={"texts": frame}, about=about)


def _mean_entry(means: np.ndarray) -> Entry:
    """The mean over texts, which are all of one length, with its bootstrap interval."""
    return bootstrap_mean(pl.Series(means)).entry()


def statistics_of(model: Any, token_ids: np.ndarray, device: str) -> TokenStatistics:
    """Statistics of every predicted position of int64 rows, shape (rows, tokens - 1), in a few forward passes."""
    parts = [token_statistics(*predicted) for predicted in _predicted(model, token_ids, device)]
    return TokenStatistics(
        *(torch.cat([getattr(part, name) for part in parts]) for name in TokenStatistics.__dataclass_fields__)
    )


def row_means(model: Any, token_ids: np.ndarray, device: str) -> dict[str, np.ndarray]:
    """Means over each row's predicted positions, float64 of shape (rows,): `nll_nats`, `correct`, `entropy_nats`.

    What needs no sorting of the predictions, which takes longer than all else. Raises RayfitError for logits that are not
    finite.
    """
    sums = torch.stack(
        [
            loss_sums(logits[row : row + 1], targets[row : row + 1])
            for logits, targets in _predicted(model, token_ids, device)
            for row in range(len(logits))
        ]
    )
    if not sums.isfinite().all():
        raise RayfitError(NOT_FINITE)
    nll, correct, entropy, positions = sums.cpu().numpy().T
    return {"nll_nats": nll / positions, "correct": correct / positions, "entropy_nats": entropy / positions}


@torch.inference_mode()
def _predicted(model: Any, token_ids: np.ndarray, device: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits before every target, and the targets, batch by batch."""

    def run(begin: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        batch = torch.from_numpy(token_ids[begin:end]).to(device)
        return model(input_ids=batch, use_cache=False).logits[:, :-1], batch[:, 1:]

    for start in range(0, len(token_ids), _ROWS_AT_ONCE):
        yield from in_halves(run, start, min(start + _ROWS_AT_ONCE, len(token_ids)))

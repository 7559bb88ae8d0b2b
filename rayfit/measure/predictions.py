"""A checkpoint's predictions over true texts: scores that no decoding changes, and a row per text, kept for comparing."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch

from rayfit.data.rows import token_matrix
from rayfit.measure.bench import Bench
from rayfit.measure.checkpoint import held_model
from rayfit.measure.stage import Measured
from rayfit.plan.measurements import Prediction
from rayfit.records.values import Entry
from rayfit.score.logits import TokenStatistics, token_statistics
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
    contexts = statistics_of(model, token_matrix(bench.contexts(spec)), device)
    frame = prediction_frame(contexts, spec.settings.context_length)
    validation = statistics_of(model, token_matrix(bench.validation(spec)), device)
    scores = {
        **prediction_scores(frame),
        "validation_loss": mean_entry(validation.nll_nats),
        "validation_entropy_nats": mean_entry(validation.entropy_nats),
        "validation_accuracy": mean_entry(validation.correct.double()),
    }
    rows = bench.training_rows(spec.subject.trial)
    if rows is not None:
        train = statistics_of(model, token_matrix(rows), device)
        scores["train_loss"] = mean_entry(train.nll_nats)
        scores["train_accuracy"] = mean_entry(train.correct.double())
    return Measured(scores=scores, frames={"texts": frame})


def mean_entry(values_BT: torch.Tensor) -> Entry:
    """The mean over all positions with the bootstrap interval over texts, which are all of one length."""
    return bootstrap_mean(pl.Series(values_BT.double().mean(dim=1).numpy())).entry()


@torch.inference_mode()
def statistics_of(model: Any, token_ids: np.ndarray, device: str) -> TokenStatistics:
    """Statistics of every predicted position of int64 rows, shape (rows, tokens - 1), in a few forward passes."""
    parts = []
    for start in range(0, len(token_ids), _ROWS_AT_ONCE):
        batch = torch.from_numpy(token_ids[start : start + _ROWS_AT_ONCE]).to(device)
        parts.append(token_statistics(model(input_ids=batch, use_cache=False).logits[:, :-1], batch[:, 1:]))
    return TokenStatistics(
        *(torch.cat([getattr(part, name) for part in parts]) for name in TokenStatistics.__dataclass_fields__)
    )

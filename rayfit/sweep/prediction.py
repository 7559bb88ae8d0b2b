"""A checkpoint's predictions over true texts: scores that no decoding changes, and a row per text, kept for comparing."""

from __future__ import annotations

import secrets
import time
from typing import Any

import numpy as np
import polars as pl
import torch

from rayfit.data.rows import token_matrix
from rayfit.identity import SCORE_VERSION
from rayfit.records.provenance import now, provenance
from rayfit.records.storage import Storage, write_parquet
from rayfit.score.logits import TokenStatistics, token_statistics
from rayfit.score.predictions import prediction_frame, prediction_scores
from rayfit.score.statistics import bootstrap_mean
from rayfit.sweep.evaluation_task import PredictionTask
from rayfit.sweep.loading import held_model

_ROWS_AT_ONCE = 16


def predict(task: PredictionTask, storage: Storage) -> dict[str, Any]:
    """Measure the predictions and publish their record; a row per text, with its choices, stands beside it.

    Raises RayfitError for token ids that do not fit the model and for logits that are not finite.
    """
    begin = time.monotonic()
    model = held_model(task.model)
    device = task.model.device
    contexts = pl.read_parquet(task.contexts_path)
    frame = prediction_frame(statistics_of(model, token_matrix(contexts), device), task.context_length)
    validation = statistics_of(model, token_matrix(pl.read_parquet(task.validation_path)), device)
    scores = {
        **prediction_scores(frame),
        "validation_loss": mean_entry(validation.nll_nats),
        "validation_entropy_nats": mean_entry(validation.entropy_nats),
        "validation_accuracy": mean_entry(validation.correct.double()),
    }
    if task.rows_path is not None:
        train = statistics_of(model, token_matrix(pl.read_parquet(task.rows_path)), device)
        scores["train_loss"] = mean_entry(train.nll_nats)
        scores["train_accuracy"] = mean_entry(train.correct.double())
    folder = storage.folder("predictions", task.id)
    file_name = f"texts-{secrets.token_hex(4)}.parquet"
    write_parquet(folder / file_name, frame)
    record = {
        **task.about,
        "kind": "predictions",
        "id": task.id,
        "eval_precision": task.model.eval_precision,
        "score_version": SCORE_VERSION,
        "scores": scores,
        "texts": file_name,
        "seconds": {"total": round(time.monotonic() - begin, 3)},
        "finished_at": now(),
        **provenance(),
    }
    storage.write("predictions", task.id, record)
    for old in folder.glob("texts-*.parquet"):
        if old.name != file_name:
            old.unlink()
    return record


def mean_entry(values_BT: torch.Tensor) -> dict[str, Any]:
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

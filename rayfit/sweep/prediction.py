"""A checkpoint's predictions over true texts: scores that no decoding changes, and its choices, kept for comparing."""

from __future__ import annotations

import math
import secrets
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from rayfit.data.rows import token_matrix
from rayfit.identity import SCORE_VERSION
from rayfit.records.provenance import now, provenance
from rayfit.records.storage import Storage
from rayfit.score.logits import TOP_K, TokenStatistics, token_statistics
from rayfit.sweep.entries import Scores, exp_entry, mean_entry
from rayfit.sweep.evaluation_task import PredictionTask
from rayfit.sweep.loading import load

_ROWS_AT_ONCE = 16


def predict(task: PredictionTask, storage: Storage) -> dict[str, Any]:
    """Measure the predictions and publish their record; the choices at every position stand beside it.

    Raises RayfitError for token ids that do not fit the model and for logits that are not finite.
    """
    begin = time.monotonic()
    model, _ = load(task.model)
    device = task.model.device
    texts = statistics_of(model, token_matrix(pl.read_parquet(task.contexts_path)), device)
    validation = statistics_of(model, token_matrix(pl.read_parquet(task.validation_path)), device)
    scores = {
        **scores_of_texts(texts, task.context_length),
        "validation_loss": mean_entry(validation.nll_nats),
        "validation_entropy_nats": mean_entry(validation.entropy_nats),
        "validation_accuracy": mean_entry(validation.correct.double()),
    }
    if task.rows_path is not None:
        train = statistics_of(model, token_matrix(pl.read_parquet(task.rows_path)), device)
        scores["train_loss"] = mean_entry(train.nll_nats)
        scores["train_accuracy"] = mean_entry(train.correct.double())
    folder = storage.folder("predictions", task.id)
    folder.mkdir(parents=True, exist_ok=True)
    file_name = f"choices-{secrets.token_hex(4)}.npy"
    np.save(folder / file_name, texts.top_1.numpy().astype(np.int32))
    record = {
        **task.about,
        "kind": "predictions",
        "id": task.id,
        "eval_precision": task.model.eval_precision,
        "score_version": SCORE_VERSION,
        "scores": scores,
        "choices": file_name,
        "seconds": {"total": round(time.monotonic() - begin, 3)},
        "finished_at": now(),
        **provenance(),
    }
    storage.write("predictions", task.id, record)
    for old in folder.glob("choices-*.npy"):
        if old.name != file_name:
            old.unlink()
    return record


def choices_of(storage: Storage, record: dict[str, Any]) -> np.ndarray:
    """The most probable token at every predicted position of every text: int32 of shape (texts, tokens - 1)."""
    path: Path = storage.folder("predictions", record["id"]) / record["choices"]
    found: np.ndarray = np.load(path)
    return found


def scores_of_texts(texts: TokenStatistics, context_length: int) -> Scores:
    """Scores over the contexts with their true continuations (the paper's sections 5 and 7.3).

    Positions are pooled; all texts are of one length, so that is also the mean over texts, from which intervals come.
    """
    in_context = texts.nll_nats[:, : context_length - 1]
    scores = {
        "entropy_nats": mean_entry(texts.entropy_nats),
        "entropy_bits": mean_entry(texts.entropy_nats / math.log(2)),
        "perplexity_contexts": exp_entry(mean_entry(in_context)),
        "perplexity_texts": exp_entry(mean_entry(texts.nll_nats)),
        "true_token_reciprocal_rank": mean_entry(1.0 / texts.rank.double()),
    }
    for place, k in enumerate(TOP_K):
        scores[f"top_{k}_mass"] = mean_entry(texts.top_mass[..., place])
        scores[f"true_token_in_top_{k}"] = mean_entry((texts.rank <= k).double())
    return scores


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

"""A trial beside its original model over the same true texts: where they choose alike, ranks, the matched temperature."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch

from rayfit.data.rows import token_matrix
from rayfit.errors import RayfitError
from rayfit.identity import SCORE_VERSION
from rayfit.prepare.model_shape import vocabulary_size
from rayfit.records.frames import prediction_texts
from rayfit.records.provenance import now, provenance
from rayfit.records.storage import Storage
from rayfit.score.pairs import choice_statistics, match_temperature, pair_scores
from rayfit.score.predictions import stored_choices
from rayfit.score.statistics import missing
from rayfit.sweep.evaluation_task import ComparisonTask
from rayfit.sweep.loading import held_model

_ROWS_AT_ONCE = 16
_KEPT_LOGITS_BYTES = 2 << 30


def compare(task: ComparisonTask, storage: Storage) -> dict[str, Any]:
    """Compare and publish the record. Only the original is loaded: the trial's choices are kept with its predictions.

    Raises RayfitError for predictions of another tokenizer.
    """
    begin = time.monotonic()
    predictions = storage.read("predictions", task.predictions_id)
    assert predictions is not None  # this comparison waited for it
    texts = prediction_texts(storage, task.predictions_id)
    assert texts is not None
    choices = stored_choices(texts)
    model = held_model(task.original)
    token_ids = token_matrix(pl.read_parquet(task.contexts_path))
    batches = _Logits(model, token_ids, task.original.device)
    parts = [
        choice_statistics(logits, torch.from_numpy(choices[start : start + len(logits)]).long())
        for start, logits in zip(range(0, len(choices), _ROWS_AT_ONCE), batches(), strict=True)
    ]
    scores = {name: estimate.entry() for name, estimate in pair_scores(parts).items()}
    scores["matched_temperature"] = missing("not asked for; the decoding `matched` solves it")
    if task.solves_temperature:
        scores["matched_temperature"] = _temperature(batches, predictions["scores"]["entropy_nats"]["value"])
    record = {
        **task.about,
        "kind": "comparison",
        "id": task.id,
        "predictions_id": task.predictions_id,
        "solves_temperature": task.solves_temperature,
        "score_version": SCORE_VERSION,
        "scores": scores,
        "seconds": {"total": round(time.monotonic() - begin, 3)},
        "finished_at": now(),
        **provenance(),
    }
    storage.write("comparisons", task.id, record)
    return record


def _temperature(batches: Any, entropy_nats: float) -> dict[str, Any]:
    """The original's temperature at which its mean entropy is the trial's, or why there is none."""
    try:
        found = match_temperature(batches, entropy_nats)
    except RayfitError as error:
        return missing(str(error))
    return {"value": found.temperature, "low": None, "high": None, "count": 0, "reason": None}


class _Logits:
    """The original's logits before every target, batch by batch, each time they are asked for anew.

    They are kept where all of them are small, since the search for a temperature reads them some twenty times.
    """

    def __init__(self, model: Any, token_ids: np.ndarray, device: str) -> None:
        self._forward = partial(_forward, model, device)
        self._token_ids = token_ids
        size = token_ids.size * vocabulary_size(model.config) * model.dtype.itemsize
        self._kept: list[torch.Tensor] | None = [] if size <= _KEPT_LOGITS_BYTES else None

    def __call__(self) -> Iterator[torch.Tensor]:
        if self._kept:
            yield from self._kept
            return
        for start in range(0, len(self._token_ids), _ROWS_AT_ONCE):
            logits = self._forward(self._token_ids[start : start + _ROWS_AT_ONCE])
            if self._kept is not None:
                self._kept.append(logits)
            yield logits


@torch.no_grad()
def _forward(model: Any, device: str, token_ids: np.ndarray) -> torch.Tensor:
    batch = torch.from_numpy(token_ids).to(device)
    logits: torch.Tensor = model(input_ids=batch, use_cache=False).logits[:, :-1]
    return logits

"""A trial beside its original model over the same true texts: where they choose alike, ranks, the matched temperature."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from rayfit.data.rows import token_matrix
from rayfit.errors import RayfitError
from rayfit.gpu_memory import in_halves
from rayfit.measure.bench import Bench, Checkpoint
from rayfit.measure.checkpoint import computed_with, held_model, whole_rows
from rayfit.measure.stage import Measured
from rayfit.plan.measurements import BesideOriginal, Comparison, Temperature
from rayfit.prepare.model_shape import vocabulary_size
from rayfit.records.values import Entry, missing
from rayfit.score.pairs import choice_statistics, match_temperature, pair_scores
from rayfit.score.predictions import stored_choices

_ROWS_AT_ONCE = 16
_KEPT_LOGITS_BYTES = 2 << 30
_KEPT_BETWEEN_JOBS_BYTES = 1 << 28


def compare(spec: Comparison, bench: Bench) -> Measured:
    """Hold a trial's choices, which are kept with its predictions, beside its original, which alone is loaded.

    Raises RayfitError for predictions of another tokenizer.
    """
    (predictions,) = map(bench.input, spec.inputs)
    choices = stored_choices(bench.frame(predictions, "texts"))
    parts, start, originals = [], 0, _original_logits(spec, bench)
    for logits in originals():
        end = start + len(logits)
        parts.append(choice_statistics(logits, torch.from_numpy(choices[start:end]).long()))
        start = end
    if start != len(choices):
        raise RayfitError(f"comparisons: {len(choices)} texts of choices beside logits of {start}")
    scores = {name: estimate.entry() for name, estimate in pair_scores(parts).items()}
    return Measured(scores=scores, about=originals.about)


def solve_temperature(spec: Temperature, bench: Bench) -> Measured:
    """Find the original's temperature at which its mean entropy is the trial's, or say why there is none."""
    (predictions,) = map(bench.input, spec.inputs)
    entropy_nats = predictions.scores["entropy_nats"].value
    if entropy_nats is None:
        return Measured(scores={"matched_temperature": missing("the trial's entropy was not measured")})
    try:
        found = match_temperature(_original_logits(spec, bench), entropy_nats)
    except RayfitError as error:
        return Measured(scores={"matched_temperature": missing(str(error))})
    return Measured(scores={"matched_temperature": Entry(value=found.temperature)})


class _Logits:
    """The original's logits before every target, batch by batch, each time they are asked for anew.

    They are kept where all of them are small, since the search for a temperature reads them some twenty times.
    """

    def __init__(self, model: Any, token_ids: np.ndarray, device: str) -> None:
        self._token_ids = token_ids
        # A model's logits are fp32, whatever it computes in.
        self.num_bytes = 4 * token_ids.size * vocabulary_size(model.config)
        with whole_rows(model):
            self.about = computed_with(model, _ROWS_AT_ONCE)
        self._kept: list[torch.Tensor] = []
        # None once all are kept: the model is not held for them.
        self._forward: partial[torch.Tensor] | None = partial(_forward, model, device)

    def __call__(self) -> Iterator[torch.Tensor]:
        if self._forward is None:
            yield from self._kept
            return
        found = []
        forward, token_ids = self._forward, self._token_ids
        for start in range(0, len(token_ids), _ROWS_AT_ONCE):
            end = min(start + _ROWS_AT_ONCE, len(token_ids))
            for logits in in_halves(lambda *place: forward(token_ids[slice(*place)]), start, end):
                if self.num_bytes <= _KEPT_LOGITS_BYTES:
                    found.append(logits)
                yield logits
        if self.num_bytes <= _KEPT_LOGITS_BYTES:
            self._kept, self._forward = found, None


# Of the last original alone: trials of one model follow each other in a process.
_between_jobs: dict[tuple[Checkpoint, str], _Logits] = {}


def _original_logits(spec: BesideOriginal, bench: Bench) -> _Logits:
    original = bench.original(spec)
    key = (original, bench.contexts_fingerprint(spec))
    if key in _between_jobs:
        return _between_jobs[key]
    _between_jobs.clear()
    logits = _Logits(held_model(original), token_matrix(bench.contexts(spec)), original.device)
    if original.device == "cpu" and logits.num_bytes <= _KEPT_BETWEEN_JOBS_BYTES:
        _between_jobs[key] = logits
    return logits


@torch.no_grad()
def _forward(model: Any, device: str, token_ids: np.ndarray) -> torch.Tensor:
    batch = torch.from_numpy(token_ids).to(device)
    with whole_rows(model):
        logits: torch.Tensor = model(input_ids=batch, use_cache=False).logits[:, :-1]
    return logits

"""What measuring needs to know; apart from the measuring itself, so that the driver need not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayfit.decoding import Decoding

# Contexts that one call generates: what is done again when a process dies.
PART_CONTEXTS = 128


@dataclass(frozen=True, kw_only=True)
class ModelTask:
    """A checkpoint to load: a Hugging Face directory, the precision it computes in, the device and CPU threads."""

    path: Path
    eval_precision: str
    device: str
    num_threads: int


@dataclass(frozen=True, kw_only=True)
class PredictionTask:
    """Predictions of one checkpoint over true texts. Paths are parquet files that `prepare` made.

    `rows_path` is None for the original model. `about` is copied into the record.
    """

    id: str
    model: ModelTask
    contexts_path: Path
    validation_path: Path
    rows_path: Path | None
    context_length: int
    about: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class EvaluationTask:
    """One evaluation: contexts to continue under a decoding, and what the texts are scored against.

    `rows_path` and `baseline_id` (the original model's evaluation, without a blocker) are None for the original model;
    `predictions_id` is None where only texts count; `comparison_id` holds the temperature of a matched decoding.
    `context_length` is None for contexts that are continued whole and have no true continuation.
    """

    id: str
    model: ModelTask
    decoding: Decoding
    engine: str
    contexts_path: Path
    num_contexts: int
    rows_path: Path | None
    predictions_id: str | None
    baseline_id: str | None
    comparison_id: str | None
    context_length: int | None
    bos_id: int | None
    domain: str
    about: dict[str, Any]
    mauve_model: Path | None = None
    part_contexts: int = PART_CONTEXTS

    @property
    def parts(self) -> list[tuple[int, int]]:
        """The contexts of each part, as [first, end)."""
        starts = range(0, self.num_contexts, self.part_contexts)
        return [(start, min(start + self.part_contexts, self.num_contexts)) for start in starts]

    @property
    def weights(self) -> str:
        """Whose weights generated: parts of other weights under the same id do not count."""
        return f"{self.about.get('checkpoint_weights_sha256')}-{self.about.get('edition')}"


@dataclass(frozen=True, kw_only=True)
class ComparisonTask:
    """A trial's predictions, by their record, beside those of its original model, which is loaded."""

    id: str
    original: ModelTask
    predictions_id: str
    contexts_path: Path
    solves_temperature: bool
    about: dict[str, Any]

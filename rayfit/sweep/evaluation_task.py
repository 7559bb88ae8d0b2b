"""What one evaluation needs to know; apart from the evaluation itself, so that the driver need not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayfit.generate.decoding import Decoding


@dataclass(frozen=True, kw_only=True)
class EvaluationTask:
    """One evaluation as a worker needs it. Paths are parquet files made by `prepare`, or a Hugging Face directory.

    `rows_path` and `baseline_id` (the original model's evaluation, without a blocker) are None for the original model.
    `about` is copied into the record.
    """

    id: str
    checkpoint_path: Path
    decoding: Decoding
    contexts_path: Path
    validation_path: Path
    rows_path: Path | None
    baseline_id: str | None
    context_length: int
    bos_id: int | None
    domain: str
    eval_precision: str
    device: str
    num_threads: int
    about: dict[str, Any]

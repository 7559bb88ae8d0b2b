"""Which columns of a sweep's rows MLflow shows, and what tells its trials apart."""

from __future__ import annotations

from collections.abc import Sequence

from rayfit.records.sweep import Row

POOLED = "pooled"
"""In the column `domain`: all domains together."""

PARAMS = {
    "model": "model",
    "train_text": "train_text",
    "samples": "samples",
    "updates": "num_updates",
    "epochs": "epochs",
    "seed": "sample_seed",
    "order_seed": "order_seed",
    "learning_rate": "learning_rate",
    "batch_size": "batch_size",
    "adapter": "adapter",
    "stop_at_train_loss": "stop_at_train_loss",
    "repeat": "repeat",
}
"""By what was chosen for a trial, the parameter of its run that holds it."""

NOTED = (
    *("who", "arm", "model", "train_text", "decoding", "domain", "samples", "updates", "epochs"),
    *("learning_rate", "batch_size", "adapter", "seed", "order_seed", "repeat"),
    *("train_loss", "train_accuracy", "validation_loss", "entropy_nats", "ttr_last_96"),
    *("longest_overlap_mean", "minutes", "status", "reason"),
)
"""The columns of the table in the note of a sweep's run."""

NOTED_IF_TELLING = frozenset(
    {"model", "train_text", "decoding", "domain", "learning_rate", "batch_size", "adapter"}
    | {"seed", "order_seed", "repeat"}
)
"""Those of them that are no help in so little space where they say the same of every row."""

TOTALS = ("ttr_last_96", "validation_loss", "entropy_nats", "longest_overlap_mean", "train_loss")
"""What sweeps are compared by: a metric of the sweep's own run, over its rows."""

CHECKPOINT_SCORES = ("train_loss", "train_accuracy", "validation_loss", "entropy_nats", "top_1_agreement")
TEXT_SCORES = ("ttr_last_96", "longest_overlap_mean")
"""The main scores of weights and of their texts, which the table of runs shows."""

_TELLING = (
    *("model", "train_text", "arm", "adapter", "samples", "epochs", "updates", "batch_size"),
    *("learning_rate", "stop_at_train_loss", "repeat"),
)


def telling(rows: Sequence[Row]) -> list[str]:
    """The columns that tell trials apart, without those that follow from others, as epochs do from arm and samples."""
    found: list[str] = []
    for name in _TELLING:
        if varies(rows, name) and not _follows(rows, name, found):
            found.append(name)
    return found


def varies(rows: Sequence[Row], name: str) -> bool:
    """True when not all of these rows have the same in a column."""
    return len({row.value(name) for row in rows}) > 1


def _follows(rows: Sequence[Row], name: str, others: Sequence[str]) -> bool:
    """True when each combination of the others goes with one value of a column, in several combinations."""
    keys = [tuple(row.value(other) for other in others) for row in rows]
    pairs = {(key, row.value(name)) for key, row in zip(keys, rows, strict=True)}
    return len(set(keys)) == len(pairs) > 1

"""Columns as people read them: title, unit, direction, how a number is written, what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rayfit.report.labels import decoding_text, value_text
from rayfit.score.registry import SCORES

# Shown whatever the sweep; others join where the sweep's figures or the paper's numbers are about them.
CORE = (
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "entropy_nats",
    "ttr_last_96",
    "longest_overlap_mean",
    "original_longest_overlap_mean",
)

_TITLES = {
    "ttr_first_96": "TTR, first 96",
    "ttr_last_96": "TTR, last 96",
    "rep_2": "rep-2",
    "rep_3": "rep-3",
    "rep_4": "rep-4",
    "train_loss": "train loss",
    "train_accuracy": "train accuracy",
    "validation_loss": "validation loss",
    "validation_accuracy": "validation accuracy",
    "validation_entropy_nats": "validation entropy",
    "entropy_nats": "entropy",
    "entropy_bits": "entropy",
    "perplexity_contexts": "perplexity, contexts",
    "perplexity_texts": "perplexity, texts",
    "top_1_mass": "top-1 mass",
    "top_3_mass": "top-3 mass",
    "top_5_mass": "top-5 mass",
    "top_1_agreement": "top-1 agreement",
    "longest_overlap_mean": "overlap, mean",
    "longest_overlap_max": "overlap, max",
    "longest_overlap_share_above_5": "overlap > 5",
    "longest_overlap_share_above_10": "overlap > 10",
    "original_longest_overlap_mean": "the original's overlap",
    "self_bleu_mean": "Self-BLEU, mean",
    "self_bleu_max": "Self-BLEU, max",
    "dataset_bleu_mean": "Dataset BLEU, mean",
    "dataset_bleu_max": "Dataset BLEU, max",
    "loop_share": "ends in a loop",
    "preferred_128": "preferred, 128 tokens",
    "preferred_256": "preferred, 256 tokens",
}

_DECLARED = {
    "model": ("model", "the model that was trained, or the original"),
    "train_text": ("trained on", "the text of the training sequences"),
    "arm": ("arm", "the declared arm of the sweep"),
    "adapter": ("adapter", "what was trained: all weights, or an adapter's"),
    "trainable_parameters": ("trained parameters", "number of weights that training changes"),
    "samples": ("training sequences", "number of distinct training sequences"),
    "updates": ("updates", "optimiser updates"),
    "epochs": ("epochs", "times each training sequence was seen"),
    "update": ("after updates", "updates after which these weights were kept; empty for the final ones"),
    "batch_size": ("batch", "sequences per update"),
    "learning_rate": ("learning rate", "constant learning rate"),
    "seed": ("seed", "sample seed: which sequences, in which order"),
    "order_seed": ("order seed", "the order of the sequences"),
    "training_seed": ("training seed", "what initialises an adapter"),
    "repeat": ("repeat", "number of an exact rerun"),
    "stop_at_train_loss": ("stopped at loss", "training loss at which training stopped"),
    "domain": ("evaluated on", "the text that the contexts come from"),
    "decoding": ("decoding", "how tokens are picked"),
    "minutes": ("minutes", "wall time of training; of the original model: of its evaluation"),
    "contexts": ("contexts", "held-out texts that are continued"),
    "context_length": ("context", "tokens given of each context"),
    "sequence_length": ("length", "tokens of a training sequence"),
    "weight_decay": ("weight decay", "decay of the weights per update"),
}

DASH = "\u2013"
"""Between the ends of a range."""

_ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
_SHORT_UNITS = {"share of positions": "share", "share of tokens": "share", "share of texts": "share"}


@dataclass(frozen=True)
class Column:
    """One column of a table: its name in the records, and how it is shown and explained."""

    name: str
    title: str
    unit: str
    arrow: str
    about: str

    def text(self, value: Any) -> str:
        """A value as it is written in this column."""
        return number_text(self.name, value)


def column(name: str) -> Column:
    """How a column or score is shown; names that rayfit does not know (the paper's own) are shown as they are."""
    if name in _DECLARED:
        title, about = _DECLARED[name]
        return Column(name, title, "", "", about)
    title = _TITLES.get(name, name.replace("_", " "))
    if name not in SCORES:
        return Column(name, title, "", "", "")
    score = SCORES[name]
    about = f"{score.reading} ({score.source})"
    return Column(name, title, _SHORT_UNITS.get(score.unit, score.unit), _ARROWS[score.direction], about)


def is_share(name: str) -> bool:
    """Whether values of this column lie between 0 and 1."""
    unit = SCORES[name].unit if name in SCORES else ""
    return unit.startswith("share") or unit in ("BLEU", "probability")


def number_text(name: str, value: Any) -> str:
    """A number of a column in the digits that it deserves; decodings and other words in words."""
    if value is None:
        return ""
    if name == "decoding":
        return decoding_text(value)
    if name == "trainable_parameters":
        return f"{value / 1e6:.3g}M" if value >= 1e5 else f"{value:,}"
    if isinstance(value, str | bool) or name in _DECLARED:
        return f"{value:.1f}" if name == "minutes" else value_text(value)
    if isinstance(value, int):
        return f"{value:,}"
    if is_share(name) or name.startswith(("preferred", "train_loss")):
        return f"{value:.3f}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if name.startswith(("longest", "original_longest", "loop", "perplexity")):
        return f"{value:.1f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"

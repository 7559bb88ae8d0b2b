"""Named models and datasets that need no network, and the defaults of everything else."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, replace
from typing import Any

from rayfit.identity import DOMAIN_VERSION, EXTRACTION_VERSION


@dataclass(frozen=True, kw_only=True)
class MadeModel:
    """A small Llama that rayfit trains itself, once per storage, on the embedded corpus.

    Sizes are those of `LlamaConfig`; embeddings are tied; the tokenizer is a byte-level BPE of `vocabulary_size`
    trained on the training documents. The schedule is a linear warm-up, then a cosine down to `final_share` of
    `learning_rate`; batches are random windows of the joined training documents.

    With a `base`, that preset's weights and tokenizer are the start, and batches are pairs of a definition's first
    line and its docstring, of which the docstring is learned.
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_updates: int
    vocabulary_size: int = 2048
    context_window: int = 1024
    batch_size: int = 8
    sequence_length: int = 256
    learning_rate: float = 4e-3
    warmup_updates: int = 50
    final_share: float = 0.05
    weight_decay: float = 0.1
    seed: int = 0
    base: str = ""

    def declared(self) -> dict[str, Any]:
        """Everything that decides what is made, beside the corpus and the base."""
        settings = asdict(self)
        del settings["base"]  # declared as a whole beside this, not by its name
        return settings

    @property
    def num_parameters(self) -> int:
        """Parameters, the tied embedding counted once."""
        attention = 4 * self.hidden_size**2
        mlp = 3 * self.hidden_size * self.intermediate_size
        norms = 2 * self.hidden_size
        return (
            self.vocabulary_size * self.hidden_size
            + self.num_layers * (attention + mlp + norms)
            + self.hidden_size
        )


_PYDOC_05M = MadeModel(hidden_size=96, intermediate_size=256, num_layers=3, num_heads=4, num_updates=300)
_PYDOC_1M = MadeModel(hidden_size=128, intermediate_size=352, num_layers=4, num_heads=4, num_updates=1000)

MADE_MODELS: dict[str, MadeModel] = {
    "pydoc-0.5m": _PYDOC_05M,
    "pydoc-1m": _PYDOC_1M,
    "pydoc-2m": MadeModel(
        hidden_size=192,
        intermediate_size=512,
        num_layers=4,
        num_heads=6,
        num_updates=1300,
        weight_decay=1.0,  # at 0.1 it learns its text by heart and ends no better than pydoc-1m
    ),
    "pydoc-0.5m-instruct": replace(
        _PYDOC_05M, base="pydoc-0.5m", num_updates=200, learning_rate=1e-3, warmup_updates=20
    ),
    "pydoc-1m-instruct": replace(
        _PYDOC_1M, base="pydoc-1m", num_updates=700, learning_rate=1e-3, warmup_updates=20
    ),
}

# Sweep defaults of the embedded models; everything else gets the paper's learning rate (section 3).
MADE_LEARNING_RATE = 3e-3
PAPER_LEARNING_RATE = 1e-6


@dataclass(frozen=True, kw_only=True)
class DatasetPreset:
    """A domain of what is installed with Python, with the text settings that suit it."""

    about: str
    span_characters: int
    held_out_share: float = 0.2


# `span_characters` is such that the poorest span gives 256 tokens under the embedded models' tokenizer.
DATASETS: dict[str, DatasetPreset] = {
    "pydoc": DatasetPreset(
        about="the documentation of the Python that runs rayfit: language topics and standard-library docstrings",
        span_characters=1000,
    ),
    "topics": DatasetPreset(
        about=(
            "the language reference alone; all but 14 of its spans were pretrained on by the embedded models or repeat "
            "such text, so --contexts and --validation-rows must be few"
        ),
        span_characters=1000,
    ),
    "docstrings": DatasetPreset(about="standard-library docstrings alone", span_characters=1000),
    "code": DatasetPreset(
        about="the standard library's source without docstrings and comments", span_characters=1000
    ),
    "comments": DatasetPreset(about="the comments of the standard library's source", span_characters=900),
}


def declared_text(name: str) -> dict[str, Any]:
    """Return what names a dataset of `DATASETS` without reading it: versions of the interpreter and of what reads it."""
    whole = {"pydoc": platform.python_version(), "extraction": EXTRACTION_VERSION}
    return whole if name == "pydoc" else {**whole, "domain": name, "domain_version": DOMAIN_VERSION}


# Documents at the front of a hub dataset among which samples are chosen (`--pool`).
DEFAULT_POOL = 50_000

LOCAL_SPAN_CHARACTERS = 1500
# A quarter, so that a few thousand short passages still give the 164 held-out spans of an evaluation.
LOCAL_HELD_OUT_SHARE = 0.25

# Held-out rows and contexts per domain.
EVALUATION_SIZES = {"ci": (64, 100), "laptop": (64, 100), "paper": (128, 100)}

# What the paper's main experiments train and evaluate on (sections 3 and 4): presets of rayfit/hub_presets.py.
PAPER_TEXTS = {"dataset": "fiction", "eval_datasets": ("fiction", "wikipedia", "bbc-news")}

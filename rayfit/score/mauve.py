"""MAUVE, how alike generated and true texts are as two clouds of features, where the features can be had."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rayfit.score.statistics import Estimate

FEWEST_TEXTS = 20
"""The package makes a cluster per ten texts; below two clusters there is nothing to compare."""

_SEED = 25
"""Of the package's clusters; its own default, said here so that none of its releases changes it."""

NO_INTERVAL = "MAUVE compares two sets of texts and has no interval over texts"


def mauve(
    texts: Sequence[str],
    truths: Sequence[str],
    *,
    model_path: str | Path | None = None,
) -> Estimate:
    """MAUVE of generated against true texts by the package mauve-text: in (0, 1], higher is more alike.

    Pillutla et al. 2021 (MAUVE: Measuring the Gap Between Neural Text and Human Text), with the package's defaults:
    a cluster per ten texts, scaling 5, 25 points of the curve. Features are the last hidden state at the last token
    of each text. The standard, with which other people's numbers can be compared, is GPT-2 large:
    `model_path` is a local Hugging Face directory of it, or of another model, whose numbers then compare only with
    themselves.

    Null with the reason: without mauve-text, without a model, for fewer than 20 texts on a side, and where a text
    is empty. The number depends on how many texts there are (it falls with few); compare arms of the same number.

    Raises RayfitError where the directory holds no model.
    """
    num_texts = min(len(texts), len(truths))
    if importlib.util.find_spec("mauve") is None:
        return _absent(num_texts, "MAUVE needs the package mauve-text: pip install 'rayfit[mauve]'")
    if num_texts < FEWEST_TEXTS:
        return _absent(num_texts, f"MAUVE needs {FEWEST_TEXTS} texts or more on either side, got {num_texts}")
    if model_path is None:
        return _absent(
            num_texts,
            "MAUVE needs the features of a language model (its standard is gpt2-large); none was given",
        )
    empty = sum(not text.strip() for text in [*texts, *truths])
    if empty:
        return _absent(num_texts, f"MAUVE: {empty} of the texts are empty and have no features")
    # Only here, as nothing else of this module needs torch.
    from rayfit.score.mauve_features import last_hidden_states

    value = _by_package(*last_hidden_states(model_path, texts, truths))
    return Estimate(value, None, None, num_texts, 0, NO_INTERVAL)


def _by_package(of_texts: np.ndarray, of_truths: np.ndarray) -> float:
    # The package and what it imports warn about their own dependencies and about few texts, and print.
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        package = importlib.import_module("mauve")
        return float(package.compute_mauve(p_features=of_texts, q_features=of_truths, seed=_SEED).mauve)


def _absent(num_texts: int, reason: str) -> Estimate:
    return Estimate(None, None, None, 0, num_texts, reason)

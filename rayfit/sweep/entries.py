"""Scores as they stand in records: value, interval, number of texts, and why a number is missing."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import torch

from rayfit.score.statistics import Estimate, bootstrap_mean

Entry = dict[str, Any]
Scores = dict[str, Entry]


def as_entry(estimate: Estimate) -> Entry:
    """An estimate as it stands in a record."""
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "count": estimate.num_texts,
        "reason": estimate.reason,
    }


def missing(reason: str) -> Entry:
    """A score that was not measured, and why."""
    return {"value": None, "low": None, "high": None, "count": 0, "reason": reason}


def mean_entry(values_BT: torch.Tensor) -> Entry:
    """The mean over all positions with the bootstrap interval over texts, which are all of one length."""
    return as_entry(bootstrap_mean(pl.Series(values_BT.double().mean(dim=1).numpy())))


def exp_entry(entry: Entry) -> Entry:
    """An entry of mean negative log-likelihood as perplexity; exp is monotone, so the interval goes with it."""
    return {
        **entry,
        **{key: None if entry[key] is None else math.exp(entry[key]) for key in ("value", "low", "high")},
    }


def frame_entries(aggregates: pl.DataFrame) -> Scores:
    """Rows of `score.text.aggregate_scores`, one domain's, by score."""
    return {
        row["score"]: {
            "value": row["value"],
            "low": row["low"],
            "high": row["high"],
            "count": row["num_texts"],
            "reason": row["reason"],
        }
        for row in aggregates.iter_rows(named=True)
    }

from __future__ import annotations

from typing import Any

from rayfit.findings.labels import (
    group_text,
    label,
    phrase,
    telling,
    telling_each,
    who_text,
)
from rayfit.records.sweep import Row
from tests.rows import row


def test_what_follows_from_another_column_tells_nothing() -> None:
    rows = [row("trained", samples=n, epochs=800 / n, seed=seed) for n in (8, 32) for seed in (0, 1)]
    assert telling(rows) == ["samples"]
    assert telling(rows, but=("samples",)) == []


def test_columns_that_vary_on_their_own_are_all_told() -> None:
    rows = [row("trained", samples=n, learning_rate=rate) for n in (8, 32) for rate in (1e-3, 3e-3)]
    assert telling(rows) == ["samples", "learning_rate"]
    assert phrase(rows[1], telling(rows)) == "8 sequences, rate 0.003"


def test_what_all_trials_share_is_not_told_because_the_original_lacks_it() -> None:
    rows = [
        row("original", decoding="nucleus"),
        row("original"),
        row("trained", samples=8, adapter="lora"),
        row("trained", samples=8, adapter="none"),
    ]
    assert telling_each(rows) == ["adapter", "decoding"]
    assert telling_each(rows, but=("decoding",)) == ["adapter"]


def test_no_arm_is_called_hyperfitted_that_is_not() -> None:
    assert who_text(row("trained", hyperfitted=True)) == "hyperfitted"
    assert who_text(row("trained", hyperfitted=False)) == "trained, not hyperfitted"
    assert who_text(row("trained", hyperfitted=None)) == "trained"
    assert who_text(row("trained", update=250)) == "along training"
    assert who_text(row("trained", update=250, early_stopped=True)) == "early-stopped"
    assert label(row("original", decoding="nucleus"), ["decoding"]) == "original model, nucleus"


def test_seeds_that_ended_differently_are_counted() -> None:
    def ended(hyperfitted: bool, **more: Any) -> Row:
        return row("trained", hyperfitted=hyperfitted, **more)

    assert group_text([ended(True), ended(True)]) == "hyperfitted"
    assert group_text([ended(True), ended(False), ended(False)]) == "trained, hyperfitted in 1 of 3 seeds"
    assert group_text([ended(True), ended(False, status="FAILED")]) == "hyperfitted"
    kept = [ended(False, early_stopped=early, update=8) for early in (True, False)]
    assert group_text(kept) == "along training, early-stopped in 1 of 2 seeds"

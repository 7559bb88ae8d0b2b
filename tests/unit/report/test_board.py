from __future__ import annotations

from typing import Any

from rayfit.records.sweep import Row
from rayfit.report.board import Board, board, headlines
from tests.rows import row


def _columns(made: Board) -> list[str]:
    return [column.name for column in (*made.declared, *made.scores)]


def _texts(made: Board, name: str) -> list[str]:
    place = [column.name for column in made.scores].index(name)
    return [line.cells[place].text if not line.failed else "" for line in made.lines]


def _trial(samples: int, **values: Any) -> Row:
    own = {"trial_id": f"n{samples}", "samples": samples, "updates": 80, "epochs": 640 / samples, "seed": 0}
    return row("trained", **{**own, "ttr_last_96": (0.6, 0.55, 0.65), **values})


def test_what_varies_is_a_column_and_what_does_not_is_said_once() -> None:
    made = board([row("truth", ttr_last_96=0.7), _trial(8), _trial(32)], [])
    assert [column.name for column in made.declared] == ["samples", "epochs"]
    assert ("updates", "80") in made.held and ("decoding", "greedy") in made.held
    assert [line.declared for line in made.lines] == [("", ""), ("8", "80"), ("32", "20")]


def test_scores_that_no_row_has_are_no_column_and_wanted_ones_are() -> None:
    made = board([_trial(8, rep_3=0.1)], ["rep_3", "top_1_mass", "samples"])
    assert _columns(made) == ["ttr_last_96", "rep_3"]


def test_numbers_carry_their_interval_or_their_spread() -> None:
    made = board([_trial(8), _trial(32), _trial(32, seed=1, ttr_last_96=0.7)], [])
    first, second = (line.cells[0] for line in made.lines)
    assert (first.text, first.below) == ("0.600", "0.550\u20130.650")
    assert (second.text, second.below) == ("0.650", "± 0.071")
    assert [line.seeds for line in made.lines] == [1, 2] and made.several_seeds
    assert made.width == 1 + 2 + 1 + 1  # texts of; samples, epochs; TTR; seeds


def test_a_failure_says_why_and_shows_no_number() -> None:
    failed = _trial(32, status="FAILED", reason="the loss is nan", ttr_last_96=None)
    made = board([_trial(8), failed], [])
    assert [line.failed for line in made.lines] == [False, True]
    assert made.lines[1].trouble == "FAILED: the loss is nan"


def test_some_seeds_that_failed_are_counted() -> None:
    made = board(
        [_trial(8), _trial(8, seed=1, status="FAILED", reason="out of memory", ttr_last_96=None)], []
    )
    (line,) = made.lines
    assert not line.failed and line.trouble == "1 of 2 seeds FAILED: out of memory"
    assert line.cells[0].text == "0.600"


def test_what_was_not_measured_has_a_reason_and_no_number() -> None:
    made = board([row("original", reason="has no rows of its own"), _trial(8, longest_overlap_mean=5.0)], [])
    assert _texts(made, "longest_overlap_mean") == ["", "5.0"]
    assert made.lines[0].cells[-1].reason == "has no rows of its own"


def test_several_models_and_domains_are_headings_with_pooled_last() -> None:
    rows = [
        row(who, model=model, domain=domain, trial_id=None, ttr_last_96=0.5)
        for domain in ("pooled", "news")
        for model in ("tiny", "large")
        for who in ("original", "trained")
    ]
    made = board(rows, [])
    assert [title for title, _ in made.sections] == [
        "tiny, on news",
        "tiny, on pooled",
        "large, on news",
        "large, on pooled",
    ]
    assert all([line.who for line in lines] == ["original", "trained"] for _, lines in made.sections)
    assert made.declared == () and len(made.lines) == 8
    assert [title for title, _ in board(rows[:2], []).sections] == [""]


def test_what_an_arms_name_says_is_not_said_again() -> None:
    rows = [
        _trial(8, arm=name, adapter=adapter, trainable_parameters=count, repeat=0, learning_rate=rate)
        for name, adapter, count in (("all weights", None, 1_066_112), ("LoRA", "lora:rank=32", 315_392))
        for rate in (1e-3, 3e-3)
    ]
    made = board(rows, [])
    assert [column.name for column in made.declared] == ["arm", "learning_rate", "trainable_parameters"]
    assert made.lines[0].declared == ("all weights", "0.001", "1.07M")
    assert "repeat" not in dict(made.held)


def test_headlines_are_of_plain_greedy_text_and_of_hyperfitted_trials() -> None:
    rows = [
        row("truth", ttr_last_96=0.7),
        row("original", ttr_last_96=0.2),
        row("original", decoding="nucleus", ttr_last_96=0.5),
        _trial(8, ttr_last_96=0.55, longest_overlap_mean=80.0, original_longest_overlap_mean=3.0),
        _trial(32, ttr_last_96=0.65, longest_overlap_mean=20.0, original_longest_overlap_mean=4.0),
        _trial(
            64,
            ttr_last_96=0.1,
            hyperfitted=False,
            longest_overlap_mean=5.0,
            original_longest_overlap_mean=9.0,
        ),
        _trial(8, decoding="greedy:block=W1", ttr_last_96=0.9, longest_overlap_mean=5.0),
    ]
    ttr, overlap = headlines(rows)
    assert [text for _, _, text in ttr.texts] == ["0.700", "0.200", "0.550\u20130.650"]
    assert [(who, text) for who, _, text in overlap.texts] == [
        ("original", "3.0\u20134.0"),
        ("trained", "20.0\u201380.0"),
    ]


def test_a_headline_of_trials_that_are_not_hyperfitted_says_so() -> None:
    (ttr,) = headlines([_trial(8, hyperfitted=False)])
    assert ttr.texts == (("trained", "trained, not hyperfitted", "0.600"),)


def test_nothing_finished_has_no_headline() -> None:
    assert headlines([row("truth", ttr_last_96=0.7)]) == []

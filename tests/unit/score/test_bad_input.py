"""Each kind of bad input that a score may meet: an error that names it, or null with the reason."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
import torch

from rayfit.errors import RayfitError
from rayfit.score.agreement import agreement_matrix
from rayfit.score.arm import arm_scores
from rayfit.score.logits import token_statistics
from rayfit.score.pairs import choice_statistics
from rayfit.score.text import index_rows, score_texts
from rayfit.score.tokens import token_texts

ROWS = np.random.default_rng(0).integers(0, 40, (6, 100)).tolist()


def scored(*texts, rows=ROWS, vocabulary_size=40):
    frame = pl.DataFrame(
        {"context_id": range(len(texts)), "domain": ["a"] * len(texts), "token_ids": [*texts]},
        schema_overrides={"token_ids": pl.List(pl.Int64)},
    )
    return score_texts(frame, rows, vocabulary_size=vocabulary_size)


def nulls(frame):
    columns = [name for name in frame.columns if frame[name].is_null().any()]
    return {name for name in columns if name != "score_notes"}


def notes(frame):
    return dict(note.split(": ", 1) for note in frame["score_notes"][0].split("; "))


def test_an_empty_text_has_no_score_and_every_null_its_reason():
    frame = scored([])
    assert nulls(frame) == {*frame.columns} - {"context_id", "domain", "token_ids", "score_notes"}
    # ends_in_loop and exceeded_run are read off loop_period and longest_overlap, whose notes are theirs.
    assert {*notes(frame)} == nulls(frame) - {"ends_in_loop", "exceeded_run"}
    assert all(note.startswith("0 tokens, ") for note in notes(frame).values())
    for name, entry in arm_scores(frame).items():
        assert entry.value is None and entry.reason, name


def test_one_token_has_a_ttr_and_an_overlap_and_a_reason_for_the_rest():
    frame = scored([ROWS[0][0]])
    assert (frame["ttr_last_96"][0], frame["longest_overlap"][0], frame["exceeded_run"][0]) == (1.0, 1, False)
    assert nulls(frame) == {
        *("rep_2", "rep_3", "rep_4", "self_bleu", "self_bleu_in_domain", "dataset_bleu"),
        *("ends_in_loop", "loop_period"),
    }
    assert notes(frame)["dataset_bleu"] == "1 tokens, at least 4 needed"
    assert notes(frame)["ttr_last_96"] == "1 tokens, fewer than the window of 96"


def test_rows_shorter_than_the_window_leave_dataset_bleu_null_with_the_reason():
    text = list(range(30))
    frame = scored(text, text, rows=[row[:95] for row in ROWS])
    assert nulls(frame) == {"dataset_bleu", "loop_period"}
    assert notes(frame)["dataset_bleu"] == "no training row has the 96 tokens of a window"
    entry = arm_scores(frame)["dataset_bleu_mean"]
    assert (entry.value, entry.count, entry.reason) == (None, 0, "no text was measured")
    # One row that has a window is enough.
    assert scored(text, rows=[ROWS[0][:95], ROWS[1]])["dataset_bleu"].null_count() == 0


def test_texts_inside_texts_are_refused():
    for nested in ([[1, [2]]], [[[1, 2], [3, 4]]]):
        with pytest.raises(RayfitError, match=r"token_ids: .*run of token ids"):
            token_texts(nested, "token_ids")


def test_token_ids_outside_the_vocabulary_are_named_in_texts_rows_and_targets():
    with pytest.raises(
        RayfitError, match="token_ids: text 1, position 2: token id 40 is not in the vocabulary"
    ):
        scored([1], [2, 3, 40])
    for rows in ([[1, 2], [3, 41]], np.array([[1, 2], [3, 41]])):
        with pytest.raises(
            RayfitError, match=r"training rows: text 1, position 1: token id 41 .*another tokenizer"
        ):
            index_rows(rows, vocabulary_size=40)
        with pytest.raises(RayfitError, match="training rows: text 1, position 1: token id 41"):
            scored([1], rows=rows)
    with pytest.raises(RayfitError, match="token id -1 is outside 0 to 2147483647"):
        scored([-1])
    with pytest.raises(RayfitError, match="from 3 to 40 do not fit a vocabulary of 40; the tokenizer"):
        token_statistics(torch.zeros(1, 2, 40), torch.tensor([[3, 40]]))


def test_logits_that_are_nan_are_refused_and_never_scored():
    broken = torch.zeros(1, 2, 8)
    broken[0, 1, 3] = math.nan
    choices = torch.zeros(1, 2, dtype=torch.int32)
    for call in (
        lambda: token_statistics(broken, choices.long()),
        lambda: choice_statistics(broken, choices),
    ):
        with pytest.raises(RayfitError, match="logits are not finite"):
            call()


def test_checkpoints_of_different_tokenizers_are_not_compared():
    with pytest.raises(RayfitError, match="the same texts under the same tokenizer"):
        choice_statistics(torch.zeros(1, 2, 8), torch.zeros(1, 3, dtype=torch.int32))
    with pytest.raises(RayfitError, match="do not have the same tokenizer"):
        choice_statistics(torch.zeros(1, 2, 8), torch.tensor([[7, 8]]))
    # Another tokenizer cuts the same text into another number of tokens.
    with pytest.raises(RayfitError, match="the same texts under the same tokenizer"):
        agreement_matrix([np.zeros((1, 5), int), np.zeros((1, 7), int)])

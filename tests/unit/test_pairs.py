"""Agreement, ranks and the matched temperature against brute force in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from rayfit.errors import RayfitError
from rayfit.score import pairs
from rayfit.score.logits import token_statistics
from rayfit.score.pairs import (
    choice_statistics,
    match_temperature,
    mean_entropy,
    pair_scores,
)
from rayfit.scores import score

NAMES = [
    "top_1_agreement",
    "original_rank_not_1_share",
    "original_rank_above_10_share",
    "original_rank_above_200_share",
]


def _logits(seed: int, *shape: int, scale: float = 2.0) -> torch.Tensor:
    # Multiples of 1/8: equal in fp32 and float64, and many of them the same.
    numbers = np.round(8 * scale * np.random.default_rng(seed).standard_normal(shape)) / 8
    return torch.from_numpy(numbers.astype(np.float32))


def _entropy(logits: torch.Tensor, temperature: float) -> float:
    """The definition in float64, one position at a time."""
    entropies = []
    for row in logits.double().numpy().reshape(-1, logits.shape[-1]):
        weights = np.exp((row - row.max()) / temperature)
        p = weights / weights.sum()
        entropies.append(-sum(x * math.log(x) for x in p if x > 0))
    return float(np.mean(entropies))


def _brute_force(original: torch.Tensor, other: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    left, right = original.double().numpy(), other.double().numpy()
    same = np.zeros(left.shape[:2], dtype=bool)
    rank = np.zeros(left.shape[:2], dtype=np.int64)
    for text, position in np.ndindex(*left.shape[:2]):
        row = left[text, position].tolist()
        choice = right[text, position].tolist().index(max(right[text, position]))
        same[text, position] = row.index(max(row)) == choice
        rank[text, position] = 1 + sum(value > row[choice] for value in row)
    return same, rank


def _compared(original: torch.Tensor, other: torch.Tensor) -> pairs.PairStatistics:
    """The original beside another model, of which only the first choices are kept."""
    targets = torch.zeros(other.shape[:2], dtype=torch.int64)
    return choice_statistics(original, token_statistics(other, targets).top_1)


@pytest.mark.parametrize("vocabulary", [1, 2, 7, 300])
@pytest.mark.parametrize("scale", [0.0, 0.5, 4.0])
def test_statistics_and_shares_are_the_brute_force_s(vocabulary: int, scale: float) -> None:
    original, noise = (_logits(seed, 4, 9, vocabulary, scale=scale) for seed in (1, 2))
    other = original + noise
    found = _compared(original, other)
    same, rank = _brute_force(original, other)
    np.testing.assert_array_equal(found.same_choice.numpy(), same)
    np.testing.assert_array_equal(found.original_rank.numpy(), rank)
    scores = pair_scores([found])
    expected = [same.mean(), (rank != 1).mean(), (rank > 10).mean(), (rank > 200).mean()]
    assert list(scores) == NAMES
    for name, value in zip(NAMES, expected, strict=True):
        assert scores[name].value == pytest.approx(value), name
        assert scores[name].num_texts == 4


@pytest.mark.parametrize("vocabulary", [2, 300])
def test_stored_choices_are_enough(vocabulary: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original, other = _logits(1, 4, 9, vocabulary), _logits(2, 4, 9, vocabulary)
    stored = token_statistics(other, torch.zeros(4, 9, dtype=torch.int64)).top_1
    same, rank = _brute_force(original, other)
    # As many positions at once as fit, and then one by one.
    for at_once in (1 << 22, vocabulary):
        monkeypatch.setattr(pairs, "_CHUNK_VALUES", at_once)
        found = choice_statistics(original, stored)
        np.testing.assert_array_equal(found.same_choice.numpy(), same)
        np.testing.assert_array_equal(found.original_rank.numpy(), rank)


def test_choices_of_another_tokenizer_or_of_other_texts_are_refused() -> None:
    original = _logits(1, 2, 3, 5)
    for choice in (-1, 5):
        with pytest.raises(RayfitError, match=r"do not fit the original's vocabulary of 5.*same tokenizer"):
            choice_statistics(original, torch.full((2, 3), choice))
    with pytest.raises(RayfitError, match=r"shape \(2, 3, 5\), the other's choices \(2, 4\)"):
        choice_statistics(original, torch.zeros(2, 4, dtype=torch.int32))
    with pytest.raises(RayfitError, match=r"must be .texts, positions, vocabulary"):
        choice_statistics(_logits(1, 3, 5), torch.zeros(3, 5, dtype=torch.int32))
    for broken in (
        original * math.nan,
        torch.full_like(original, torch.inf),
        torch.full_like(original, -torch.inf),
    ):
        with pytest.raises(RayfitError, match="not finite"):
            choice_statistics(broken, torch.zeros(2, 3, dtype=torch.int32))
    nothing = choice_statistics(torch.zeros(2, 0, 5), torch.zeros(2, 0, dtype=torch.int32))
    assert nothing.original_rank.shape == (2, 0)


def test_intervals_come_from_texts() -> None:
    flags = torch.tensor([[True] * 10, [False] * 10, [True] * 5 + [False] * 5])
    estimate = pair_scores([pairs.PairStatistics(flags, torch.ones(3, 10, dtype=torch.int64))])[
        "top_1_agreement"
    ]
    assert (estimate.value, estimate.low, estimate.high) == (0.5, 0.0, 1.0)


def test_positions_are_pooled_over_batches_of_other_lengths() -> None:
    parts = [_compared(_logits(n, 2, n, 11), _logits(n + 50, 2, n, 11)) for n in (3, 8, 1)]
    same = torch.cat([part.same_choice.flatten() for part in parts])
    found = pair_scores(parts)["top_1_agreement"]
    assert found.value == pytest.approx(same.double().mean().item()) and found.num_texts == 6


def test_texts_without_positions_are_missing() -> None:
    empty = choice_statistics(torch.zeros(2, 0, 5), torch.zeros(2, 0, dtype=torch.int32))
    found = pair_scores([empty, _compared(_logits(1, 1, 4, 5), _logits(1, 1, 4, 5))])
    assert (found["top_1_agreement"].num_texts, found["top_1_agreement"].num_missing) == (1, 2)
    nothing = pair_scores([])["top_1_agreement"]
    assert nothing.value is None and nothing.reason == "no text was measured"


def test_a_choice_that_ties_for_the_first_place_has_rank_1_but_is_another() -> None:
    original = torch.tensor([[[3.0, 3.0, 0.0]]])
    found = _compared(original, torch.tensor([[[0.0, 1.0, 0.0]]]))
    assert not found.same_choice.item() and found.original_rank.item() == 1


def test_a_model_agrees_with_itself_and_agreement_is_symmetric() -> None:
    left, right = _logits(5, 3, 6, 40), _logits(6, 3, 6, 40)
    own = _compared(left, left)
    assert own.same_choice.all() and (own.original_rank == 1).all()
    assert torch.equal(_compared(left, right).same_choice, _compared(right, left).same_choice)


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = _logits(7, 3, 5, 13), _logits(8, 3, 5, 13)
    whole, entropy = _compared(left, right), mean_entropy(lambda: [left], 0.7)
    monkeypatch.setattr(pairs, "_CHUNK_VALUES", 30)
    pieces = _compared(left, right)
    assert torch.equal(whole.same_choice, pieces.same_choice)
    assert torch.equal(whole.original_rank, pieces.original_rank)
    assert mean_entropy(lambda: [left], 0.7) == pytest.approx(entropy)


@pytest.mark.parametrize("temperature", [1e-3, 0.59, 1.0, 3.0, 1e4])
def test_mean_entropy_is_the_definition(temperature: float) -> None:
    logits = _logits(3, 2, 6, 23)
    logits[:, :, ::4] = -torch.inf  # suppressed tokens
    entropy, num_positions = mean_entropy(lambda: [logits[:1], logits[1:]], temperature)
    assert entropy == pytest.approx(_entropy(logits, temperature), abs=1e-6) and num_positions == 12


@pytest.mark.parametrize("scale", [0.01, 2.0, 80.0])
@pytest.mark.parametrize("wanted", [0.003, 0.862, 2.0, 3.0])
def test_the_matched_temperature_gives_the_target(scale: float, wanted: float) -> None:
    # without ties, so that every entropy from 0 to ln 23 = 3.135 can be had
    logits = scale * torch.randn(3, 7, 23, generator=torch.Generator().manual_seed(1))
    found = match_temperature(lambda: iter([logits[:2], logits[2:]]), wanted)
    assert abs(_entropy(logits, found.temperature) - wanted) <= 1e-3 + 1e-6
    assert abs(found.entropy_nats - wanted) <= 1e-3


def test_the_temperature_that_was_applied_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = _logits(4, 5, 9, 50)
    target, _ = mean_entropy(lambda: [logits / 0.59], 1.0)
    assert match_temperature(lambda: [logits], mean_entropy(lambda: [logits], 1.0)[0]).temperature == 1.0
    monkeypatch.setattr(pairs, "_TOLERANCE_NATS", 1e-6)
    found = match_temperature(lambda: [logits], target)
    assert found.temperature == pytest.approx(0.59, abs=1e-5)


@pytest.mark.parametrize("temperature", [1e-3, 0.3, 0.59, 1.7, 100.0])
def test_greedy_is_the_same_at_any_temperature(temperature: float) -> None:
    logits = _logits(9, 4, 8, 300, scale=4.0)
    found = _compared(logits, logits / temperature)
    assert found.same_choice.all() and (found.original_rank == 1).all()


@pytest.mark.parametrize("target", [-0.1, 0.05, 3.0, math.nan, math.inf])
def test_a_target_out_of_reach_is_refused_with_the_reach(target: float) -> None:
    logits = torch.zeros(1, 10, 8)
    logits[0, :9, 0] = 1.0
    # nine positions go to 0 and one is flat: from ln(8) / 10 = 0.208 to ln 8 = 2.079 nats
    with pytest.raises(RayfitError, match=r"out of reach.*between 0.207944 and 2.07944 nats"):
        match_temperature(lambda: [logits], target)


def test_the_borders_of_the_reach_can_be_had() -> None:
    logits = _logits(2, 2, 3, 8)
    flat = match_temperature(lambda: [logits], math.log(8))
    assert flat.entropy_nats == pytest.approx(math.log(8), abs=1e-3)
    certain = torch.tensor([[0.0, 4.0]])
    assert match_temperature(lambda: [certain], 0.0).entropy_nats <= 1e-3


def test_a_temperature_beyond_all_bounds_is_refused() -> None:
    logits = torch.tensor([[0.0, 1e-9]])
    with pytest.raises(RayfitError, match="no temperature from 1e-06 to 1e"):
        match_temperature(lambda: [logits], 0.1)


def test_logits_that_cannot_be_read_again_are_refused() -> None:
    once: Iterator[torch.Tensor] = iter([_logits(1, 2, 3, 8)])
    with pytest.raises(RayfitError, match="no logits"):
        match_temperature(lambda: once, 0.5)
    fewer = iter([[_logits(1, 2, 3, 8)], [_logits(1, 1, 3, 8)]])
    with pytest.raises(RayfitError, match="6 positions at first and 3 later"):
        match_temperature(lambda: next(fewer), 0.5)
    with pytest.raises(RayfitError, match="not finite"):
        match_temperature(lambda: [torch.full((1, 4), math.nan)], 0.5)


@pytest.mark.parametrize("name", [*NAMES, "matched_temperature"])
def test_each_name_is_in_the_registry(name: str) -> None:
    assert score(name).direction == "neither"

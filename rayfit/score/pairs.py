"""Two checkpoints on the same texts: where they choose alike, and the temperature that makes them equally sharp.

Imports torch, as `logits` does. Shapes: B texts, T predicted positions, V vocabulary
entries, P = B x T positions flattened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from rayfit.errors import RayfitError
from rayfit.score.statistics import Estimate, bootstrap_mean

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 1e-6, 1e6
_TOLERANCE_NATS = 1e-3
_CHUNK_VALUES = 1 << 22

Batches = Callable[[], Iterable[torch.Tensor]]


@dataclass(frozen=True)
class PairStatistics:
    """Comparisons per predicted position, on CPU, shape (B, T).

    `same_choice`: bool, whether both models' most probable tokens (lowest id on ties) are the same. `original_rank`:
    int64, the rank of the other model's choice in the original: 1 + the number of entries whose logit is strictly
    larger there. So a choice that ties for the first place has rank 1 though it may not be the same.
    """

    same_choice: torch.Tensor
    original_rank: torch.Tensor


PAIR_SCORES: dict[str, Callable[[PairStatistics], torch.Tensor]] = {
    "top_1_agreement": lambda given: given.same_choice,
    "original_rank_not_1_share": lambda given: given.original_rank > 1,
    "original_rank_above_10_share": lambda given: given.original_rank > 10,
    "original_rank_above_200_share": lambda given: given.original_rank > 200,
}
"""Every score of a pair of checkpoints: which positions, bool (B, T), count towards a share of all of them."""


@torch.no_grad()
def choice_statistics(original_BTV: torch.Tensor, choice_BT: torch.Tensor) -> PairStatistics:
    """Compare the original with another model's most probable tokens (the paper's section 6.1, Figure 5).

    `original_BTV`: the original's logits, any float dtype, read in fp32. `choice_BT`: any integer dtype, the other's
    first choices at the same positions of the same texts (`TokenStatistics.top_1`), so that one model in memory is
    enough. Raises RayfitError for shapes that differ, ids outside the vocabulary and logits that are not finite (-inf,
    a suppressed token, is allowed).
    """
    if original_BTV.ndim != 3 or original_BTV.shape[:2] != choice_BT.shape:
        raise RayfitError(
            f"logits of the original have shape {tuple(original_BTV.shape)}, the other's choices "
            f"{tuple(choice_BT.shape)}; they must be (texts, positions, vocabulary) and (texts, positions) of the "
            "same texts under the same tokenizer"
        )
    num_entries = original_BTV.shape[-1]
    choice_P = choice_BT.reshape(-1).to(device=original_BTV.device, dtype=torch.int64)
    if choice_P.numel() and not 0 <= int(choice_P.min()) <= int(choice_P.max()) < num_entries:
        raise RayfitError(
            f"the other's choices are ids from {int(choice_P.min())} to {int(choice_P.max())}, which do not fit the "
            f"original's vocabulary of {num_entries}; the two do not have the same tokenizer"
        )
    same, rank = [], []
    for original_PV, picked_P in zip(
        _chunks(original_BTV), choice_P.split(_positions_at_once(num_entries)), strict=True
    ):
        of_choice_P1 = original_PV.gather(-1, picked_P.unsqueeze(-1))
        rank.append(((original_PV > of_choice_P1).sum(dim=-1) + 1).cpu())
        same.append((original_PV.argmax(dim=-1) == picked_P).cpu())
    return PairStatistics(torch.cat(same).reshape(choice_BT.shape), torch.cat(rank).reshape(choice_BT.shape))


def pair_scores(parts: Iterable[PairStatistics]) -> dict[str, Estimate]:
    """The shares of `PAIR_SCORES` over all positions of all texts, by name; each in [0, 1].

    Positions are pooled; the interval comes from resampling texts. `parts` are batches of texts, whose lengths may
    differ from batch to batch; a longer text then weighs more. Texts without a position count as missing.
    """
    counts: dict[str, list[int]] = {name: [] for name in PAIR_SCORES}
    lengths: list[int] = []
    for part in parts:
        for name, score in PAIR_SCORES.items():
            counts[name] += score(part).sum(dim=1).tolist()
        lengths += [part.same_choice.shape[1]] * len(part.same_choice)
    return {name: bootstrap_mean(_pooled(found, lengths)) for name, found in counts.items()}


def _pooled(counts: Sequence[int], lengths: Sequence[int]) -> list[float | None]:
    """One value per text, whose mean is the pooled share: the text's count over the mean length."""
    filled = [length for length in lengths if length]
    mean_length = sum(filled) / max(len(filled), 1)
    return [count / mean_length if length else None for count, length in zip(counts, lengths, strict=True)]


@dataclass(frozen=True)
class MatchedTemperature:
    """`temperature`: what logits are divided by; `entropy_nats`: the mean entropy that this gives; `num_passes`:
    how many times all logits were read to find it."""

    temperature: float
    entropy_nats: float
    num_passes: int


@torch.no_grad()
def mean_entropy(batches: Batches, temperature: float) -> tuple[float, int]:
    """(mean entropy in nats of softmax(logits / `temperature`) over all positions, number of positions).

    `batches`: each call gives all logits anew, in tensors (..., V) of any float dtype; summed in float64. Raises
    RayfitError where there is no position or logits are not finite.
    """
    total, num_positions = 0.0, 0
    for logits_PV in _all_chunks(batches):
        # From the maximum, so that small temperatures neither overflow nor round the leading entries.
        scaled_PV = (logits_PV - logits_PV.amax(dim=-1, keepdim=True)) / temperature
        log_p_PV = torch.log_softmax(scaled_PV, dim=-1)
        # 0 * -inf must count as 0.
        entropy_P = -(log_p_PV.exp() * log_p_PV.clamp_min(torch.finfo(torch.float32).min)).sum(dim=-1)
        total += float(entropy_P.double().sum())
        num_positions += len(entropy_P)
    return total / num_positions, num_positions


def match_temperature(batches: Batches, target_nats: float) -> MatchedTemperature:
    """The temperature at which the original is as sharp as another model (arXiv 2605.22579).

    Bisection, on the logarithm of T, until the mean entropy of softmax(logits / T) differs from `target_nats` (the
    other model's mean entropy on the same positions) by at most 0.001 nats. The entropy never falls as T rises.
    `batches` gives the original's logits, as for `mean_entropy`; it is called once per pass, about fifteen times.
    Greedy choices are the same at every T.

    Raises RayfitError for a target that no temperature gives (below the mean log of the entries that tie for the
    first place, above that of all entries not -inf) or none from 1e-6 to 1e6, and where two calls of `batches` give
    different numbers of positions.
    """
    low, high, num_positions = _reachable(batches)
    # A billionth, since the limits are themselves rounded sums.
    if not low - 1e-9 <= target_nats <= high + 1e-9:
        raise RayfitError(
            f"matched temperature: a mean entropy of {target_nats:.6g} nats is out of reach; at any temperature these "
            f"logits give between {low:.6g} and {high:.6g} nats"
        )
    too_low: float | None = None
    too_high: float | None = None
    temperature, num_passes = 1.0, 1
    while LOWEST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE:
        entropy, found = mean_entropy(batches, temperature)
        num_passes += 1
        if found != num_positions:
            raise RayfitError(
                f"matched temperature: the batches held {num_positions} positions at first and {found} later; "
                "each call must give all of the same logits again"
            )
        if abs(entropy - target_nats) <= _TOLERANCE_NATS:
            return MatchedTemperature(temperature, entropy, num_passes)
        if entropy < target_nats:
            too_low = temperature
        else:
            too_high = temperature
        if too_low is not None and too_high is not None and too_high / too_low < 1 + 1e-12:
            break
        temperature = _between(too_low, too_high)
    raise RayfitError(
        f"matched temperature: no temperature from {LOWEST_TEMPERATURE:g} to {HIGHEST_TEMPERATURE:g} gives "
        f"{target_nats:.6g} nats to {_TOLERANCE_NATS:g}"
    )


def _between(too_low: float | None, too_high: float | None) -> float:
    if too_low is None:
        assert too_high is not None
        return too_high / 4
    return too_low * 4 if too_high is None else math.sqrt(too_low * too_high)


@torch.no_grad()
def _reachable(batches: Batches) -> tuple[float, float, int]:
    """Mean entropies (nats) in the limits of temperature 0 and of endless temperature, and number of positions."""
    low = high = 0.0
    num_positions = 0
    for logits_PV in _all_chunks(batches):
        tied_P = (logits_PV == logits_PV.amax(dim=-1, keepdim=True)).sum(dim=-1)
        possible_P = (logits_PV > -torch.inf).sum(dim=-1)
        low += float(tied_P.double().log().sum())
        high += float(possible_P.double().log().sum())
        num_positions += len(logits_PV)
    return low / num_positions, high / num_positions, num_positions


def _all_chunks(batches: Batches) -> Iterator[torch.Tensor]:
    """All positions of all batches; raises RayfitError where there is none."""
    empty = True
    for batch in batches():
        if batch.numel():
            empty = False
            yield from _chunks(batch)
    if empty:
        raise RayfitError("matched temperature: the batches hold no logits")


def _chunks(logits: torch.Tensor) -> Iterator[torch.Tensor]:
    """(..., V) as (P, V) in fp32, a few positions at a time; raises RayfitError where they are not finite."""
    num_entries = logits.shape[-1]
    for logits_PV in logits.reshape(-1, num_entries).split(_positions_at_once(num_entries)):
        chunk = logits_PV.float()
        if chunk.shape[0] and not torch.isfinite(chunk.amax(dim=-1)).all():
            raise RayfitError(
                "the model's logits are not finite (NaN or infinite); the checkpoint cannot be scored"
            )
        yield chunk


def _positions_at_once(num_entries: int) -> int:
    return max(1, _CHUNK_VALUES // num_entries)

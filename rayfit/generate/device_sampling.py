"""Drawing where the logits are: `sampling.draw` in torch, for devices that would wait while a CPU core selects."""

from __future__ import annotations

import torch

from rayfit.decoding import Decoding

# Rows are drawn in parts that hold no more than this at once. A logit takes at most so many bytes, where masses are
# sorted: 33 for what is made of it, the rest for what the sort itself may need.
_ROOM_BYTES = 256 * 2**20
_BYTES_EACH = 64


def draw_on_device(scores: torch.Tensor, numbers: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """One token id per row, int64 [rows], for float32 `scores` [rows, vocabulary] and `numbers` float64 [rows].

    Both are on one device, and nothing is read from it. The rule is that of `sampling.draw`, ties included. But a
    device adds in another order, and the last bit of its `exp` may differ: the two may choose differently where a
    number, top_p or min_p is within 1e-12 of a border between ids, or two masses within that of each other.
    """
    rows = max(1, _ROOM_BYTES // (_BYTES_EACH * scores.shape[1]))
    parts = zip(scores.split(rows), numbers.split(rows), strict=True)
    return torch.cat([_draw(*part, decoding) for part in parts])


def _draw(scores: torch.Tensor, numbers: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    top_k, top_p = decoding.top_k or 0, decoding.top_p
    ids = _highest(scores, top_k) if 0 < top_k < scores.shape[1] else None
    mass = _masses(scores if ids is None else scores.gather(1, ids), decoding.temperature or 1.0)
    if top_p is not None and top_p < 1.0:
        _keep_nucleus(mass, top_p)
    if decoding.min_p is not None:
        mass.masked_fill_(mass < decoding.min_p, 0.0)
    places = _walk(mass, numbers)
    return places if ids is None else ids.gather(1, places[:, None])[:, 0]


def _highest(scores: torch.Tensor, count: int) -> torch.Tensor:
    """The ids of the `count` highest scores, ties to the lowest ids; int64 [rows, count], ascending.

    One key orders by score and then by id, so that equal scores hide no border from `topk`, which itself
    chooses any of them. An id of score -inf may be among them; it has no mass.
    """
    vocabulary = scores.shape[1]
    bits = (scores + 0.0).view(torch.int32)  # the sum makes -0.0 the 0.0 that it equals
    # As integers negative floats run backwards.
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    backwards = torch.arange(vocabulary - 1, -1, -1, device=scores.device)
    keys = (ordered.long() << 32).add_(backwards)
    highest = keys.topk(count, dim=1, sorted=False).values
    return (vocabulary - 1 - (highest & 0xFFFFFFFF)).sort(dim=1).values


def _masses(scores: torch.Tensor, temperature: float) -> torch.Tensor:
    """Probabilities times a constant, the highest being 1; float64, ours to change."""
    mass = scores.double()
    # A tensor, as dividing by a number is multiplying by its rounded inverse on some devices.
    divisor = torch.full((1,), temperature, dtype=torch.float64, device=scores.device)
    return mass.sub_(mass.amax(dim=1, keepdim=True)).div_(divisor).exp_()


def _keep_nucleus(mass: torch.Tensor, top_p: float) -> None:
    """Leave the fewest most probable that hold `top_p` of the mass, ties to the lowest; make all else 0."""
    ordered, order = mass.sort(dim=1, descending=True, stable=True)
    held = ordered.cumsum(dim=1)
    needed = (held < top_p * held[:, -1:]).sum(dim=1, keepdim=True) + 1
    places = torch.arange(mass.shape[1], device=mass.device)
    mass.scatter_(1, order, ordered.masked_fill_(places >= needed, 0.0))


def _walk(mass: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """The first place at which the mass, summed along the places, exceeds `numbers` of the whole; int64 [rows].

    Sums made in parallel may rise where there is no mass and end before the goal: a place without mass is never
    chosen, and the last one with mass is where no sum exceeds the goal.
    """
    held = mass.cumsum(dim=1)
    has_mass = mass > 0.0
    exceeds = (held > numbers[:, None] * held[:, -1:]).logical_and_(has_mass)
    places = torch.arange(mass.shape[1], device=mass.device)
    first = torch.where(exceeds, places, mass.shape[1]).amin(dim=1)
    last = torch.where(has_mass, places, -1).amax(dim=1)
    return torch.minimum(first, last)

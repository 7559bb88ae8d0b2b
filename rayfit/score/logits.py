"""Numbers read off next-token logits. With `pairs` and `mauve_features` all of this room that imports torch; training
uses it too.

Shapes: B sequences, T predicted positions, V vocabulary entries, P = B x T positions flattened.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rayfit.errors import RayfitError
from rayfit.scores import TOP_K

# Values that are worked on at once: what a core's cache holds; on a GPU enough to keep it busy.
_CHUNK_ON_CPU, _CHUNK_ELSEWHERE = 1 << 18, 1 << 22
_SMALLEST_LOG = -87.0  # of a probability

NOT_FINITE = "the model's logits are not finite (NaN or infinite); the checkpoint cannot be scored"


def _positions_at_once(logits_BTV: torch.Tensor) -> int:
    values = _CHUNK_ON_CPU if logits_BTV.device.type == "cpu" else _CHUNK_ELSEWHERE
    return max(1, values // logits_BTV.shape[-1])


@dataclass(frozen=True)
class TokenStatistics:
    """Numbers per predicted position, float64 on CPU unless said otherwise, shape (B, T).

    `nll_nats`: negative log-likelihood of the true token. `entropy_nats`: entropy of the prediction. `correct`:
    bool, whether the most probable token (lowest id on ties) is the true one. `rank`: int64, 1 for the most
    probable; ties count in the true token's favour. `top_mass`: shape (B, T, 3), the summed probability of the 1,
    3 and 5 most probable tokens (the paper's @1, @3, @5, section 5). `top_1`: int32, the id of the most probable token
    (lowest id on ties).
    """

    nll_nats: torch.Tensor
    entropy_nats: torch.Tensor
    correct: torch.Tensor
    rank: torch.Tensor
    top_mass: torch.Tensor
    top_1: torch.Tensor


@torch.no_grad()
def token_statistics(logits_BTV: torch.Tensor, targets_BT: torch.Tensor) -> TokenStatistics:
    """Statistics of predictions against the true tokens.

    `logits_BTV` are the logits *before* each target (already shifted), any float dtype; computed in fp32. Raises
    RayfitError when logits are not finite or a target lies outside the vocabulary.
    """
    num_entries = logits_BTV.shape[-1]
    if targets_BT.numel() and not 0 <= int(targets_BT.min()) <= int(targets_BT.max()) < num_entries:
        raise RayfitError(
            f"token ids from {int(targets_BT.min())} to {int(targets_BT.max())} do not fit a vocabulary of {num_entries}; "
            "the tokenizer of the text is not the model's"
        )
    shape = targets_BT.shape
    step = _positions_at_once(logits_BTV)
    parts = [
        _chunk(logits, targets)
        for logits, targets in zip(
            logits_BTV.reshape(-1, num_entries).split(step), targets_BT.reshape(-1).split(step), strict=True
        )
    ]
    nll, entropy, correct, rank, mass, top_1 = (torch.cat(column) for column in zip(*parts, strict=True))
    return TokenStatistics(
        nll_nats=nll.reshape(shape),
        entropy_nats=entropy.reshape(shape),
        correct=correct.reshape(shape),
        rank=rank.reshape(shape),
        top_mass=mass.reshape(*shape, len(TOP_K)),
        top_1=top_1.reshape(shape),
    )


def _chunk(logits_PV: torch.Tensor, targets_P: torch.Tensor) -> tuple[torch.Tensor, ...]:
    log_p_PV = torch.log_softmax(logits_PV.float(), dim=-1)
    if not torch.isfinite(log_p_PV.amax(dim=-1)).all():
        raise RayfitError(NOT_FINITE)
    target_P1 = targets_P.unsqueeze(-1)
    nll_P = -log_p_PV.gather(-1, target_P1).squeeze(-1)
    p_PV = log_p_PV.exp()
    # A probability that underflows to 0 has log -inf only where a logit is -inf; 0 * -inf must count as 0.
    entropy_P = -(p_PV * log_p_PV.clamp_min(torch.finfo(torch.float32).min)).sum(-1)
    # Tiny vocabularies have fewer than five entries; their top-5 mass is then all there is.
    top_PK = p_PV.topk(min(max(TOP_K), p_PV.shape[-1]), dim=-1).values.double().cumsum(-1)
    mass = torch.stack([top_PK[:, min(k, top_PK.shape[-1]) - 1] for k in TOP_K], dim=-1)
    rank_P = (log_p_PV > -nll_P.unsqueeze(-1)).sum(-1) + 1
    top_1_P = logits_PV.argmax(-1)
    return (
        nll_P.double().cpu(),
        entropy_P.double().cpu(),
        (top_1_P == targets_P).cpu(),
        rank_P.cpu(),
        mass.cpu(),
        top_1_P.int().cpu(),
    )


@torch.no_grad()
def loss_sums(logits_BTV: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
    """Sums over all positions: loss (nats), correct argmax, entropy (nats), positions; float64 on their device, shape (4,).

    The part of `token_statistics` that a training curve needs, without sorting: sums of batches add up, over workers
    too. Not finite where the logits are not: the caller decides.
    """
    sums = torch.zeros(4, dtype=torch.float64, device=logits_BTV.device)
    num_entries = logits_BTV.shape[-1]
    step = _positions_at_once(logits_BTV)
    for logits_PV, targets_P in zip(
        logits_BTV.reshape(-1, num_entries).split(step), targets_BT.reshape(-1).split(step), strict=True
    ):
        logits_PV = logits_PV.float()  # also because argmax in bf16 takes six times as long on a CPU
        log_p_PV = torch.log_softmax(logits_PV, dim=-1)
        nll_P = -log_p_PV.gather(-1, targets_P.unsqueeze(-1)).squeeze(-1)
        correct = (logits_PV.argmax(-1) == targets_P).sum()
        # What is smaller than any normal fp32 number adds nothing, and CPUs are slow at it.
        log_p_PV.clamp_min_(_SMALLEST_LOG)
        entropy_P = -(log_p_PV.exp() * log_p_PV).sum(-1)
        sums += torch.stack(
            [
                nll_P.double().sum(),
                correct.double(),
                entropy_P.double().sum(),
                torch.tensor(float(len(targets_P)), device=nll_P.device),
            ]
        )
    return sums

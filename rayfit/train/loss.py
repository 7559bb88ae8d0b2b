"""The loss that is minimised: the mean negative log-likelihood of the next token."""

from __future__ import annotations

from typing import Any

import torch

# Values of fp32 that are worked on at once: what a core's cache holds; on a GPU enough to keep it busy.
_CHUNK_ON_CPU, _CHUNK_ELSEWHERE = 1 << 18, 1 << 26


def next_token_loss(logits_BTV: torch.Tensor, ids_BT: torch.Tensor) -> torch.Tensor:
    """The mean over B x (T - 1) positions of the next token's negative log-likelihood: an fp32 scalar, in nats.

    `logits_BTV`: any float dtype, computed with in fp32; position t predicts `ids_BT[:, t + 1]`, the last one nothing.
    The gradient is made with the loss, chunk by chunk, so that no fp32 copy of all logits is held.
    """
    loss: torch.Tensor = _NextTokenLoss.apply(logits_BTV, ids_BT)
    return loss


class _NextTokenLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_BTV: torch.Tensor, ids_BT: torch.Tensor) -> torch.Tensor:
        num_texts, num_tokens, num_entries = logits_BTV.shape
        num_predicted = num_texts * (num_tokens - 1)
        logits_PV = logits_BTV.reshape(-1, num_entries)
        targets_P1 = ids_BT.roll(-1, dims=1).reshape(-1, 1)
        counts_BT = torch.ones(ids_BT.shape, device=logits_BTV.device)
        counts_BT[:, -1] = 0.0
        counts_P1 = counts_BT.reshape(-1, 1)
        gradient_PV = torch.empty_like(logits_PV)
        total = torch.zeros((), dtype=torch.float64, device=logits_BTV.device)
        step = max(1, (_CHUNK_ON_CPU if logits_BTV.device.type == "cpu" else _CHUNK_ELSEWHERE) // num_entries)
        for start in range(0, len(logits_PV), step):
            chunk = slice(start, start + step)
            z_PV, targets, counts = logits_PV[chunk].float(), targets_P1[chunk], counts_P1[chunk]
            p_PV = torch.softmax(z_PV, dim=-1)
            # By way of the most probable token, for the true one's probability may be too small for fp32.
            nll_P1 = (
                z_PV.amax(-1, keepdim=True) - z_PV.gather(-1, targets) - p_PV.amax(-1, keepdim=True).log()
            )
            total += (nll_P1 * counts).double().sum()
            p_PV.scatter_add_(-1, targets, -torch.ones_like(counts))
            gradient_PV[chunk] = p_PV.mul_(counts / num_predicted)
        ctx.gradient = gradient_PV.reshape(logits_BTV.shape)
        return (total / num_predicted).float()

    @staticmethod
    def backward(ctx: Any, *above: torch.Tensor) -> tuple[torch.Tensor, None]:
        gradient, ctx.gradient = ctx.gradient, None
        (factor,) = above
        if factor.device.type != "cpu" or factor != 1:  # asking a GPU would wait for it
            gradient.mul_(factor)
        return gradient, None

"""Loss, token accuracy and entropy of the model in training, over rows split among the workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from rayfit.score.logits import loss_sums


@dataclass(frozen=True)
class Measurement:
    """Means over all predicted positions: loss and entropy in nats, the share of argmaxes that are the true token."""

    loss: float
    accuracy: float
    entropy_nats: float


@torch.no_grad()
def measure(engine: Any, token_ids: np.ndarray, *, batch_rows: int) -> Measurement:
    """Measure rows of int64 token ids, shape (rows, tokens), in evaluation mode and in the engine's own precision.

    Every rank calls it with the same rows and does its share; every rank gets the same result. All ranks run the same
    number of batches, which ZeRO stage 3 needs, so the last ones may repeat rows that then do not count.
    """
    world, rank = dist.get_world_size(), dist.get_rank()
    num_rows = len(token_ids)
    per_rank = -(-num_rows // world)
    mine = np.arange(rank * per_rank, (rank + 1) * per_rank)
    sums = torch.zeros(4, dtype=torch.float64, device=engine.device)
    engine.eval()
    for start in range(0, per_rank, batch_rows):
        rows = mine[start : start + batch_rows]
        batch = torch.from_numpy(token_ids[np.minimum(rows, num_rows - 1)]).to(engine.device)
        logits_BTV = engine(input_ids=batch).logits
        counted = int((rows < num_rows).sum())
        if counted:
            sums += loss_sums(logits_BTV[:counted, :-1], batch[:counted, 1:])
    engine.train()
    dist.all_reduce(sums)
    loss, correct, entropy, positions = sums.tolist()
    return Measurement(loss / positions, correct / positions, entropy / positions)

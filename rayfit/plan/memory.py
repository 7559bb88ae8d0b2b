"""The memory that one worker's GPU needs at most, by formula, without torch.

Bytes for each parameter are those that DeepSpeed 0.19 holds, with torch's Adam in its `foreach` form, as on GPUs; tests
count them on CPUs. W workers, c bytes of a number that is computed with (2 in bf16, 4 in fp32), N parameters of which
T are trained:

| ZeRO stage | between updates | + in backward | + in the step |
|---|---|---|---|
| 0 (fp32 alone) | cN + 8T | 2cT | 4T + cT |
| 1 | cN + 12T/W | cT | 8T/W |
| 2 | cN + 12T/W | cT/W | 8T/W |
| 3 | cN/W + (12 + c)T/W | gathered weights | 8 of a sub-group |

Buckets of gradients come on top.
"""

from __future__ import annotations

from dataclasses import dataclass

from rayfit.plan.adapters import Adapter
from rayfit.plan.deepspeed import BUCKET, SUB_GROUP, effective_zero_stage
from rayfit.shape import Shape

_BYTES = {"bf16": 2, "fp32": 4}

# Stage 3 holds gathered weights up to DeepSpeed's `stage3_max_live_parameters`, and fetches so many of the next ones.
_MOST_LIVE, _PREFETCHED = 1_000_000_000, 50_000_000

_BUCKET_AT_STAGE_0 = 500_000_000

# The loss works on so many fp32 numbers at once, in three copies (train/loss.py).
_LOSS_CHUNK = 1 << 26

# CUDA's context, cuBLAS's workspaces and what the allocator cannot use again. Assumed; no card has been asked.
CONTEXT_BYTES = 1 << 30

# Of a card's memory, what a plan may fill.
SHARE_OF_CARD = 0.95


@dataclass(frozen=True, kw_only=True)
class PeakMemory:
    """Bytes of one worker: `state` stays between updates; the fullest moments of an update hold more.

    `forward`: at its end, with activations and loss; `backward`: with gradients; `step`: while Adam runs. None where the
    model's shape is not known, which only `forward` needs.
    """

    state: int
    forward: int | None
    backward: int
    step: int

    @property
    def bytes(self) -> int:
        """The most of all moments, with what CUDA takes for itself."""
        return max(self.forward or 0, self.backward, self.step) + CONTEXT_BYTES

    @property
    def gib(self) -> float:
        """The same in GiB."""
        return self.bytes / 2**30


def peak_memory(
    num_parameters: int,
    shape: Shape | None,
    *,
    zero_stage: int,
    num_workers: int,
    precision: str,
    batch_size: int,
    sequence_length: int,
    adapter: Adapter | None = None,
) -> PeakMemory:
    """What training a model takes of each worker's GPU. `batch_size`: rows of an update over all workers.

    `precision`: `bf16` (with fp32 masters) or `fp32`. With an adapter the model itself is neither moved nor has it a
    gradient; without its shape an adapter is counted as nothing.
    """
    stage, _ = effective_zero_stage(zero_stage, precision)
    number = _BYTES[precision]
    trained = num_parameters if adapter is None else _adapter_parameters(adapter, shape)
    fixed, part = num_parameters - trained if adapter is None else num_parameters, trained / num_workers
    bucket, gathered = number * min(BUCKET, trained), 0
    if stage == 0:
        state = number * fixed + (number + 8) * trained
        # DeepSpeed lays the gradients into buckets of a size of its own to sum them, also those of one worker.
        backward = state + number * (trained + min(_BUCKET_AT_STAGE_0, trained))
        step = state + (number + 4) * trained
    elif stage < 3:
        state = round(number * (fixed + trained) + 12 * part)
        gradients = number * (trained if stage == 1 else part)
        backward = round(state + gradients + (2 if stage == 2 else 1) * bucket)
        step = round(state + 8 * part)
    else:
        state = round(number * (fixed + trained) / num_workers + (12 + number) * part) + bucket
        live = 0 if num_workers == 1 else min(_MOST_LIVE, num_parameters) + min(_PREFETCHED, num_parameters)
        gathered = number * live
        backward = state + gathered + 2 * bucket
        step = round(state + 8 * min(SUB_GROUP, part))
    forward = None
    if shape is not None:
        tokens = -(-batch_size // num_workers) * sequence_length
        forward = (
            state + gathered + tokens * activation_bytes(shape, number) + _loss_bytes(shape, tokens, number)
        )
    return PeakMemory(state=state, forward=forward, backward=backward, step=step)


def _adapter_parameters(adapter: Adapter, shape: Shape | None) -> int:
    if shape is None:
        return 0
    return shape.adapter_parameters(adapter.rank, len(adapter.blocks(shape.num_layers)))


def activation_bytes(shape: Shape, number: int) -> int:
    """Bytes that one token's activations take until backward has used them, `number` bytes each (2 or 4).

    A block keeps the fp32 inputs of its two norms and six more vectors of the hidden size, keys and values, and four
    of the MLP's; attention in torch's memory-saving form keeps one number a head.
    """
    block = (
        (8 + 6 * number) * shape.hidden_size
        + 2 * number * shape.kv_size
        + 4 * number * shape.intermediate_size
        + 4 * shape.num_heads
        + 8
    )
    return shape.num_layers * block + (4 + 2 * number) * shape.hidden_size


def _loss_bytes(shape: Shape, tokens: int, number: int) -> int:
    """The logits, their gradient, and the fp32 copies of those that are worked on."""
    logits = tokens * shape.vocabulary_size
    return 2 * number * logits + 3 * 4 * min(_LOSS_CHUNK, logits)

"""The memory that one worker's GPU needs at most, by formula, without torch.

Bytes for each parameter are those that DeepSpeed 0.19 holds, with torch's Adam in its fused form, as on GPUs; tests
count them on CPUs. W workers, c bytes of a number that is computed with (2 in bf16, 4 in fp32), N parameters of which
T are trained:

| ZeRO stage | between updates | + in backward | + in the step |
|---|---|---|---|
| 0 (fp32 alone) | cN + 8T | 2cT | 4T + cT |
| 1 | cN + 12T/W | cT | 8T/W |
| 2 | cN + 12T/W | cT/W | 8T/W |
| 3 | cN/W + (12 + c)T/W | gathered weights | 4 of a sub-group |

Buckets of gradients come on top. With masters and moments on the host, the GPU keeps weights and gradients alone, and the
host 16T/W: fp32 gradients stand beside them there.
"""

from __future__ import annotations

from dataclasses import dataclass

from rayfit.plan.adapters import Adapter
from rayfit.plan.dealing import most_rows, num_passes
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
    model's shape is not known, which only `forward` needs. `host`: what the host keeps for it, without copies.
    `snapshot`: the host's copy of weights and masters, from which every trial begins anew.
    """

    state: int
    forward: int | None
    backward: int
    step: int
    host: int = 0
    snapshot: int = 0

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
    micro_batch: int | None = None,
    activation_checkpointing: bool = False,
    offload: str = "none",
) -> PeakMemory:
    """What training a model takes of each worker's GPU. `batch_size`: rows of an update over all workers.

    `micro_batch`: rows that a worker computes at once, None for all of its own. `offload`: `cpu` where the host keeps
    masters and moments. `precision`: `bf16` (with fp32 masters) or `fp32`. With an adapter the model itself is neither
    moved nor has it a gradient; without its shape an adapter is counted as nothing.
    """
    stage, _ = effective_zero_stage(zero_stage, precision)
    number = _BYTES[precision]
    trained = num_parameters if adapter is None else _adapter_parameters(adapter, shape)
    fixed, part = num_parameters - trained if adapter is None else num_parameters, trained / num_workers
    largest = 0 if shape is None or adapter is not None else shape.largest_tensor
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
        # A sub-group ends with a whole parameter's share.
        step = round(state + 4 * min(SUB_GROUP + largest / num_workers, part))
        if num_workers > 1:
            backward += number * largest  # its gradient, before it is divided
    host = 0
    if offload == "cpu" and stage > 0:
        host = round(16 * part)
        # Beside masters and moments, from stage 2 on also the gradients, as soon as they are reduced.
        away, gone = 12 * part, number * part
        kept = state - away - (gone if stage == 3 else 0)
        backward = round(kept + backward - state - (gone if stage == 2 else 0))
        state, step = round(kept), round(kept + (gone if stage < 3 else 0))
    forward = None
    if shape is not None:
        most = most_rows(batch_size, num_workers)
        tokens = min(micro_batch or most, most) * sequence_length
        each = activation_bytes(shape, number, again=activation_checkpointing)
        forward = state + gathered + tokens * each + _loss_bytes(shape, tokens, number)
        if num_passes(batch_size, num_workers, micro_batch) > 1:  # gradients of the passes before
            forward += round(number * (part if stage in (2, 3) else trained))
    copied = trained / num_workers if stage == 3 else trained
    snapshot = round(number * copied + (4 * part if stage else 0))
    return PeakMemory(
        state=state, forward=forward, backward=backward, step=step, host=host, snapshot=snapshot
    )


def _adapter_parameters(adapter: Adapter, shape: Shape | None) -> int:
    if shape is None:
        return 0
    return shape.adapter_parameters(adapter.rank, len(adapter.blocks(shape.num_layers)))


def activation_bytes(shape: Shape, number: int, *, again: bool = False) -> int:
    """Bytes that one token's activations take until backward has used them, `number` bytes each (2 or 4).

    `again`: a block's are computed again from its input, which alone is kept; they are there for one block at a time.

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
    blocks = shape.num_layers * number * shape.hidden_size + block if again else shape.num_layers * block
    return blocks + (4 + 2 * number) * shape.hidden_size


def _loss_bytes(shape: Shape, tokens: int, number: int) -> int:
    """The logits, their gradient, and the fp32 copies of those that are worked on."""
    logits = tokens * shape.vocabulary_size
    return 2 * number * logits + 3 * 4 * min(_LOSS_CHUNK, logits)

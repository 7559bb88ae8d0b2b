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
from rayfit.plan.arrangement import Arrangement, Load
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


def peak_memory(num_parameters: int, shape: Shape | None, way: Arrangement, load: Load) -> PeakMemory:
    """What training a model in one way takes of each worker's GPU.

    With an adapter the model itself is neither moved nor has it a gradient; without its shape an adapter is counted as
    nothing.
    """
    sizes = _sizes(num_parameters, shape, way, load)
    stage, part, number = sizes.stage, sizes.part, sizes.number
    state, gathered, backward, step = _moments(sizes)
    forward: int | None = None
    host = 0
    if way.offload == "cpu" and stage > 0:
        host = round(16 * part)
        # Beside masters and moments, from stage 2 on also the gradients, as soon as they are reduced.
        gone = number * part
        kept = state - 12 * part - (gone if stage == 3 else 0)
        backward += kept - state - (gone if stage == 2 else 0)
        state, step = kept, kept + (gone if stage < 3 else 0)
    if shape is not None:
        tokens = way.rows_at_once(load.batch_size) * load.sequence_length
        each = activation_bytes(shape, number, again=way.activation_checkpointing)
        forward = round(state + gathered + tokens * each + _loss_bytes(shape, tokens, number))
        if way.passes(load.batch_size) > 1:  # gradients of the passes before
            forward += round(number * (part if stage in (2, 3) else sizes.trained))
    copied = part if stage == 3 else sizes.trained
    return PeakMemory(
        state=round(state),
        forward=forward,
        backward=round(backward),
        step=round(step),
        host=host,
        snapshot=round(number * copied + (4 * part if stage else 0)),
    )


@dataclass(frozen=True)
class _Sizes:
    """What the formula of the moments is of: bytes of a number, and parameters fixed, trained, of one part, of a tensor."""

    stage: int
    num_workers: int
    number: int
    fixed: int
    trained: int
    part: float
    largest: int


def _sizes(num_parameters: int, shape: Shape | None, way: Arrangement, load: Load) -> _Sizes:
    stage, _ = effective_zero_stage(way.zero_stage, load.precision)
    trained, fixed, largest = num_parameters, 0, 0 if shape is None else shape.largest_tensor
    if load.adapter is not None:
        trained, fixed, largest = _adapter_parameters(load.adapter, shape), num_parameters, 0
    return _Sizes(
        stage,
        way.num_workers,
        _BYTES[load.precision],
        fixed,
        trained,
        trained / way.num_workers,
        largest,
    )


def _moments(of: _Sizes) -> tuple[float, float, float, float]:
    """Bytes between updates, of weights gathered in a pass, in backward and in the step; nothing is on the host."""
    number, part, bucket = of.number, of.part, of.number * min(BUCKET, of.trained)
    if of.stage == 0:
        state = number * of.fixed + (number + 8) * of.trained
        # DeepSpeed lays the gradients into buckets of a size of its own to sum them, also those of one worker.
        summed = number * (of.trained + min(_BUCKET_AT_STAGE_0, of.trained))
        return state, 0, state + summed, state + (number + 4) * of.trained
    if of.stage < 3:
        whole = number * (of.fixed + of.trained) + 12 * part
        gradients = number * of.trained + bucket if of.stage == 1 else number * part + 2 * bucket
        return whole, 0, whole + gradients, whole + 8 * part
    divided = number * (of.fixed + of.trained) / of.num_workers + (12 + number) * part + bucket
    total = of.fixed or of.trained
    live = min(_MOST_LIVE, total) + min(_PREFETCHED, total) if of.num_workers > 1 else 0
    # Where there are several, a whole gradient is there before it is divided.
    undivided = number * of.largest if of.num_workers > 1 else 0
    # A sub-group ends with a whole parameter's share.
    group = min(SUB_GROUP + of.largest / of.num_workers, part)
    return divided, number * live, divided + number * live + 2 * bucket + undivided, divided + 4 * group


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

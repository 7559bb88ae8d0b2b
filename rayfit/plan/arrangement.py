"""The ways to train a model on several GPUs, or one, and the cheapest of them that fits."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import product

from rayfit.plan.adapters import Adapter
from rayfit.plan.dealing import most_rows, num_passes
from rayfit.plan.machines import MACHINES, USUAL, Machine
from rayfit.plan.memory import SHARE_OF_CARD, PeakMemory, peak_memory
from rayfit.plan.timing import update_seconds
from rayfit.shape import Shape

# Doubled from one to this, where nothing says how many GPUs there are.
MOST_WORKERS = 64

# How much more of all GPUs' time the fastest way may take than the cheapest.
DEARER = 1.2

# Of a host's memory, what a plan may fill: loading, exports and Ray are beside it.
SHARE_OF_HOST = 0.8


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """How one model is trained. `micro_batch`: rows that a worker computes at once, None for all of its own."""

    num_workers: int = 1
    zero_stage: int = 1
    micro_batch: int | None = None
    activation_checkpointing: bool = False
    offload: str = "none"

    @property
    def text(self) -> str:
        """In the words of its options, what is not spared left out."""
        words = [f"--num-workers {self.num_workers}", f"--zero-stage {self.zero_stage}"]
        if self.micro_batch is not None:
            words.append(f"--micro-batch {self.micro_batch}")
        if self.activation_checkpointing:
            words.append("--activation-checkpointing yes")
        if self.offload != "none":
            words.append(f"--offload {self.offload}")
        return " ".join(words)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is said of it at the command line; None for what is left open."""

    num_workers: int | None = None
    zero_stage: int | None = None
    micro_batch: int | None = None
    activation_checkpointing: bool | None = None
    offload: str | None = None


def arrangements(asked: Asked, batch_size: int, most_workers: int | None = None) -> list[Arrangement]:
    """Every way that is not ruled out to train on batches of so many rows, the plainest first.

    `most_workers`: how many GPUs there are, where it is known.
    """
    return list(_all(asked, batch_size, most_workers or MOST_WORKERS))


def fits(peak: PeakMemory, num_bytes: int) -> bool:
    """Whether a GPU of so many bytes holds it, with a margin."""
    return peak.bytes <= SHARE_OF_CARD * num_bytes


def host_bytes(peak: PeakMemory, way: Arrangement, machine: Machine) -> int:
    """What the fullest node's host holds for its workers: copies to begin anew from, and what was moved there."""
    return min(way.num_workers, machine.gpus_per_node) * (peak.host + peak.snapshot)


def fits_host(peak: PeakMemory, way: Arrangement, machine: Machine) -> bool:
    """Whether a node's host has room for that."""
    return host_bytes(peak, way, machine) <= SHARE_OF_HOST * machine.host_bytes_per_node


def cheapest(
    num_parameters: int,
    shape: Shape | None,
    asked: Asked,
    *,
    kinds: Collection[tuple[str, int, Adapter | None]],
    sequence_length: int,
    num_bytes: int,
    machine: Machine | None = None,
    most_workers: int | None = None,
) -> tuple[Arrangement, PeakMemory]:
    """The cheapest way that fits GPUs of so many bytes, with what it takes of each; the smallest where none does.

    The cheapest takes the least time of all its GPUs together, by formula; of those that take little more, the fastest is
    taken. `kinds`: precision, batch and adapter of all
    trials, of which the one that needs the most counts. `machine`: None for a usual one.
    """
    sizes = [batch_size for _, batch_size, _ in kinds]
    precision = next(precision for precision, _, _ in kinds)

    def seconds(way: Arrangement) -> float:
        found = update_seconds(
            num_parameters,
            machine or MACHINES[USUAL],
            num_workers=way.num_workers,
            zero_stage=way.zero_stage,
            precision=precision,
            batch_size=max(sizes),
            sequence_length=sequence_length,
            micro_batch=way.micro_batch,
            activation_checkpointing=way.activation_checkpointing,
            offload=way.offload,
        )
        # A pass more fills a GPU less well, which the formula does not see.
        passes = num_passes(max(sizes), way.num_workers, way.micro_batch)
        return found.total * (1 + 0.02 * (passes - 1))

    def peak(way: Arrangement) -> PeakMemory:
        found = [
            peak_memory(
                num_parameters,
                shape,
                zero_stage=way.zero_stage,
                num_workers=way.num_workers,
                precision=precision,
                batch_size=batch_size,
                sequence_length=sequence_length,
                adapter=adapter,
                micro_batch=way.micro_batch,
                activation_checkpointing=way.activation_checkpointing,
                offload=way.offload,
            )
            for precision, batch_size, adapter in kinds
        ]
        return max(found, key=lambda each: each.bytes)

    ways = [(way, peak(way), seconds(way)) for way in arrangements(asked, min(sizes), most_workers)]
    fitting = [
        (way, takes, time)
        for way, takes, time in ways
        if fits(takes, num_bytes) and (machine is None or fits_host(takes, way, machine))
    ]
    if not fitting:
        return min(((way, takes) for way, takes, _ in ways), key=lambda each: each[1].bytes)
    least = min(way.num_workers * time for way, _, time in fitting)
    near = [each for each in fitting if each[0].num_workers * each[2] <= DEARER * least]
    way, takes, _ = min(near, key=lambda each: each[2])
    return way, takes


def _all(asked: Asked, batch_size: int, most_workers: int) -> Iterator[Arrangement]:
    for num_workers in (asked.num_workers,) if asked.num_workers else _workers(batch_size, most_workers):
        yield from (
            Arrangement(
                num_workers=num_workers,
                zero_stage=zero_stage,
                micro_batch=micro_batch,
                activation_checkpointing=again,
                offload=offload,
            )
            for zero_stage, micro_batch, again, offload in product(
                (1, 2, 3) if asked.zero_stage is None else (asked.zero_stage,),
                _micro_batches(batch_size, num_workers)
                if asked.micro_batch is None
                else (asked.micro_batch,),
                (False, True)
                if asked.activation_checkpointing is None
                else (asked.activation_checkpointing,),
                ("none", "cpu") if asked.offload is None else (asked.offload,),
            )
            if not (offload == "cpu" and zero_stage == 0)
        )


def _workers(batch_size: int, most: int) -> list[int]:
    """One, and its doubles: as many as there are GPUs and, beyond the batch's rows, multiples of them."""
    counts = [1]
    while counts[-1] * 2 <= most:
        counts.append(counts[-1] * 2)
    return [count for count in counts if count <= batch_size or count % batch_size == 0]


def _micro_batches(batch_size: int, num_workers: int) -> list[int | None]:
    """All of a worker's rows, then halves of that down to one."""
    most, found = most_rows(batch_size, num_workers), list[int | None]([None])
    while most > 1:
        most = -(-most // 2)
        found.append(most)
    return found

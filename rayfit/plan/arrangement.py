"""The ways to train a model on several GPUs, or one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from rayfit.plan.adapters import Adapter
from rayfit.plan.dealing import most_rows, num_passes

# Doubled from one to this, where nothing says how many GPUs there are.
MOST_WORKERS = 64


@dataclass(frozen=True, kw_only=True)
class Load:
    """What an update computes: in which precision, how many rows over all workers, of how many tokens; what is trained."""

    precision: str
    batch_size: int
    sequence_length: int
    adapter: Adapter | None = None


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """How one model is trained. `micro_batch`: rows that a worker computes at once, None for all of its own.

    `offload`: `cpu` where the host keeps fp32 masters and Adam's moments, and moves them.
    """

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

    def rows_at_once(self, batch_size: int) -> int:
        """Rows that the busiest worker computes at once."""
        most = most_rows(batch_size, self.num_workers)
        return min(self.micro_batch or most, most)

    def passes(self, batch_size: int) -> int:
        """Forward and backward passes of every worker in an update."""
        return num_passes(batch_size, self.num_workers, self.micro_batch)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is said of it at the command line; None for what is left open."""

    num_workers: int | None = None
    zero_stage: int | None = None
    micro_batch: int | None = None
    activation_checkpointing: bool | None = None
    offload: str | None = None


def arrangements(asked: Asked, batch_size: int, most_workers: int | None = None) -> Iterator[Arrangement]:
    """Every way that is not ruled out to train on batches of so many rows, the plainest first.

    `most_workers`: how many GPUs there are, where it is known.
    """
    for num_workers in (
        (asked.num_workers,) if asked.num_workers else _workers(batch_size, most_workers or MOST_WORKERS)
    ):
        for zero_stage, micro_batch, again, offload in product(
            (1, 2, 3) if asked.zero_stage is None else (asked.zero_stage,),
            _micro_batches(batch_size, num_workers) if asked.micro_batch is None else (asked.micro_batch,),
            (False, True) if asked.activation_checkpointing is None else (asked.activation_checkpointing,),
            ("none", "cpu") if asked.offload is None else (asked.offload,),
        ):
            if zero_stage or offload == "none":
                yield Arrangement(
                    num_workers=num_workers,
                    zero_stage=zero_stage,
                    micro_batch=micro_batch,
                    activation_checkpointing=again,
                    offload=offload,
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

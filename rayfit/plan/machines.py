"""GPUs that a plan may be for: their memory, what they compute and move, and what they cost.

From vendors' and clouds' public pages as of 2025, none of it measured or looked up for this plan; a price is of one GPU
for an hour on demand where a cloud lists such a machine. `--price` and a trial's own speed take the place of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rayfit.errors import unknown
from rayfit.plan.cards import Card

AS_OF = "2025, unverified"

_TERA, _GIGA = 1e12, 1e9


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One kind of GPU in its usual machine. Rates are per GPU and second, of one direction.

    `flops`: dense bf16; `bandwidth`: bytes of its own memory; `link`: bytes to the other GPUs of its node; `network`: bytes
    to other nodes; `dollars_per_hour` is None where it is bought and not rented.
    """

    num_bytes: int
    flops: float
    bandwidth: float
    link: float
    network: float
    gpus_per_node: int = 8
    host_bytes_per_node: int = 2048 << 30
    dollars_per_hour: float | None = None


# Names as they are asked for: the GPU and its gigabytes.
MACHINES: dict[str, Machine] = {
    "rtx-3090-24gb": Machine(
        num_bytes=24 << 30,
        flops=71 * _TERA,
        bandwidth=936 * _GIGA,
        link=16 * _GIGA,
        network=1 * _GIGA,
        gpus_per_node=2,
        host_bytes_per_node=128 << 30,
    ),
    "rtx-4090-24gb": Machine(
        num_bytes=24 << 30,
        flops=165 * _TERA,
        bandwidth=1008 * _GIGA,
        link=16 * _GIGA,
        network=1 * _GIGA,
        gpus_per_node=2,
        host_bytes_per_node=128 << 30,
    ),
    "l4-24gb": Machine(
        num_bytes=23 << 30,
        flops=121 * _TERA,
        bandwidth=300 * _GIGA,
        link=16 * _GIGA,
        network=3 * _GIGA,
        host_bytes_per_node=768 << 30,
        dollars_per_hour=0.80,
    ),
    "a10g-24gb": Machine(
        num_bytes=23 << 30,
        flops=70 * _TERA,
        bandwidth=600 * _GIGA,
        link=16 * _GIGA,
        network=1.5 * _GIGA,
        host_bytes_per_node=768 << 30,
        dollars_per_hour=1.01,
    ),
    "l40s-48gb": Machine(
        num_bytes=45 << 30,
        flops=362 * _TERA,
        bandwidth=864 * _GIGA,
        link=32 * _GIGA,
        network=6 * _GIGA,
        host_bytes_per_node=1536 << 30,
        dollars_per_hour=1.86,
    ),
    "a100-40gb": Machine(
        num_bytes=40 << 30,
        flops=312 * _TERA,
        bandwidth=1555 * _GIGA,
        link=300 * _GIGA,
        network=6 * _GIGA,
        host_bytes_per_node=1152 << 30,
        dollars_per_hour=4.10,
    ),
    "a100-80gb": Machine(
        num_bytes=80 << 30,
        flops=312 * _TERA,
        bandwidth=2039 * _GIGA,
        link=300 * _GIGA,
        network=6 * _GIGA,
        host_bytes_per_node=1152 << 30,
        dollars_per_hour=5.12,
    ),
    "h100-80gb": Machine(
        num_bytes=80 << 30,
        flops=989 * _TERA,
        bandwidth=3350 * _GIGA,
        link=450 * _GIGA,
        network=50 * _GIGA,
        dollars_per_hour=6.88,
    ),
    "h200-141gb": Machine(
        num_bytes=141_000_000_000,
        flops=989 * _TERA,
        bandwidth=4800 * _GIGA,
        link=450 * _GIGA,
        network=50 * _GIGA,
        dollars_per_hour=7.91,
    ),
}

# For ordering ways of training where no GPU is named.
USUAL = "h100-80gb"


def machine_called(name: str) -> Machine:
    """The machine that `--gpu` names; raises RayfitError for another."""
    if name not in MACHINES:
        raise unknown("--gpu", name, list(MACHINES))
    return MACHINES[name]


def machine_of(cards: Sequence[Card]) -> Machine | None:
    """The machine whose GPU these cards are by their name and memory; None for another."""
    if not cards:
        return None
    card = cards[0]
    text = card.name.lower().replace(" ", "-")
    alike = [
        machine
        for name, machine in MACHINES.items()
        if name.rpartition("-")[0] in text
        and abs(machine.num_bytes - card.num_bytes) < 0.15 * machine.num_bytes
    ]
    return alike[0] if alike else None

"""The cheapest way to train a model that fits the GPUs and their hosts."""

from __future__ import annotations

from collections.abc import Collection

from rayfit.plan.arrangement import Arrangement, Asked, Load, arrangements
from rayfit.plan.machines import MACHINES, USUAL, Machine
from rayfit.plan.memory import SHARE_OF_CARD, PeakMemory, peak_memory
from rayfit.plan.timing import update_seconds
from rayfit.shape import Shape

# How much more of all GPUs' time the fastest way may take than the cheapest.
DEARER = 1.2

# Of a host's memory, what a plan may fill: loading, exports and Ray are beside it.
SHARE_OF_HOST = 0.8

# A pass more fills a GPU less well, which the formula of an update's time does not see; by assumption.
_PASS = 0.02


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
    loads: Collection[Load],
    *,
    num_bytes: int,
    machine: Machine | None = None,
    most_workers: int | None = None,
) -> tuple[Arrangement, PeakMemory]:
    """The cheapest way that fits GPUs of so many bytes, with what it takes of each; the smallest where none does.

    The cheapest takes the least time of all its GPUs together, by formula; of those that take little more, the fastest is
    taken. `loads`: of all trials, of which the one that needs the most counts. `machine`: None for a usual one, whose host
    does not count.
    """
    peaks = {
        way: max(
            (peak_memory(num_parameters, shape, way, load) for load in loads), key=lambda peak: peak.bytes
        )
        for way in arrangements(asked, min(load.batch_size for load in loads), most_workers)
    }
    fitting = [
        way
        for way, peak in peaks.items()
        if fits(peak, num_bytes) and (machine is None or fits_host(peak, way, machine))
    ]
    if not fitting:
        least = min(peaks, key=lambda way: peaks[way].bytes)
        return least, peaks[least]
    largest = max(loads, key=lambda load: load.batch_size)
    seconds = {way: _seconds(num_parameters, machine or MACHINES[USUAL], way, largest) for way in fitting}
    limit = DEARER * min(way.num_workers * time for way, time in seconds.items())
    best = min((way for way in fitting if way.num_workers * seconds[way] <= limit), key=seconds.__getitem__)
    return best, peaks[best]


def _seconds(num_parameters: int, machine: Machine, way: Arrangement, load: Load) -> float:
    """How long an update takes, for ordering."""
    passes = way.passes(load.batch_size)
    return update_seconds(num_parameters, machine, way, load).total * (1 + _PASS * (passes - 1))

"""What training one model takes of which GPUs, by formula: whether it fits, how long an update is, what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rayfit.errors import RayfitError
from rayfit.plan.arrangement import Arrangement, Asked, Load
from rayfit.plan.cheapest import cheapest, fits, fits_host, host_bytes
from rayfit.plan.dealing import check_batch
from rayfit.plan.machines import AS_OF, Machine
from rayfit.plan.memory import CONTEXT_BYTES, SHARE_OF_CARD, PeakMemory
from rayfit.plan.sources import ModelSource
from rayfit.plan.timing import SHARE_OF_LINK, SHARE_OF_MEMORY, SHARE_OF_PEAK, UpdateSeconds, update_seconds

_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be trained, and on what. `gpu`: the machine's name; `price`: dollars for one GPU and an hour, or None.

    `tokens_per_second`: of one worker group, where a trial of this model on this GPU has shown it.
    """

    model: ModelSource
    gpu: str
    machine: Machine
    num_gpus: int
    asked: Asked
    batch_size: int = 8
    sequence_length: int = 256
    num_updates: int = 5000
    precision: str = "bf16"
    price: float | None = None
    tokens_per_second: float | None = None


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """The cheapest arrangement for a wish, and what it comes to."""

    wish: Wish
    way: Arrangement
    peak: PeakMemory
    update: UpdateSeconds

    @property
    def fits(self) -> bool:
        """Whether a GPU holds it, with a margin, and a node's host what it keeps for its GPUs."""
        return fits(self.peak, self.wish.machine.num_bytes) and fits_host(
            self.peak, self.way, self.wish.machine
        )

    @property
    def seconds_per_update(self) -> float:
        """As a trial has shown it, or by the formula."""
        wish = self.wish
        if wish.tokens_per_second is None:
            return self.update.total
        return wish.batch_size * wish.sequence_length / wish.tokens_per_second

    @property
    def gpu_hours(self) -> float:
        """Of all updates of a trial."""
        return self.wish.num_updates * self.seconds_per_update * self.way.num_workers / 3600

    @property
    def dollars(self) -> float | None:
        """What a trial's updates cost, or None without a price."""
        price = self.wish.machine.dollars_per_hour if self.wish.price is None else self.wish.price
        return None if price is None else price * self.gpu_hours


def size(wish: Wish) -> Sizing:
    """Raises RayfitError for a model whose parameters are not known yet and for workers that cannot share a batch."""
    if wish.model.num_parameters is None:
        raise RayfitError(
            f"--model: the size of {wish.model.name} is known once a sweep has fetched it; give a preset or a directory"
        )
    if wish.asked.num_workers is not None:
        check_batch(wish.batch_size, wish.asked.num_workers)
    load = Load(precision=wish.precision, batch_size=wish.batch_size, sequence_length=wish.sequence_length)
    way, peak = cheapest(
        wish.model.num_parameters,
        wish.model.shape,
        wish.asked,
        (load,),
        num_bytes=wish.machine.num_bytes,
        machine=wish.machine,
        most_workers=wish.num_gpus,
    )
    update = update_seconds(wish.model.num_parameters, wish.machine, way, load)
    return Sizing(wish=wish, way=way, peak=peak, update=update)


def render_sizing(found: Sizing) -> str:
    """The same as text."""
    return "\n".join(_lines(found))


def _lines(found: Sizing) -> Iterator[str]:
    wish, way, peak, machine = found.wish, found.way, found.peak, found.wish.machine
    yield (
        f"{wish.model.name}: {wish.model.num_parameters:,} parameters, {wish.batch_size} rows of {wish.sequence_length} "
        f"tokens an update, {wish.precision}, on {wish.num_gpus} x {wish.gpu}"
    )
    yield f"arrangement: {way.text}"
    rows = [
        ("between updates", peak.state),
        ("at the end of forward", peak.forward),
        ("in backward", peak.backward),
        ("in Adam's step", peak.step),
        ("CUDA itself, assumed", CONTEXT_BYTES),
        ("at the fullest", peak.bytes),
    ]
    yield "GiB of each GPU, by formula:"
    yield from (f"  {what:<22} {_gib(num_bytes)}" for what, num_bytes in rows)
    verdict = "fits" if fits(peak, machine.num_bytes) else "DOES NOT FIT"
    yield f"  of {_gib(machine.num_bytes).strip()}, of which a plan fills {SHARE_OF_CARD:.0%}: {verdict}"
    on_host = host_bytes(peak, way, machine)
    verdict = "fits" if fits_host(peak, way, machine) else "DOES NOT FIT"
    yield f"GiB of a node's host: {_gib(on_host).strip()} of {_gib(machine.host_bytes_per_node).strip()}: {verdict}"
    yield f"GiB of disk for each export: {_gib(4 * (wish.model.num_parameters or 0)).strip()} in fp32, half in bf16"
    yield from _time(found)


def _time(found: Sizing) -> Iterator[str]:
    wish, update = found.wish, found.update
    if wish.tokens_per_second is None:
        yield (
            f"an update: {update.total:.3g} s by formula: arithmetic {update.arithmetic:.3g}, optimizer "
            f"{update.optimizer:.3g}, traffic {update.traffic:.3g} (assumed: {SHARE_OF_PEAK:.0%} of the peak, "
            f"{SHARE_OF_MEMORY:.0%} of the memory's and {SHARE_OF_LINK:.0%} of the links' rate; machine as of {AS_OF})"
        )
    else:
        yield f"an update: {found.seconds_per_update:.3g} s at {wish.tokens_per_second:,.0f} tokens a second, as given"
    cost = "" if found.dollars is None else f", {found.dollars:,.2f} dollars"
    wall = found.gpu_hours / found.way.num_workers
    yield f"{wish.num_updates:,} updates: {wall:.3g} hours, {found.gpu_hours:.3g} GPU-hours{cost}"


def _gib(num_bytes: int | None) -> str:
    return "not known" if num_bytes is None else f"{num_bytes / _GIB:9.1f}"

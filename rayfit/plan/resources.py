"""The resources that trials and evaluations ask of a cluster, and how many of them fit at once. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from rayfit.errors import RayfitError


@dataclass(frozen=True)
class Resources:
    """CPUs and GPUs, of a bundle or of a whole cluster."""

    cpus: float
    gpus: float = 0.0

    def times(self, count: int) -> Resources:
        """`count` such bundles."""
        return Resources(self.cpus * count, self.gpus * count)

    def minus(self, other: Resources) -> Resources:
        """Return what is left without `other`; never less than nothing."""
        return Resources(max(0.0, self.cpus - other.cpus), max(0.0, self.gpus - other.gpus))

    def holds(self, bundle: Resources) -> int:
        """Return how many such bundles fit, by their sums (not node by node)."""
        fits = [
            have // need for have, need in ((self.cpus, bundle.cpus), (self.gpus, bundle.gpus)) if need > 0
        ]
        return int(min(fits))


def worker_resources(use_gpu: bool) -> Resources:
    """One worker: one CPU (and thread), and one GPU where GPUs are used."""
    return Resources(1.0, 1.0 if use_gpu else 0.0)


def evaluator_resources(use_gpu: bool) -> Resources:
    """One evaluator actor: as one worker."""
    return worker_resources(use_gpu)


def group_limit(
    cluster: Resources,
    *,
    num_workers: int,
    use_gpu: bool,
    evaluation_waits: bool,
    evaluators_running: int = 0,
) -> int:
    """Return how many worker groups may hold resources at once.

    Room for one evaluator is kept while an evaluation waits or runs, so evaluations do not starve behind training. One
    group stays all the same where keeping that room would leave none: ending it after every trial would cost its start
    each time, and the evaluations come as soon as it has no more trials.
    """
    group = worker_resources(use_gpu).times(num_workers)
    bundles = max(evaluators_running, 1 if evaluation_waits else 0)
    left = cluster.minus(evaluator_resources(use_gpu).times(bundles))
    return max(left.holds(group), min(1, cluster.holds(group)))


def check_fits(cluster: Resources, *, num_workers: int, use_gpu: bool) -> None:
    """Raises RayfitError when not even one trial's workers fit a cluster that cannot grow."""
    need = worker_resources(use_gpu).times(num_workers)
    if cluster.holds(need) == 0:
        have = f"{cluster.cpus:g} CPUs and {cluster.gpus:g} GPUs"
        raise RayfitError(
            f"--num-workers: {num_workers} workers need {need.cpus:g} CPUs and {need.gpus:g} GPUs, "
            f"but this Ray has {have}; lower --num-workers{' or give --use-gpu no' if use_gpu else ''}"
        )

"""Whether a launch is on GPUs, and on which: decided before anything is fetched or made."""

from __future__ import annotations

from dataclasses import replace

from rayfit.config import Options
from rayfit.errors import RayfitError
from rayfit.plan.cards import Card, find_cards, seem_there
from rayfit.sweep.cluster import StartingRay, cluster_resources, joins_running_ray

# A node may have to come first; GPUs that are busy for longer are not waited for.
_LOOK_SECONDS = 900.0


def decided(options: Options, starting_ray: StartingRay) -> Options:
    """The options with GPUs taken or not; left open, they are taken where this machine, or the Ray we join, has some."""
    if options.use_gpu is not None:
        return options
    if not joins_running_ray():
        return replace(options, use_gpu=seem_there())
    starting_ray.begin(options)
    starting_ray.ready()
    return replace(options, use_gpu=cluster_resources().gpus > 0)


def look_at_cards(options: Options, starting_ray: StartingRay) -> tuple[Card, ...]:
    """The GPUs of this machine or of a node of the Ray we join. Raises RayfitError where none can be used."""
    if not joins_running_ray():
        return find_cards()
    starting_ray.begin(options)
    starting_ray.ready()
    return _cards_of_a_node()


def _cards_of_a_node() -> tuple[Card, ...]:
    """The first card that a task gets, as often as the cluster has GPUs; none where all are busy for a while."""
    import ray

    look = ray.remote(num_cpus=0, num_gpus=1, max_retries=0)(find_cards)
    asked = look.remote()
    try:
        cards: tuple[Card, ...] = ray.get(asked, timeout=_LOOK_SECONDS)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(asked, force=True)
        return ()
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RayfitError):
            raise error.cause from None
        raise
    return cards[:1] * max(1, int(cluster_resources().gpus))

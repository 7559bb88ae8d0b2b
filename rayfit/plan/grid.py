"""The trials of a sweep: every combination of its options and arms, in a fixed order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from rayfit.config import Options, flag
from rayfit.errors import RayfitError
from rayfit.hub_presets import HUB_MODELS, HubModel
from rayfit.plan.adapters import Adapter
from rayfit.plan.declaration import AXES, Sweep
from rayfit.plan.order import check_exchange
from rayfit.plan.sources import ModelSource
from rayfit.plan.stopping import check_kept, check_stop_loss
from rayfit.plan.trials import Domain, Recipe, Selection, TrialSpec

DEFAULT_BATCH = 8
_LENGTHS = ("num_updates", "epochs")
_SEEDS = ("sample_seeds", "order_seeds", "training_seeds")  # what `seeds` replicates, one by one


def hub_preset(model: ModelSource) -> HubModel | None:
    """The preset of a hub model, or None."""
    return next((preset for preset in HUB_MODELS.values() if preset.hub_id == model.hub_id), None)


def grid(
    sweep: Sweep,
    given: Options,
    options: Options,
    models: tuple[ModelSource, ...],
    domains: tuple[Domain, ...],
) -> Iterator[TrialSpec]:
    """Yield the sweep's trials: for each model, each text and each chosen arm, every combination of the axes' values.

    Trials are in the order of models, then texts, then arms, then the axes as in `AXES`. `given` is what the command
    line says; `options` has the sweep's own defaults where `given` is open. An arm's value for an axis replaces that of
    `options`. Where the arm has several values and `given` has some of them, only those are taken. Raises RayfitError
    for several values of an axis that the sweep does not vary, and for trials that cannot be.
    """
    _check_varied(sweep, options)
    arms = sweep.arms_at(options)
    for model, domain, (arm, changes) in product(models, domains, arms.items()):
        where = f"sweep {sweep.kind}: arm {arm!r}" if sweep.has_arms else f"sweep {sweep.kind}"
        own = {name: _narrowed(value, getattr(given, name, None)) for name, value in changes.items()}
        yield from _arm(where, arm, own, options, model, domain)


def _narrowed(value: Any, given: Any) -> Any:
    """Return an arm's value of an axis; of several values, only those that are also given, or all where none is."""
    if not isinstance(value, tuple) or not isinstance(given, tuple):
        return value
    return tuple(one for one in value if one in given) or value


def overruled(sweep: Sweep, given: Options, options: Options) -> tuple[str, ...]:
    """Say, a sentence each, which `given` values do not reach a chosen arm because it decides their axis itself."""
    found = []
    for arm, changes in sweep.arms_at(options).items():
        for asked in AXES:
            names = _LENGTHS if asked in _LENGTHS else (asked,)  # either of the two lengths decides the other
            said = next((name for name in names if name in changes), None)
            values = getattr(given, asked)
            if said is None or values is None:
                continue
            own = changes[said] if isinstance(changes[said], tuple) else (changes[said],)
            if missed := [value for value in values if said != asked or value not in own]:
                found.append(
                    f"{flag(asked)} {','.join(map(str, missed))} does not reach the arm {arm!r}, which says "
                    f"{flag(said)} {','.join(map(str, own))} itself"
                )
    return tuple(found)


def _check_varied(sweep: Sweep, options: Options) -> None:
    varied = (*sweep.varies, *(_SEEDS if "seeds" in sweep.varies else ()))
    for axis in AXES:
        if axis not in varied and len(getattr(options, axis) or ()) > 1:
            raise RayfitError(
                f"{flag(axis)}: the sweep {sweep.kind} varies {', '.join(map(flag, varied))}; give one value here"
            )


def _arm(
    where: str, arm: str, changes: Mapping[str, Any], options: Options, model: ModelSource, domain: Domain
) -> Iterator[TrialSpec]:
    """The trials of one arm on one model and text."""

    def values(axis: str, default: tuple[Any, ...]) -> tuple[Any, ...]:
        if axis in changes:
            value = changes[axis]
            return value if isinstance(value, tuple) else (value,)
        return getattr(options, axis) or default

    lengths = _lengths(changes, options)
    samples = values("samples", ())
    if not samples or not lengths:
        raise RayfitError(
            f"{where} says neither --samples nor --num-updates (or --epochs) at this scale; give both"
        )
    rates = values("learning_rate", (model.default_learning_rate,))
    adapters = [Adapter.parse(text) for text in values("adapter", ("none",))]
    training_seeds = values("training_seeds", (None,))
    if training_seeds != (None,) and None in adapters:
        raise RayfitError(
            "--training-seeds: training all weights draws no random number (dropout is 0, and samples and order have "
            "seeds of their own); a training seed exists only with --adapter"
        )
    for num_samples, batch_size, length, rate, adapter, seeds, training_seed in product(
        samples,
        values("batch_size", (DEFAULT_BATCH,)),
        lengths,
        rates,
        adapters,
        _seeds(values),
        training_seeds,
    ):
        recipe = Recipe(
            learning_rate=rate,
            batch_size=batch_size,
            num_updates=_num_updates(length, num_samples, batch_size),
            precision=options.precision,
            adapter=adapter,
            training_seed=(training_seed or 0) if adapter is not None else None,
            stop_at_train_loss=_stop_loss(changes, options, num_samples),
        )
        yield TrialSpec(
            model=model,
            domain=domain,
            selection=_selection(changes, num_samples, *seeds),
            recipe=recipe,
            repeat=changes.get("repeat", 0),
            arm=arm,
        )


def _selection(changes: Mapping[str, Any], num_samples: int, sample_seed: int, order_seed: int) -> Selection:
    exchange = changes.get("exchange")
    if exchange is not None:
        check_exchange(exchange, num_samples)
    return Selection(
        samples=num_samples,
        sample_seed=sample_seed + changes.get("sample_offset", 0),
        order_seed=order_seed + changes.get("order_offset", 0),
        exchange=exchange,
    )


def _stop_loss(changes: Mapping[str, Any], options: Options, num_samples: int) -> float | None:
    stop: float | None = changes.get("stop_at_train_loss", options.stop_at_train_loss)
    if stop is not None:
        check_stop_loss(stop, num_samples, options.sequence_length)
        check_kept(options.keep_every, stop)
    return stop


def _lengths(changes: Mapping[str, Any], options: Options) -> list[tuple[str, float]]:
    """Return the lengths of training as ("num_updates" or "epochs", number); an arm's own length of either kind wins."""
    of_arm = [name for name in ("num_updates", "epochs") if name in changes]
    for name in of_arm or ("num_updates", "epochs"):
        value = changes[name] if of_arm else getattr(options, name)
        if value:
            return [(name, item) for item in (value if isinstance(value, tuple) else (value,))]
    return []


def _num_updates(length: tuple[str, float], num_samples: int, batch_size: int) -> int:
    name, count = length
    if name == "num_updates":
        return int(count)
    # Epochs run through each other's borders, so a part of a batch is a whole update.
    return max(1, math.ceil(count * num_samples / batch_size - 1e-9))


def _seeds(values: Any) -> list[tuple[int, int]]:
    """(sample seed, order seed): both together for replicates, every combination where one of them is named."""
    both = values("seeds", (0,))
    sample, order = values("sample_seeds", ()), values("order_seeds", ())
    if not sample and not order:
        return [(seed, seed) for seed in both]
    return list(product(sample or both, order or both))

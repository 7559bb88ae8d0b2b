"""The declaration of a sweep: what is held, what varies, what is measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from rayfit.columns import axes, check_columns, check_own, know
from rayfit.config import SCALES, Options, option_type
from rayfit.errors import RayfitError, unknown
from rayfit.scores import Score

# Options that may take several values, which become trials; an option that is not varied takes one.
AXES = axes()

# Options whose value a sweep may declare: those that the command line leaves open.
_NEVER_DECLARED = (
    "revision",
    "scale",
    "arms",
    "tracking_uri",
    "num_cpus",
    "num_workers",
    "zero_stage",
    "mauve_model",
)
DECLARABLE = tuple(
    option.name
    for option in dataclasses.fields(Options)
    if option.default is None and option.name not in _NEVER_DECLARED
)

# What an arm may say of its trials beside the axes.
ARM_ONLY = {
    "stop_at_train_loss": "nats per token",
    "sample_offset": "added to every sample seed",
    "order_offset": "added to every order seed",
    "repeat": "number of the same training again, part of the id",
    "exchange": "two positions that change places in every epoch's order",
}

HYPERFITTED = "hyperfitted"
FIGURES = (
    "axis",
    "curve",
    "agreement",
    "overlap_histogram",
    "ttr_by_position",
    "bars",
    "grid",
    "calibration",
)


# Folders of a storage: a kind of measurement is the name of one.
TAKEN_KINDS = (
    *("models", "texts", "rows", "trials", "sweeps", "logs", "mlartifacts"),
    *("predictions", "generations", "scores", "comparisons", "temperatures"),
)


class Kind(Protocol):
    """A kind of measurement that a sweep adds to those of every sweep (`rayfit.measure.stage.Stage`)."""

    @property
    def kind(self) -> str:
        """Its name, and that of its folder in the storage."""

    @property
    def specs(self) -> Callable[[Any], Iterable[Any]]:
        """From a plan to the measurements of this kind that it has."""

    @property
    def scores(self) -> tuple[Score, ...]:
        """The scores that no other kind has."""


@dataclass(frozen=True)
class AtScale:
    """A declared value that differs from scale to scale."""

    ci: Any
    laptop: Any
    paper: Any


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One declared experiment.

    `kind` names its MLflow experiment; `question` is one sentence; `source` the paper's section or figure; `varies`
    the options whose values are combined into trials; `scales` gives, for ci, laptop and paper, the defaults of
    options (what the command line says wins) and `holds` what is said once for all, where a value may be `AtScale`, as
    in arms; `arms` are named groups of trials, each the whole grid with some axes replaced (or with what only an arm
    can say: `ARM_ONLY`); `plot` names the columns of the table to draw, x first; `figures` what else its report draws;
    `scores` the columns that its report's table has beside those of every sweep and of its figures; `measures` kinds
    of measurements of its own.
    """

    kind: str
    question: str
    source: str
    varies: tuple[str, ...]
    scales: Mapping[str, Mapping[str, Any]]
    holds: Mapping[str, Any] = field(default_factory=dict)
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {HYPERFITTED: {}})
    plot: tuple[str, str] = ("samples", "ttr_last_96")
    figures: tuple[Mapping[str, Any], ...] = ()
    scores: tuple[str, ...] = ()
    measures: tuple[Kind, ...] = ()

    def __post_init__(self) -> None:
        for measure in self.measures:
            if measure.kind in TAKEN_KINDS:
                raise RayfitError(
                    f"sweep {self.kind}: measures: the kind {measure.kind!r} is taken; call yours otherwise"
                )
            check_own(measure.scores)
            know(measure.scores, anew=True)
        for axis in self.varies:
            if axis not in AXES:
                raise unknown(f"sweep {self.kind}: varies", axis, AXES)
        for scale in SCALES:
            if scale not in self.scales:
                raise RayfitError(
                    f"sweep {self.kind}: scales has no {scale!r}; every sweep runs at {', '.join(SCALES)}"
                )
        for scale, defaults in self.scales.items():
            if scale not in SCALES:
                raise unknown(f"sweep {self.kind}: scales", scale, SCALES)
            for name, value in {**at_scale(self.holds, scale), **defaults}.items():
                if name not in DECLARABLE:
                    raise unknown(f"sweep {self.kind}: scale {scale}", name, DECLARABLE)
                _check_type(f"sweep {self.kind}: scale {scale}", name, value)
        if not self.arms:
            raise RayfitError(f"sweep {self.kind}: arms: expected at least one; got none")
        for arm, changes in self.arms.items():
            if "," in arm:
                raise RayfitError(
                    f"sweep {self.kind}: arm {arm!r}: --arms takes several names with commas between"
                )
            for scale in SCALES:
                self._check_arm(f"sweep {self.kind}: arm {arm!r}", at_scale(changes, scale))
        for figure in self.figures:
            if figure.get("kind") not in FIGURES:
                raise unknown(f"sweep {self.kind}: figures", str(figure.get("kind")), FIGURES)
            drawn = figure.get("y", ())
            check_columns(
                *((drawn,) if isinstance(drawn, str) else drawn), where=f"sweep {self.kind}: figures, y"
            )

    def _check_arm(self, where: str, changes: Mapping[str, Any]) -> None:
        for name, value in changes.items():
            if name not in (*AXES, *ARM_ONLY):
                raise unknown(where, name, (*AXES, *ARM_ONLY))
            if name in AXES:
                _check_type(where, name, value)

    @property
    def has_arms(self) -> bool:
        """True when the sweep has arms of its own, which its tables then name."""
        return tuple(self.arms) != (HYPERFITTED,)

    def options_at(self, scale: str, given: Options) -> Options:
        """Return `given`, with what it leaves open filled in from the sweep's defaults at this scale."""
        defaults = {**at_scale(self.holds, scale), **self.scales[scale]}
        if given.num_updates or given.epochs:
            # Each decides the other: what is declared of the one gives way to what is given of the other.
            defaults = {
                name: value for name, value in defaults.items() if name not in ("num_updates", "epochs")
            }
        open_fields = {name: value for name, value in defaults.items() if getattr(given, name) is None}
        return dataclasses.replace(given, scale=scale, **open_fields)

    def chosen_arms(self, given: Options) -> tuple[str, ...]:
        """Return the names of the arms to run, in the order in which they are declared.

        With `--arms` these are the arms it names. Without it, an arm is left out when it fixes an axis for which
        `given` has a value: `--samples 8` runs the whole grid at 8 samples, and no arm that has other samples. Numbers
        of updates and of epochs count as one axis, since each decides the other. Raises RayfitError for an unknown
        arm, and when every arm would be left out.
        """
        if given.arms is not None:
            for name in given.arms:
                if name not in self.arms:
                    raise unknown("--arms", name, self.arms)
            return tuple(name for name in self.arms if name in given.arms)
        said = {name for name in AXES if getattr(given, name) is not None}
        if said & {"num_updates", "epochs"}:
            said |= {"num_updates", "epochs"}
        chosen = tuple(name for name, changes in self.arms.items() if not said & changes.keys())
        if not chosen:
            raise RayfitError(
                f"every arm of {self.kind} says one of {', '.join(sorted(said))} itself; name one with --arms: "
                f"{', '.join(self.arms)}"
            )
        return chosen

    def arms_at(self, options: Options) -> dict[str, dict[str, Any]]:
        """Return the chosen arms, with the values that they have at the options' scale."""
        assert options.scale is not None and options.arms is not None
        return {
            name: at_scale(changes, options.scale)
            for name, changes in self.arms.items()
            if name in options.arms
        }


def at_scale(declared: Mapping[str, Any], scale: str) -> dict[str, Any]:
    """Return the declared values, each `AtScale` replaced by its value at one scale."""
    return {
        name: getattr(value, scale) if isinstance(value, AtScale) else value
        for name, value in declared.items()
    }


def _check_type(where: str, name: str, value: Any) -> None:
    """A declared value must be of its option's type; one value stands for a list of one."""
    kind, is_list = option_type(name)
    kinds = (int, float) if kind is float else (kind,)
    values = value if isinstance(value, tuple) else (value,)
    if (isinstance(value, tuple) and not is_list) or not all(isinstance(item, kinds) for item in values):
        expected = f"{kind.__name__}, or a tuple of {kind.__name__}" if is_list else f"one {kind.__name__}"
        raise RayfitError(f"{where}: {name} must be {expected}; got {value!r}")

"""What a sweep script declares: what is held, what varies, what is measured."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from rayfit.config import SCALES, Options, option_type
from rayfit.errors import RayfitError, unknown

# Options that may take several values, which become trials; an option that is not varied takes one.
AXES = ("samples", "learning_rate", "seeds")

# Options whose value a sweep may declare: those that the command line leaves open.
DECLARABLE = tuple(
    option.name
    for option in dataclasses.fields(Options)
    if option.default is None and option.name not in ("scale", "tracking_uri", "num_cpus")
)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One declared experiment.

    `kind` names its MLflow experiment; `question` is one sentence; `source` the paper's section or figure; `varies`
    the options whose values are combined into trials; `scales` gives, for ci, laptop and paper, the defaults of
    options (what the command line says wins); `plot` names the columns of the table to draw, x first.
    """

    kind: str
    question: str
    source: str
    varies: tuple[str, ...]
    scales: dict[str, dict[str, Any]]
    plot: tuple[str, str] = ("samples", "ttr_last_96")
    holds: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
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
            for name, value in {**self.holds, **defaults}.items():
                _check_declared(f"sweep {self.kind}: scale {scale}", name, value)

    def options_at(self, scale: str, given: Options) -> Options:
        """`given`, with what it leaves open filled in from the sweep's defaults at this scale."""
        defaults = {**self.holds, **self.scales[scale]}
        open_fields = {name: value for name, value in defaults.items() if getattr(given, name) is None}
        return dataclasses.replace(given, scale=scale, **open_fields)


def _check_declared(where: str, name: str, value: Any) -> None:
    """A declared default must be of an option that is open until the plan, and of that option's type."""
    if name not in DECLARABLE:
        raise unknown(where, name, DECLARABLE)
    kind, is_list = option_type(name)
    kinds = (int, float) if kind is float else (kind,)
    values = value if isinstance(value, tuple) else (value,)
    if isinstance(value, tuple) != is_list or not all(isinstance(item, kinds) for item in values):
        expected = f"a tuple of {kind.__name__}, such as ({value!r},)" if is_list else f"one {kind.__name__}"
        raise RayfitError(f"{where}: {name} must be {expected}; got {value!r}")

"""A trial: one model trained by one recipe on one selection, with its id."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from rayfit.identity import DATA_VERSION, TRAIN_VERSION, make_id
from rayfit.plan.adapters import Adapter
from rayfit.plan.deepspeed import ADAM_BETAS, ADAM_EPSILON
from rayfit.plan.order import ExchangedEpochs, epochs_of, exchanged_epochs
from rayfit.plan.sources import ModelSource, TextSource

# A curve is measured over the first rows of training and of validation text: in about twenty points, or in as few as keep
# their forward passes, each a third of a training row's work, below a tenth of the updates.
CURVE_POINTS = 20
CURVE_ROWS = 16
CURVE_SHARE = 0.1
_FORWARD = 1 / 3


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A way to train: Adam at a constant rate, without decay, clipping or dropout (the paper's section 3).

    `adapter`: what is trained instead of all weights, initialised from `training_seed`. `stop_at_train_loss`: training
    ends after the first epoch whose loss over all rows, in evaluation mode, is at most this (nats per token);
    `num_updates` is then the most.
    """

    learning_rate: float
    batch_size: int
    num_updates: int
    precision: str
    optimizer: str = "adam"
    betas: tuple[float, float] = ADAM_BETAS
    epsilon: float = ADAM_EPSILON
    weight_decay: float = 0.0
    gradient_clipping: float = 0.0
    dropout: float = 0.0
    adapter: Adapter | None = None
    training_seed: int | None = None
    stop_at_train_loss: float | None = None

    def declared(self) -> dict[str, Any]:
        """The recipe as it enters a trial's id; what is not asked for is left out."""
        plain = {**asdict(self), "betas": list(self.betas)}
        optional = ("adapter", "training_seed", "stop_at_train_loss")
        return {name: value for name, value in plain.items() if name not in optional or value is not None}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The training sequences and their order; `exchange` are two positions that change places in every epoch."""

    samples: int
    sample_seed: int
    order_seed: int
    exchange: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """The settings by which documents become rows."""

    span_characters: int
    sequence_length: int
    held_out_share: float


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A text with the settings that turn it into rows: what is trained on, or evaluated on."""

    text: TextSource
    settings: TextSettings

    @property
    def name(self) -> str:
        """The text's name, by which tables tell domains apart."""
        return self.text.name

    def declared_spans(self) -> dict[str, Any]:
        """Return everything that decides how documents are cut and split."""
        settings = asdict(self.settings)
        del settings["sequence_length"]
        return {"text": self.text.declared, **settings, "data_version": DATA_VERSION}

    @property
    def spans_id(self) -> str:
        """The id of the cut and split text."""
        return make_id(f"{self.text.name}-{self.settings.span_characters}", self.declared_spans())


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """One (model, selection, recipe, seeds) to train. `arm` names the group it was declared in; it is in no id."""

    model: ModelSource
    domain: Domain
    selection: Selection
    recipe: Recipe
    repeat: int = 0
    arm: str = ""

    @property
    def epochs(self) -> float:
        """The number of times each row is seen, on average."""
        return epochs_of(self.recipe.num_updates, self.recipe.batch_size, self.selection.samples)

    def declared_rows(self) -> dict[str, Any] | None:
        """Return what decides the training rows' texts, without the model whose tokenizer cuts them; None while pending."""
        if self.domain.text.declared is None:
            return None
        selection = {"samples": self.selection.samples, "sample_seed": self.selection.sample_seed}
        return {
            "text": self.domain.text.declared,
            **asdict(self.domain.settings),
            **selection,
            "data_version": DATA_VERSION,
        }

    def declared(self) -> dict[str, Any] | None:
        """Everything that decides the trained weights, or None while the model or text is not known."""
        rows = self.declared_rows()
        if rows is None or self.model.declared is None:
            return None
        exchange = self.selection.exchange
        return {
            "model": self.model.declared,
            "rows": rows,
            "recipe": self.recipe.declared(),
            "order_seed": self.selection.order_seed,
            **({} if exchange is None else {"exchange": list(exchange)}),
            "repeat": self.repeat,
            "train_version": TRAIN_VERSION,
        }

    @property
    def readable(self) -> str:
        """The slug part of the trial's id."""
        selection, recipe = self.selection, self.recipe
        parts = [
            f"{self.model.name}-{self.domain.name}-n{selection.samples}",
            f"b{recipe.batch_size}" if recipe.batch_size != 8 else "",
            f"u{recipe.num_updates}-lr{recipe.learning_rate:g}",
            "" if recipe.adapter is None else recipe.adapter.text,
            "" if recipe.stop_at_train_loss is None else f"stop{recipe.stop_at_train_loss:g}",
            _readable_seeds(selection, recipe.training_seed),
            "" if selection.exchange is None else "x{}.{}".format(*selection.exchange),
            f"r{self.repeat}" if self.repeat else "",
        ]
        return "-".join(filter(None, parts))

    @cached_property
    def id(self) -> str | None:
        """The trial's id, or None while pending."""
        declared = self.declared()
        return None if declared is None else make_id(self.readable, declared)

    @property
    def key(self) -> str:
        """A text that tells trials apart, also while ids are pending."""
        return self.id or f"{self.readable} {self.model} {self.domain}"

    @property
    def rows_id(self) -> str:
        """The id of the training rows under this model's tokenizer."""
        readable = (
            f"{self.domain.name}-n{self.selection.samples}-s{self.selection.sample_seed}-{self.model.name}"
        )
        return make_id(readable, {"rows": self.declared_rows(), "model": self.model.declared})

    def exchanged_epochs(self) -> ExchangedEpochs | None:
        """Count the epochs by what the exchange of two samples does to their batches; None without an exchange."""
        selection, recipe = self.selection, self.recipe
        if selection.exchange is None:
            return None
        return exchanged_epochs(
            selection.samples,
            recipe.batch_size,
            selection.order_seed,
            recipe.num_updates,
            selection.exchange,
        )

    def kept_updates(self, keep_every: float | None) -> tuple[int, ...]:
        """The updates, before the last, after which weights are kept: the first at or past every so many epochs."""
        if keep_every is None:
            return ()
        per_epoch = self.selection.samples / self.recipe.batch_size
        last, every = self.recipe.num_updates, keep_every * per_epoch
        times = range(1, math.ceil(last / every))
        return tuple(sorted({update for time in times if (update := math.ceil(time * every - 1e-9)) < last}))


def _readable_seeds(selection: Selection, training_seed: int | None) -> str:
    seeds = f"s{selection.sample_seed}"
    if selection.order_seed != selection.sample_seed:
        seeds += f"o{selection.order_seed}"
    return seeds + (f"t{training_seed}" if training_seed else "")


def curve_updates(num_updates: int, batch_size: int, eval_every: int | None) -> list[int]:
    """The updates after which the curve is measured: 0, every `eval_every`, the last.

    By default as many as `CURVE_SHARE` allows, but not more than about `CURVE_POINTS`.
    """
    affordable = CURVE_SHARE * num_updates * batch_size / (2 * CURVE_ROWS * _FORWARD)
    every = eval_every or math.ceil(num_updates / max(1, min(CURVE_POINTS, int(affordable) - 1)))
    return sorted({*range(0, num_updates, every), num_updates})

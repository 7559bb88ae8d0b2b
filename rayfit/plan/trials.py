"""The plan: every trial and evaluation of a sweep, with its id, before anything is started."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from rayfit.config import Options, flag
from rayfit.data.order import epochs_of
from rayfit.errors import RayfitError
from rayfit.generate.decoding import Decoding
from rayfit.identity import DATA_VERSION, GENERATE_VERSION, SCORE_VERSION, TRAIN_VERSION, make_id
from rayfit.plan.declaration import AXES, Sweep
from rayfit.plan.deepspeed import ADAM_BETAS, ADAM_EPSILON
from rayfit.plan.sources import ModelSource, TextSource, resolve_model, resolve_text
from rayfit.presets import DEFAULT_POOL, EVALUATION_SIZES
from rayfit.records.storage import Storage

CURVE_POINTS = 20


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train: Adam at a constant rate, without decay, clipping or dropout (the paper's section 3)."""

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

    def declared(self) -> dict[str, Any]:
        """The recipe as it enters a trial's id."""
        return {**asdict(self), "betas": list(self.betas)}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which training sequences, in which order."""

    samples: int
    sample_seed: int
    order_seed: int


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """How documents become rows."""

    span_characters: int
    sequence_length: int
    held_out_share: float


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """One (model, selection, recipe, seeds) to train."""

    model: ModelSource
    text: TextSource
    settings: TextSettings
    selection: Selection
    recipe: Recipe
    repeat: int = 0

    @property
    def epochs(self) -> float:
        """How often each row is seen."""
        return epochs_of(self.recipe.num_updates, self.recipe.batch_size, self.selection.samples)

    def declared_rows(self) -> dict[str, Any] | None:
        """What decides the training rows' texts, without the model whose tokenizer cuts them."""
        if self.text.declared is None:
            return None
        selection = {"samples": self.selection.samples, "sample_seed": self.selection.sample_seed}
        return {
            "text": self.text.declared,
            **asdict(self.settings),
            **selection,
            "data_version": DATA_VERSION,
        }

    def declared(self) -> dict[str, Any] | None:
        """Everything that decides the trained weights, or None while the model or text is not known."""
        rows = self.declared_rows()
        if rows is None or self.model.declared is None:
            return None
        return {
            "model": self.model.declared,
            "rows": rows,
            "recipe": self.recipe.declared(),
            "order_seed": self.selection.order_seed,
            "repeat": self.repeat,
            "train_version": TRAIN_VERSION,
        }

    @property
    def readable(self) -> str:
        """The slug part of the trial's id."""
        seeds = f"s{self.selection.sample_seed}"
        if self.selection.order_seed != self.selection.sample_seed:
            seeds += f"o{self.selection.order_seed}"
        recipe = f"u{self.recipe.num_updates}-lr{self.recipe.learning_rate:g}"
        return f"{self.model.name}-{self.text.name}-n{self.selection.samples}-{recipe}-{seeds}"

    @property
    def id(self) -> str | None:
        """The trial's id, or None while pending."""
        declared = self.declared()
        return None if declared is None else make_id(self.readable, declared)

    @property
    def rows_id(self) -> str:
        """The id of the training rows under this model's tokenizer."""
        readable = (
            f"{self.text.name}-n{self.selection.samples}-s{self.selection.sample_seed}-{self.model.name}"
        )
        return make_id(readable, {"rows": self.declared_rows(), "model": self.model.declared})


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where and how fast, never what: not part of any id."""

    num_workers: int
    zero_stage: int
    use_gpu: bool
    trials_per_group: int
    eval_every: int | None
    export_dtype: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sweep with everything decided."""

    sweep: Sweep
    options: Options
    model: ModelSource
    text: TextSource
    settings: TextSettings
    trials: tuple[TrialSpec, ...]
    decodings: tuple[Decoding, ...]
    placement: Placement
    num_contexts: int
    num_validation: int
    eval_precision: str

    @property
    def pending(self) -> bool:
        """Whether ids wait for work that only `prepare` does (hashing local files, asking the hub)."""
        return self.model.declared is None or self.text.declared is None

    def declared_contexts(self) -> dict[str, Any]:
        """What decides the evaluation contexts' texts."""
        return {
            "text": self.text.declared,
            **asdict(self.settings),
            "contexts": self.num_contexts,
            "context_length": self.options.context_length,
            "data_version": DATA_VERSION,
        }

    def declared_spans(self) -> dict[str, Any]:
        """What decides how documents are cut and split."""
        settings = asdict(self.settings)
        del settings["sequence_length"]
        return {"text": self.text.declared, **settings, "data_version": DATA_VERSION}

    @property
    def spans_id(self) -> str:
        """The id of the cut and split text."""
        return make_id(f"{self.text.name}-{self.settings.span_characters}", self.declared_spans())

    @property
    def evaluation_rows_id(self) -> str:
        """The id of contexts and validation rows under the model's tokenizer."""
        declared = {
            "contexts": self.declared_contexts(),
            "validation": self.num_validation,
            "model": self.model.declared,
        }
        return make_id(f"{self.text.name}-held-out-{self.model.name}", declared)

    def evaluation_id(self, trial: TrialSpec | None, decoding: Decoding) -> str:
        """The id of one checkpoint's evaluation under one decoding; the original model's where `trial` is None."""
        subject = {"model": self.model.declared} if trial is None else {"trial": trial.id}
        readable = f"{self.model.name}-original" if trial is None else trial.readable
        declared = {
            **subject,
            "contexts": self.declared_contexts(),
            "decoding": decoding.declared(),
            "export_dtype": self.placement.export_dtype if trial is not None else "as given",
            "eval_precision": self.eval_precision,
            "generate_version": GENERATE_VERSION,
            "score_version": SCORE_VERSION,
        }
        return make_id(f"{readable}-{decoding.name}", declared)

    def decodings_of(self, trial: TrialSpec | None) -> tuple[Decoding, ...]:
        """The decodings a checkpoint is evaluated under; the original model has no training rows to block."""
        return self.decodings if trial is not None else baseline_decodings(self.decodings)

    @property
    def sweep_id(self) -> str:
        """The content id of the declared sweep: the same trials and measurements give the same id at every launch."""
        declared = {
            "kind": self.sweep.kind,
            "trials": sorted(str(trial.id) for trial in self.trials),
            "evaluations": [self.evaluation_id(None, decoding) for decoding in self.decodings_of(None)],
            "decodings": [decoding.declared() for decoding in self.decodings],
        }
        return make_id(f"{self.sweep.kind}-{self.model.name}-{self.text.name}-{self.options.scale}", declared)


def make_plan(sweep: Sweep, given: Options, storage: Storage) -> Plan:
    """Decide everything that the options leave open; raises RayfitError for what cannot be."""
    model = resolve_model(given.model, given.revision, storage)
    scale = given.scale or model.default_scale
    options = sweep.options_at(scale, given)
    text = resolve_text(options.dataset, options.text_column, DEFAULT_POOL, model, storage)
    validation, contexts = EVALUATION_SIZES[scale]
    settings = _text_settings(options, model, text)
    options = replace(
        options,
        dataset=options.dataset or text.name,
        learning_rate=options.learning_rate or (model.default_learning_rate,),
        span_characters=settings.span_characters,
        held_out_share=settings.held_out_share,
        validation_rows=options.validation_rows or validation,
        contexts=options.contexts or contexts,
    )
    decodings = tuple(_decoding(name, options.num_new_tokens) for name in options.decodings)
    if len({decoding.name for decoding in decodings}) < len(decodings):
        raise RayfitError(
            f"--decodings: the same decoding is given more than once: {', '.join(options.decodings)}"
        )
    precision = options.eval_precision
    if precision == "auto":
        precision = "bf16" if options.use_gpu else "fp32"
    assert options.validation_rows and options.contexts
    return Plan(
        sweep=sweep,
        options=options,
        model=model,
        text=text,
        settings=settings,
        trials=tuple(_trials(sweep, options, model, text, settings)),
        decodings=decodings,
        placement=Placement(
            num_workers=options.num_workers,
            zero_stage=options.zero_stage,
            use_gpu=options.use_gpu,
            trials_per_group=options.trials_per_group,
            eval_every=options.eval_every,
            export_dtype=options.export_dtype,
        ),
        num_contexts=options.contexts,
        num_validation=options.validation_rows,
        eval_precision=precision,
    )


def _text_settings(options: Options, model: ModelSource, text: TextSource) -> TextSettings:
    share = options.held_out_share or text.default_held_out_share
    if model.kind == "made" and text.kind == "pydoc" and share > text.default_held_out_share:
        raise RayfitError(
            f"--held-out-share: expected at most {text.default_held_out_share}, the share of {text.name} that "
            f"{model.name} never saw in its pretraining; got {share}"
        )
    return TextSettings(
        span_characters=options.span_characters or text.default_span_characters,
        sequence_length=options.sequence_length,
        held_out_share=share,
    )


def unblocked(decoding: Decoding) -> Decoding:
    """The same decoding without the citation blocker: what the original model is compared under."""
    return replace(decoding, block=None)


def baseline_decodings(decodings: tuple[Decoding, ...]) -> tuple[Decoding, ...]:
    """Each decoding without its blocker, once."""
    return tuple({decoding.name: decoding for decoding in map(unblocked, decodings)}.values())


def _decoding(text: str, num_new_tokens: int) -> Decoding:
    """A decoding as given; its length is the sweep's, unless the decoding says its own."""
    decoding = Decoding.parse(text)
    return decoding if "num_new_tokens" in text else replace(decoding, num_new_tokens=num_new_tokens)


def _trials(
    sweep: Sweep, options: Options, model: ModelSource, text: TextSource, settings: TextSettings
) -> list[TrialSpec]:
    if options.samples is None or options.num_updates is None or options.learning_rate is None:
        raise RayfitError("the sweep says neither --samples nor --num-updates at this scale; give both")
    for axis in AXES:
        if axis not in sweep.varies and len(getattr(options, axis)) > 1:
            raise RayfitError(
                f"{flag(axis)}: the sweep {sweep.kind} varies {', '.join(map(flag, sweep.varies))}; give one value here"
            )
    return [
        TrialSpec(
            model=model,
            text=text,
            settings=settings,
            selection=Selection(samples=samples, sample_seed=seed, order_seed=seed),
            recipe=Recipe(
                learning_rate=learning_rate,
                batch_size=options.batch_size,
                num_updates=options.num_updates,
                precision=options.precision,
            ),
        )
        for samples, learning_rate, seed in product(options.samples, options.learning_rate, options.seeds)
    ]


def curve_updates(num_updates: int, eval_every: int | None) -> list[int]:
    """The updates after which the curve is measured: 0, every `eval_every` (about 20 in all by default), the last."""
    every = eval_every or -(-num_updates // CURVE_POINTS)
    return sorted({*range(0, num_updates, every), num_updates})

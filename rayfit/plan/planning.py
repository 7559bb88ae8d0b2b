"""The plan: every trial and measurement of a sweep, with its id, before anything is started."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from rayfit.config import Options
from rayfit.decoding import Decoding
from rayfit.errors import RayfitError
from rayfit.identity import make_id
from rayfit.plan.contexts import Contexts, HeldOut, Prompts, given_prompts
from rayfit.plan.declaration import Sweep
from rayfit.plan.evaluations import (
    ComparisonSpec,
    EvaluationSettings,
    EvaluationSpec,
    Subject,
    baseline_decodings,
)
from rayfit.plan.grid import grid, overruled
from rayfit.plan.placement import Placement, Products, placement_of, products_of
from rayfit.plan.precision import Precision, resolve_precision
from rayfit.plan.sources import (
    ModelSource,
    TextSource,
    known_files,
    model_files,
    resolve_model,
    resolve_text,
)
from rayfit.plan.trials import Domain, TextSettings, TrialSpec
from rayfit.presets import EVALUATION_SIZES
from rayfit.records.storage import Storage

DEFAULT_MODEL = "pydoc-1m"
DEFAULT_NEW_TOKENS = 96

_NOT_HASHED = "not hashed yet"

_Named = TypeVar("_Named", ModelSource, TextSource)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sweep with everything decided.

    `trials` may name the same trial twice, in two arms: it is trained once. `eval_domains` is empty where each trial
    is evaluated on the text that it was trained on. `placements` by the model's name; `products` are every trial's.
    `given`: models and texts, by name, as the command line said them. `prompts`: those of one's own, continued beside
    the contexts of the domains.
    `options.precision` is never auto; `precision_reason` says what auto was resolved by, and is empty where it was given.
    `overruled`: a sentence for every value of the command line that an arm's own value stands against.
    """

    sweep: Sweep
    options: Options
    models: tuple[ModelSource, ...]
    domains: tuple[Domain, ...]
    eval_domains: tuple[Domain, ...]
    trials: tuple[TrialSpec, ...]
    decodings: tuple[Decoding, ...]
    evaluation: EvaluationSettings
    placements: dict[str, Placement]
    products: Products
    given: dict[str, str]
    precision_reason: str
    overruled: tuple[str, ...]
    prompts: Prompts | None = None

    @property
    def pending(self) -> bool:
        """Whether ids wait for work that only `prepare` does (hashing local files, asking the hub)."""
        return (
            any(model.declared is None for model in self.models)
            or any(domain.text.declared is None for domain in self.all_domains)
            or self.evaluation.mauve_features == _NOT_HASHED
        )

    @property
    def all_domains(self) -> tuple[Domain, ...]:
        """Every text that is trained or evaluated on."""
        return _unique((*self.domains, *self.eval_domains))

    @cached_property
    def unique_trials(self) -> tuple[TrialSpec, ...]:
        """The trials, each once."""
        return tuple({trial.key: trial for trial in reversed(self.trials)}.values())[::-1]

    def domains_of(self, trial: TrialSpec) -> tuple[Domain, ...]:
        """The domains a trial is evaluated on."""
        return self.eval_domains or (trial.domain,)

    def domains_of_model(self, model: ModelSource) -> tuple[Domain, ...]:
        """The domains the original model is evaluated on: those of its trials."""
        return _unique(
            domain for trial in self.trials if trial.model == model for domain in self.domains_of(trial)
        )

    def subjects_of(self, trial: TrialSpec) -> tuple[Subject, ...]:
        """The weights of a trial that are evaluated: those kept along training, then the final ones."""
        updates = (*trial.kept_updates(self.products.keep_every), None)
        return tuple(Subject(model=trial.model, trial=trial, update=update) for update in updates)

    def decodings_of(self, trial: TrialSpec | None) -> tuple[Decoding, ...]:
        """The decodings a checkpoint is evaluated under; the original model has no training rows to block."""
        return baseline_decodings(self.decodings) if trial is None else self.decodings_of_trials

    @property
    def decodings_of_trials(self) -> tuple[Decoding, ...]:
        """All but the matched ones, which are of the original model alone."""
        return tuple(decoding for decoding in self.decodings if decoding.kind != "matched")

    def evaluation_of(
        self,
        subject: Subject,
        decoding: Decoding,
        contexts: Contexts,
        *,
        matched_to: TrialSpec | None = None,
    ) -> EvaluationSpec:
        """One evaluation of this plan."""
        return EvaluationSpec(
            subject=subject,
            contexts=contexts,
            decoding=decoding,
            settings=self.evaluation,
            matched_to=matched_to,
        )

    def evaluation_id(self, trial: TrialSpec | None, decoding: Decoding) -> str:
        """The id of a trial's, or of the first model's, evaluation on its first domain."""
        model = self.models[0] if trial is None else trial.model
        domain = self.domains_of_model(model)[0] if trial is None else self.domains_of(trial)[0]
        return self.evaluation_of(Subject(model=model, trial=trial), decoding, HeldOut(domain=domain)).id

    @cached_property
    def evaluations(self) -> tuple[EvaluationSpec, ...]:
        """Everything that is generated and scored, original models first. Not while ids are pending."""
        return tuple({spec.id: spec for spec in self.declared_evaluations()}.values())

    def declared_evaluations(self) -> list[EvaluationSpec]:
        """`evaluations`, also while ids are pending."""
        found = []
        for model in self.models:
            found += self._evaluations_of(Subject(model=model), self.domains_of_model(model))
        for trial in self.unique_trials:
            for subject in self.subjects_of(trial):
                found += self._evaluations_of(subject, self.domains_of(trial))
            found += [
                self.evaluation_of(
                    Subject(model=trial.model), decoding, HeldOut(domain=domain), matched_to=trial
                )
                for domain in self.domains_of(trial)
                for decoding in self.matched_decodings
            ]
        return found

    def _evaluations_of(self, subject: Subject, domains: Iterable[Domain]) -> list[EvaluationSpec]:
        """On all that a subject continues: of weights kept along training, the usual contexts alone."""
        decodings, is_kept = self.decodings_of(subject.trial), subject.update is not None
        found = [
            self.evaluation_of(subject, decoding, contexts)
            for domain in domains
            for decoding in decodings
            for contexts in ((HeldOut(domain=domain),) if is_kept else self.held_out(domain))
        ]
        if self.prompts is not None and not is_kept:
            found += [self.evaluation_of(subject, decoding, self.prompts) for decoding in decodings]
        return found

    def held_out(self, domain: Domain) -> tuple[HeldOut, ...]:
        """A domain's sets of contexts: the usual ones, and those beyond them where they are asked for."""
        more = self.options.further_contexts
        return (HeldOut(domain=domain), *((HeldOut(domain=domain, further=more),) if more else ()))

    @property
    def matched_decodings(self) -> tuple[Decoding, ...]:
        """Those whose temperature is solved, per trial, for the original model."""
        return tuple(decoding for decoding in self.decodings if decoding.kind == "matched")

    @cached_property
    def comparisons(self) -> tuple[ComparisonSpec, ...]:
        """Every trial beside its original model, per domain."""
        return tuple(
            ComparisonSpec(
                trial=trial,
                domain=domain,
                settings=self.evaluation,
                solves_temperature=bool(self.matched_decodings),
            )
            for trial in self.unique_trials
            for domain in self.domains_of(trial)
        )

    @property
    def sweep_id(self) -> str:
        """The content id of the declared sweep: the same trials and measurements give the same id at every launch.

        Prompts have their name in it too: it stands in the rows and in the names of MLflow's scores.
        """
        originals = [spec.id for spec in self.evaluations if spec.subject.trial is None]
        kept = {} if self.products.keep_every is None else {"keep_every": self.products.keep_every}
        named = {} if self.prompts is None else {"prompts": self.prompts.name}
        declared = {
            "kind": self.sweep.kind,
            "trials": sorted(str(trial.id) for trial in self.unique_trials),
            "evaluations": originals,
            "decodings": [decoding.declared() for decoding in self.decodings],
            **kept,
            **named,
        }
        models = "-".join(model.name for model in self.models)
        texts = "-".join(domain.name for domain in self.domains)
        return make_id(f"{self.sweep.kind}-{models}-{texts}-{self.options.scale}"[:100], declared)


def make_plan(sweep: Sweep, given: Options, storage: Storage) -> Plan:
    """Decide everything that the options leave open; raises RayfitError for what cannot be."""
    options, precision = _decided(sweep, given, storage)
    assert options.model
    models = tuple(resolve_model(name, options.revision, storage) for name in options.model)
    names = options.dataset or (None,)
    texts = _texts(options, names, models[0], storage)
    try:
        eval_texts = _texts(options, options.eval_datasets or (), models[0], storage)
    except RayfitError as error:  # which names the option that most texts come from
        raise RayfitError(str(error).replace("--dataset:", "--eval-datasets:", 1)) from error
    given_names = {
        **_given("--model", options.model, models),
        **_given("--dataset", [name or text.name for name, text in zip(names, texts, strict=True)], texts),
        **_given("--eval-datasets", options.eval_datasets or (), eval_texts),
    }
    domains = tuple(_domain(options, models, text) for text in texts)
    eval_domains = tuple(_domain(options, models, text) for text in eval_texts)
    return Plan(
        sweep=sweep,
        options=options,
        models=models,
        domains=domains,
        eval_domains=eval_domains,
        trials=tuple(grid(sweep, given, options, models, domains)),
        decodings=_decodings(options),
        evaluation=_evaluation(options, storage),
        placements={model.name: placement_of(options, model) for model in models},
        products=products_of(options),
        given=given_names,
        precision_reason=precision.reason,
        overruled=overruled(sweep, given, options),
        prompts=given_prompts(options, (*domains, *eval_domains)),
    )


def _decided(sweep: Sweep, given: Options, storage: Storage) -> tuple[Options, Precision]:
    """The options with what the sweep, the scale and this machine decide, and the precision with its reason."""
    scale = given.scale
    if scale is None:
        first = (given.model or (DEFAULT_MODEL,))[0]
        scale = resolve_model(first, given.revision, storage).default_scale
    options = sweep.options_at(scale, given)
    validation, contexts = EVALUATION_SIZES[scale]
    precision = resolve_precision(options.precision, use_gpu=options.use_gpu)
    options = replace(
        options,
        precision=precision.name,
        arms=sweep.chosen_arms(given),
        model=options.model or (DEFAULT_MODEL,),
        decodings=options.decodings or ("greedy",),
        num_new_tokens=options.num_new_tokens or DEFAULT_NEW_TOKENS,
        validation_rows=options.validation_rows or validation,
        contexts=options.contexts or contexts,
    )
    return options, precision


def _evaluation(options: Options, storage: Storage) -> EvaluationSettings:
    assert options.contexts and options.validation_rows
    return EvaluationSettings(
        num_contexts=options.contexts,
        num_validation=options.validation_rows,
        context_length=options.context_length,
        export_dtype=options.export_dtype,
        eval_precision=_eval_precision(options),
        engine=options.engine,
        mauve_features=_mauve_features(options, storage),
    )


def _texts(
    options: Options, names: Iterable[str | None], model: ModelSource, storage: Storage
) -> tuple[TextSource, ...]:
    return tuple(resolve_text(name, options.text_column, options.pool, model, storage) for name in names)


def _given(where: str, words: Iterable[str], sources: Iterable[_Named]) -> dict[str, str]:
    """What was said, by the source's name. Raises RayfitError for two of one name: tables could not tell them apart."""
    found: dict[str, str] = {}
    for word, source in zip(words, sources, strict=True):
        if source.name in found:
            raise RayfitError(f"{where}: {found[source.name]} and {word} are both called {source.name}")
        found[source.name] = word
    return found


def _domain(options: Options, models: tuple[ModelSource, ...], text: TextSource) -> Domain:
    share = options.held_out_share or text.default_held_out_share
    made = next((model.name for model in models if model.kind == "made"), None)
    if made and text.kind == "pydoc" and share > text.default_held_out_share:
        raise RayfitError(
            f"--held-out-share: expected at most {text.default_held_out_share}, the share of {text.name} that "
            f"{made} never saw in its pretraining; got {share}"
        )
    settings = TextSettings(
        span_characters=options.span_characters or text.default_span_characters,
        sequence_length=options.sequence_length,
        held_out_share=share,
    )
    return Domain(text=text, settings=settings)


def _mauve_features(options: Options, storage: Storage) -> str:
    if options.mauve_model is None:
        return ""
    path = Path(options.mauve_model).expanduser()
    if not (path / "config.json").is_file():
        raise RayfitError(f"--mauve-model: {path} is not a Hugging Face model directory (no config.json)")
    return known_files(storage).known(model_files(path)) or _NOT_HASHED


def _eval_precision(options: Options) -> str:
    if options.eval_precision != "auto":
        return options.eval_precision
    return "bf16" if options.use_gpu else "fp32"


def _decodings(options: Options) -> tuple[Decoding, ...]:
    assert options.decodings and options.num_new_tokens
    found = tuple(_decoding(name, options.num_new_tokens) for name in options.decodings)
    if len({decoding.name for decoding in found}) < len(found):
        raise RayfitError(
            f"--decodings: the same decoding is given more than once: {', '.join(options.decodings)}"
        )
    if not any(decoding.kind != "matched" for decoding in found):
        raise RayfitError(
            "--decodings: matched is a decoding of the original model alone; give another one beside it"
        )
    return found


def _decoding(text: str, num_new_tokens: int) -> Decoding:
    """A decoding as given; its length is the sweep's, unless the decoding says its own."""
    decoding = Decoding.parse(text)
    return decoding if "num_new_tokens" in text else replace(decoding, num_new_tokens=num_new_tokens)


def _unique(items: Iterable[Any]) -> tuple[Any, ...]:
    """Each item once, in order, compared by value."""
    found: list[Any] = []
    for item in items:
        if item not in found:
            found.append(item)
    return tuple(found)

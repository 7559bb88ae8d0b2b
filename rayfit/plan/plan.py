"""A sweep with everything decided: its trials and its measurements, with their ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rayfit.config import Options
from rayfit.decoding import Decoding
from rayfit.identity import make_id
from rayfit.plan.cards import Card
from rayfit.plan.contexts import Contexts, HeldOut, Prompts
from rayfit.plan.declaration import Sweep
from rayfit.plan.measurements import (
    Comparison,
    EvaluationSettings,
    Generation,
    Measurement,
    Prediction,
    Subject,
    baseline_decodings,
    scores_of,
)
from rayfit.plan.placement import Placement, Products
from rayfit.plan.sources import ModelSource
from rayfit.plan.trials import Domain, TrialSpec

NOT_HASHED = "not hashed yet"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sweep with everything decided.

    `trials` may name the same trial twice, in two arms: it is trained once. `eval_domains` is empty where each trial
    is evaluated on the text that it was trained on. `placements` by the model's name; `products` are every trial's.
    `given`: models and texts, by name, as the command line said them. `prompts`: those of one's own, continued beside
    the contexts of the domains.
    `cards`: the GPUs that were looked at for it, if any were. `options.use_gpu` is never left open.
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
    cards: tuple[Card, ...] = ()

    @property
    def pending(self) -> bool:
        """Whether ids wait for work that only `prepare` does (hashing local files, asking the hub)."""
        return (
            any(model.declared is None for model in self.models)
            or any(domain.text.declared is None for domain in self.all_domains)
            or self.evaluation.mauve_features == NOT_HASHED
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

    def domains_with_rows(self, model: ModelSource) -> tuple[Domain, ...]:
        """Every domain that the model is trained or evaluated on."""
        trained = [trial.domain for trial in self.unique_trials if trial.model == model]
        evaluated = self.domains_of_model(model)
        return tuple(domain for domain in self.all_domains if domain in trained or domain in evaluated)

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

    @cached_property
    def measurements(self) -> tuple[Measurement, ...]:
        """Everything that is measured, each once; those of the sweep's own kinds last. Not while ids are pending."""
        return tuple({spec.id: spec for spec in self._measurements()}.values())

    def _measurements(self) -> Iterator[Measurement]:
        with_truth: set[tuple[str, str]] = set()
        for spec in self.generations():
            is_usual = isinstance(spec.contexts, HeldOut) and not spec.contexts.further
            if is_usual:
                yield Prediction(subject=spec.subject, contexts=spec.contexts, settings=spec.settings)
            yield from spec.inputs
            yield spec
            yield scores_of(spec)
            # The true continuations stand beside the original's texts; once per model, for they are scored in its tokens.
            place = (spec.subject.model.name, spec.contexts.name)
            if is_usual and spec.trial is None and place not in with_truth:
                with_truth.add(place)
                yield scores_of(spec, of_truth=True)
        for trial in self.unique_trials:
            for domain in self.domains_of(trial):
                subject, contexts = Subject(model=trial.model, trial=trial), HeldOut(domain=domain)
                yield Comparison(subject=subject, contexts=contexts, settings=self.evaluation)
        for kind in self.sweep.measures:
            for spec in kind.specs(self):
                yield from _after_its_inputs(spec)

    def generations(self) -> Iterator[Generation]:
        """Everything that is generated, original models first; matched ones after the trial that they are matched to."""
        for model in self.models:
            yield from self._continued(Subject(model=model), self.domains_of_model(model))
        for trial in self.unique_trials:
            for subject in self.subjects_of(trial):
                yield from self._continued(subject, self.domains_of(trial))
            original = Subject(model=trial.model)
            for domain in self.domains_of(trial):
                for decoding in self.matched_decodings:
                    yield self._generation(original, HeldOut(domain=domain), decoding, trial)

    def _continued(self, subject: Subject, domains: Iterable[Domain]) -> Iterator[Generation]:
        """All that a subject continues: weights kept along training the usual contexts alone."""
        is_kept = subject.update is not None
        for domain in domains:
            for decoding in self.decodings_of(subject.trial):
                for contexts in (HeldOut(domain=domain),) if is_kept else self.held_out(domain):
                    yield self._generation(subject, contexts, decoding)
        if self.prompts is not None and not is_kept:
            for decoding in self.decodings_of(subject.trial):
                yield self._generation(subject, self.prompts, decoding)

    def _generation(
        self, subject: Subject, contexts: Contexts, decoding: Decoding, matching: TrialSpec | None = None
    ) -> Generation:
        return Generation(
            subject=subject, contexts=contexts, settings=self.evaluation, how=decoding, matching=matching
        )

    def held_out(self, domain: Domain) -> tuple[HeldOut, ...]:
        """A domain's sets of contexts: the usual ones, and those beyond them where they are asked for."""
        more = self.options.further_contexts
        return (HeldOut(domain=domain), *((HeldOut(domain=domain, further=more),) if more else ()))

    @property
    def matched_decodings(self) -> tuple[Decoding, ...]:
        """Those whose temperature is solved, per trial, for the original model."""
        return tuple(decoding for decoding in self.decodings if decoding.kind == "matched")

    @cached_property
    def sweep_id(self) -> str:
        """The content id of the declared sweep: the same trials and generations give the same id at every launch.

        Scores are in no sweep's id: mended ones replace those before. Prompts have their name in it too: it stands in the
        rows and in the names of MLflow's scores.
        """
        originals = [spec.id for spec in self.generations() if spec.trial is None]
        kept = {} if self.products.keep_every is None else {"keep_every": self.products.keep_every}
        named = {} if self.prompts is None else {"prompts": self.prompts.name}
        declared = {
            "kind": self.sweep.kind,
            "trials": sorted(str(trial.id) for trial in self.unique_trials),
            "generations": originals,
            "decodings": [decoding.declared() for decoding in self.decodings],
            **kept,
            **named,
        }
        models = "-".join(model.name for model in self.models)
        texts = "-".join(domain.name for domain in self.domains)
        return make_id(f"{self.sweep.kind}-{models}-{texts}-{self.options.scale}"[:100], declared)


def _after_its_inputs(spec: Measurement) -> Iterator[Measurement]:
    """A measurement after all that it is computed from, which a sweep may not have otherwise."""
    for each in spec.inputs:
        yield from _after_its_inputs(each)
    yield spec


def _unique(items: Iterable[Any]) -> tuple[Any, ...]:
    """Each item once, in order, compared by value."""
    found: list[Any] = []
    for item in items:
        if item not in found:
            found.append(item)
    return tuple(found)

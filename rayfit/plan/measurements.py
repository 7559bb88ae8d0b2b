"""What is measured, each kind with its id: predictions, generations, scores of texts, comparisons, temperatures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from rayfit.decoding import Decoding
from rayfit.identity import (
    COMPARE_VERSION,
    DATA_VERSION,
    GENERATE_VERSION,
    PREDICT_VERSION,
    SCORE_VERSION,
    make_id,
)
from rayfit.plan.contexts import Contexts, HeldOut, Prompts
from rayfit.plan.sources import ModelSource
from rayfit.plan.trials import TrialSpec
from rayfit.records.measurement import Setting
from rayfit.records.sweep import PlannedMeasurement
from rayfit.records.values import Who


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How everything of a sweep is measured. Validation rows are in no id: more of them are measured when asked for.

    `mauve_features`: the digest of the files of MAUVE's feature model; empty without one.
    """

    num_contexts: int
    num_validation: int
    context_length: int
    export_dtype: str
    eval_precision: str
    mauve_features: str = ""

    @property
    def declared_precision(self) -> str:
        """The precision as it enters ids; in bf16 the last product of a model is fp32."""
        return "bf16, logits fp32" if self.eval_precision == "bf16" else self.eval_precision

    def declared_contexts(self, contexts: Contexts) -> dict[str, Any]:
        """What decides the contexts' texts; further ones are drawn after the usual ones."""
        if isinstance(contexts, Prompts):
            return {"prompts": contexts.sha256, "data_version": DATA_VERSION}
        further = contexts.further
        return {
            "text": contexts.domain.text.declared,
            **asdict(contexts.domain.settings),
            "contexts": self.num_contexts,
            "context_length": self.context_length,
            "data_version": DATA_VERSION,
            **({"further": further} if further else {}),
        }

    def rows_id(self, contexts: Contexts, model: ModelSource) -> str:
        """The id of contexts, and of their domain's validation rows, under a model's tokenizer."""
        declared = {"contexts": self.declared_contexts(contexts), "model": model.declared}
        if isinstance(contexts, Prompts):
            return make_id(f"prompts-{model.name}", declared)
        return make_id(
            f"{contexts.name}-held-out-{model.name}", {**declared, "validation": self.num_validation}
        )


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A checkpoint to measure: a trial's final weights, those it kept at `update`, or the original model."""

    model: ModelSource
    trial: TrialSpec | None = None
    update: int | None = None

    def declared(self) -> dict[str, Any]:
        """Whose weights, as it enters ids."""
        if self.trial is None:
            return {"model": self.model.declared}
        return {
            "trial": self.trial.id,
            **({} if self.update is None else {"update": self.update}),
        }

    @property
    def readable(self) -> str:
        """The slug part of ids."""
        if self.trial is None:
            return f"{self.model.name}-original"
        return self.trial.readable + ("" if self.update is None else f"-at{self.update}")

    @property
    def original(self) -> Subject:
        """The original model of this subject."""
        return Subject(model=self.model)

    @property
    def who(self) -> Who:
        """The original model or a trained one."""
        return "original" if self.trial is None else "trained"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One thing to measure of one subject on one set of contexts, with an id that says all that decides its numbers.

    A kind of measurement is a subclass: it names its `kind` and `version`, says in `declared` what decides its numbers
    beside its inputs, and in `inputs` which other measurements it is computed from; those are waited for, and without
    them it fails. `follows` are waited for too, however they end, and used where they are there.
    """

    kind: ClassVar[str]
    version: ClassVar[int]

    subject: Subject
    contexts: Contexts
    settings: EvaluationSettings

    @property
    def inputs(self) -> tuple[Measurement, ...]:
        """The measurements that it is computed from."""
        return ()

    @property
    def follows(self) -> tuple[Measurement, ...]:
        """Measurements that it is computed from where they ended well."""
        return ()

    def declared(self) -> dict[str, Any]:
        """What decides its numbers beside its inputs, as it enters the id; by default the checkpoint and the contexts."""
        settings = self.settings
        return {
            **self.subject.declared(),
            "export_dtype": settings.export_dtype if self.subject.trial is not None else "as given",
            "eval_precision": settings.declared_precision,
            "contexts": settings.declared_contexts(self.contexts),
        }

    @property
    def readable(self) -> str:
        """The slug part of the id."""
        return f"{self.subject.readable}-on-{self.contexts.name}"

    @cached_property
    def id(self) -> str:
        """The id: kind, version, the ids of the inputs, and what is declared."""
        declared = {
            "kind": self.kind,
            "version": self.version,
            "inputs": [each.id for each in self.inputs],
            **self.declared(),
        }
        return make_id(self.readable, declared)

    @property
    def who(self) -> Who:
        """Whose numbers they are."""
        return self.subject.who

    @property
    def decoding(self) -> Decoding | None:
        """How the texts that are measured were generated; None where no decoding changes the numbers."""
        return None

    @property
    def matched_to(self) -> TrialSpec | None:
        """The trial whose entropy a matched decoding of the original model has."""
        return None

    @property
    def trial(self) -> TrialSpec | None:
        """The trial that must be trained before; None for what is of the original model alone."""
        return self.matched_to or self.subject.trial

    @property
    def loads(self) -> Subject:
        """Whose weights its process loads, if any: those that load the same follow each other."""
        return self.subject

    @property
    def made_with(self) -> dict[str, Setting]:
        """What decides its numbers and is in no id; a record made with something else is not current."""
        return {}

    @property
    def planned(self) -> PlannedMeasurement:
        """How a sweep's record names it."""
        further = self.contexts.further if isinstance(self.contexts, HeldOut) else 0
        subject, decoding, matched_to = self.subject, self.decoding, self.matched_to
        return PlannedMeasurement(
            kind=self.kind,
            id=self.id,
            who=self.who,
            model=subject.model.name,
            trial_id=None if subject.trial is None else subject.trial.id,
            update=subject.update,
            domain=self.contexts.name,
            decoding=None if decoding is None else decoding.name,
            matched_to=None if matched_to is None else matched_to.id,
            further=further,
        )


@dataclass(frozen=True, kw_only=True)
class Prediction(Measurement):
    """One subject's predictions over true texts (teacher forcing): losses, entropy and ranks, which no decoding changes."""

    kind = "predictions"
    version = PREDICT_VERSION

    @property
    def made_with(self) -> dict[str, Setting]:
        """The number of validation rows: more of them are measured when asked for."""
        return {"num_validation": self.settings.num_validation}


@dataclass(frozen=True, kw_only=True)
class BesideOriginal(Measurement):
    """What is computed from a trial's predictions, which keep its choices, and from its original model, run anew.

    The original's logits are too many to keep in a file.
    """

    version = COMPARE_VERSION

    @property
    def inputs(self) -> tuple[Measurement, ...]:
        """The trial's predictions."""
        return (Prediction(subject=self.subject, contexts=self.contexts, settings=self.settings),)

    @property
    def loads(self) -> Subject:
        """The original."""
        return self.subject.original


@dataclass(frozen=True, kw_only=True)
class Temperature(BesideOriginal):
    """The temperature at which the original model has the mean entropy of a trial's predictions."""

    kind = "temperatures"


@dataclass(frozen=True, kw_only=True)
class Comparison(BesideOriginal):
    """A trial's predictions beside those of its original: agreement and ranks."""

    kind = "comparisons"


@dataclass(frozen=True, kw_only=True)
class Generation(Measurement):
    """The texts with which one subject continues contexts under one decoding.

    `matching`: of the original model under a matched decoding, the trial whose entropy decides the temperature.
    """

    kind = "generations"
    version = GENERATE_VERSION

    how: Decoding
    matching: TrialSpec | None = None

    @property
    def decoding(self) -> Decoding:
        """How tokens are picked."""
        return self.how

    @property
    def matched_to(self) -> TrialSpec | None:
        """The trial whose entropy a matched decoding has."""
        return self.matching

    @property
    def readable(self) -> str:
        """The slug part of the id."""
        return f"{self.subject.readable}-{self.how.name}"

    @property
    def inputs(self) -> tuple[Measurement, ...]:
        """The temperature of a matched decoding."""
        if self.matching is None:
            return ()
        subject = Subject(model=self.matching.model, trial=self.matching)
        return (Temperature(subject=subject, contexts=self.contexts, settings=self.settings),)

    def declared(self) -> dict[str, Any]:
        """The checkpoint, the contexts and the decoding."""
        return {**super().declared(), "decoding": self.how.declared()}

    @property
    def baseline(self) -> Generation | None:
        """The original model under the same decoding without its blocker; None for the original itself."""
        if self.subject.trial is None:
            return None
        return replace(self, subject=self.subject.original, how=unblocked(self.how))


@dataclass(frozen=True, kw_only=True)
class TextScores(Measurement):
    """The scores of generated texts, or of the true continuations of the same contexts (`of_truth`).

    A trial's also have what the original model's texts share with the trial's training rows, where those texts are there.
    """

    kind = "scores"
    version = SCORE_VERSION

    generation: Generation
    of_truth: bool = False

    @property
    def inputs(self) -> tuple[Measurement, ...]:
        """The generated texts, beside which the true continuations stand."""
        return (self.generation,)

    @property
    def follows(self) -> tuple[Measurement, ...]:
        """The original model's texts, for a trial."""
        baseline = self.generation.baseline
        return () if baseline is None else (baseline,)

    def declared(self) -> dict[str, Any]:
        """Whether they are of the true continuations, and the model of MAUVE's features, if there is one."""
        features = self.settings.mauve_features
        return {
            **({"of": "truth"} if self.of_truth else {}),
            **({"mauve_features": features} if features and not self.of_truth else {}),
        }

    @property
    def readable(self) -> str:
        """The slug part of the id."""
        return f"{self.generation.readable}-truth" if self.of_truth else self.generation.readable

    @property
    def who(self) -> Who:
        """The subject of the generation, or the truth."""
        return "truth" if self.of_truth else self.subject.who

    @property
    def decoding(self) -> Decoding | None:
        """The generation's; the true continuations have none."""
        return None if self.of_truth else self.generation.how

    @property
    def matched_to(self) -> TrialSpec | None:
        """The generation's."""
        return self.generation.matched_to


def scores_of(generation: Generation, *, of_truth: bool = False) -> TextScores:
    """The scores of a generation's texts, or of the true continuations of its contexts."""
    return TextScores(
        subject=generation.subject,
        contexts=generation.contexts,
        settings=generation.settings,
        generation=generation,
        of_truth=of_truth,
    )


def unblocked(decoding: Decoding) -> Decoding:
    """The same decoding without the citation blocker: what the original model is compared under."""
    return replace(decoding, block=None)


def baseline_decodings(decodings: tuple[Decoding, ...]) -> tuple[Decoding, ...]:
    """Each decoding without its blocker, once; matched ones are not the original's own."""
    plain = (unblocked(decoding) for decoding in decodings if decoding.kind != "matched")
    return tuple({decoding.name: decoding for decoding in plain}.values())

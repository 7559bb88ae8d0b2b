"""What is measured of a checkpoint: predictions over true texts, generations under a decoding, and pairs; with ids."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from rayfit.decoding import Decoding
from rayfit.identity import DATA_VERSION, GENERATE_VERSION, SCORE_VERSION, make_id
from rayfit.plan.contexts import Contexts, HeldOut, Prompts
from rayfit.plan.sources import ModelSource
from rayfit.plan.trials import Domain, TrialSpec


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How everything of a sweep is evaluated. Validation rows are in no id: more of them are measured when asked for.

    `mauve_features`: the digest of the files of MAUVE's feature model; empty without one.
    """

    num_contexts: int
    num_validation: int
    context_length: int
    export_dtype: str
    eval_precision: str
    engine: str = "transformers"
    mauve_features: str = ""

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


@dataclass(frozen=True, kw_only=True)
class PredictionSpec:
    """One subject's predictions over true texts of one domain (teacher forcing): what no decoding changes."""

    subject: Subject
    domain: Domain
    settings: EvaluationSettings

    @property
    def id(self) -> str:
        """The id of the record."""
        declared = {
            **self.subject.declared(),
            **_declared_measuring(self.subject, self.settings),
            "contexts": self.settings.declared_contexts(HeldOut(domain=self.domain)),
            "kind": "predictions",
        }
        return make_id(f"{self.subject.readable}-on-{self.domain.name}", declared)


@dataclass(frozen=True, kw_only=True)
class EvaluationSpec:
    """One subject under one decoding on some contexts: generated, and scored together with its predictions.

    `matched_to`: the trial whose entropy decides the temperature of a matched decoding of the original model.
    """

    subject: Subject
    contexts: Contexts
    decoding: Decoding
    settings: EvaluationSettings
    matched_to: TrialSpec | None = None

    @property
    def id(self) -> str:
        """Trial id, contexts, decoding, export dtype, evaluation precision, and the versions of generate and score."""
        declared = {
            **self.subject.declared(),
            **_declared_measuring(self.subject, self.settings),
            "contexts": self.settings.declared_contexts(self.contexts),
            "decoding": self.decoding.declared(),
            "generate_version": GENERATE_VERSION,
        }
        if self.settings.engine != "transformers":
            declared["engine"] = self.settings.engine
        if self.settings.mauve_features:
            declared["mauve_features"] = self.settings.mauve_features
        if self.matched_to is not None:
            declared["matched_to"] = self.matched_to.id
        return make_id(f"{self.subject.readable}-{self.decoding.name}", declared)

    @property
    def predictions(self) -> PredictionSpec | None:
        """The predictions whose scores go into this evaluation; none for further contexts and prompts."""
        if isinstance(self.contexts, Prompts) or self.contexts.further:
            return None
        return PredictionSpec(subject=self.subject, domain=self.contexts.domain, settings=self.settings)

    @property
    def baseline(self) -> EvaluationSpec | None:
        """The original model under the same decoding without its blocker; None for the original itself."""
        if self.subject.trial is None:
            return None
        return replace(self, subject=self.subject.original, decoding=unblocked(self.decoding))

    @property
    def comparison(self) -> ComparisonSpec | None:
        """What solves the temperature of a matched decoding."""
        if self.matched_to is None:
            return None
        assert isinstance(self.contexts, HeldOut)  # there is no entropy along prompts to be matched
        return ComparisonSpec(
            trial=self.matched_to,
            domain=self.contexts.domain,
            settings=self.settings,
            solves_temperature=True,
        )


@dataclass(frozen=True, kw_only=True)
class ComparisonSpec:
    """A trial's predictions beside the original's on one domain: agreement, ranks, and the matched temperature if wanted."""

    trial: TrialSpec
    domain: Domain
    settings: EvaluationSettings
    solves_temperature: bool = False

    @property
    def predictions(self) -> PredictionSpec:
        """The trial's predictions."""
        subject = Subject(model=self.trial.model, trial=self.trial)
        return PredictionSpec(subject=subject, domain=self.domain, settings=self.settings)

    @property
    def id(self) -> str:
        """The id of the record; the temperature is a product of it that may be added later."""
        return make_id(
            f"{self.trial.readable}-beside-original", {"kind": "comparison", "of": self.predictions.id}
        )


def _declared_measuring(subject: Subject, settings: EvaluationSettings) -> dict[str, Any]:
    return {
        "export_dtype": settings.export_dtype if subject.trial is not None else "as given",
        "eval_precision": settings.eval_precision,
        "score_version": SCORE_VERSION,
    }


def unblocked(decoding: Decoding) -> Decoding:
    """The same decoding without the citation blocker: what the original model is compared under."""
    return replace(decoding, block=None)


def baseline_decodings(decodings: tuple[Decoding, ...]) -> tuple[Decoding, ...]:
    """Each decoding without its blocker, once; matched ones are not the original's own."""
    plain = (unblocked(decoding) for decoding in decodings if decoding.kind != "matched")
    return tuple({decoding.name: decoding for decoding in plain}.values())

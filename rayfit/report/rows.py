"""The rows of a sweep: one per checkpoint, decoding and domain, joined from records by their ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rayfit.columns import ORIGINAL, TRAINED, TRUTH, columns_of_rows
from rayfit.plan.contexts import HeldOut
from rayfit.plan.evaluations import ComparisonSpec, EvaluationSpec, unblocked
from rayfit.plan.planning import Plan
from rayfit.plan.sources import ModelSource
from rayfit.plan.trials import Domain, TrialSpec
from rayfit.records.storage import Storage
from rayfit.records.trials import is_hyperfitted

Row = dict[str, Any]

NO_PREDICTIONS = "prompts have no true text, over which losses, perplexity and entropy are taken"
NO_OVERLAP = "has no training rows of its own; each trial's row has its overlap with that trial's rows"


def value(row: Mapping[str, Any], name: str) -> Any:
    """What a row says in a column; None where it has no such column."""
    return row.get(name)


def interval(row: Mapping[str, Any], name: str) -> tuple[float | None, float | None]:
    """The ends of a number's 95% interval, None where it has none."""
    low, high = (row.get("intervals") or {}).get(name, (None, None))
    return low, high


def is_trained(row: Mapping[str, Any]) -> bool:
    """Whether the row is of a trial's weights."""
    return bool(value(row, "who") == TRAINED)


def is_original(row: Mapping[str, Any]) -> bool:
    """Whether the row is of a model before training."""
    return bool(value(row, "who") == ORIGINAL)


def is_truth(row: Mapping[str, Any]) -> bool:
    """Whether the row is of the true continuations."""
    return bool(value(row, "who") == TRUTH)


def is_finished(row: Mapping[str, Any]) -> bool:
    """Whether the row has its numbers."""
    return bool(value(row, "status") == "FINISHED")


def rows_on_texts(rows: Sequence[Row], prompts: Mapping[str, Any] | None) -> list[Row]:
    """The rows on held-out contexts, without those on prompts. `prompts`: as a sweep's record says which those are."""
    return [row for row in rows if prompts is None or row["domain"] != prompts["name"]]


def sweep_rows(
    plan: Plan, storage: Storage, errors: Mapping[str, str], trial_errors: Mapping[str, str] | None = None
) -> list[Row]:
    """All rows of a sweep: per model the true continuations and the original, then every trial, per decoding and domain.

    `errors`: why an evaluation failed, by its id; `trial_errors`: why a trial did, by its id. Losses and entropy come
    from the evaluator for every row: one set of rows and one precision. What is missing is null, and `reason` says why.
    """
    join = _Join(plan, storage, errors, trial_errors or {})
    rows = []
    for model in plan.models:
        for domain in plan.domains_of_model(model):
            rows.append(join.truth(model, domain))
        rows += [
            join.original(spec)
            for spec in plan.evaluations
            if spec.subject.model == model and _is_plain(spec) and spec.contexts.has_rows
        ]
    for trial in plan.trials:
        found = [
            join.trial(spec, trial)
            for spec in plan.evaluations
            if spec.subject.trial is not None and spec.subject.trial.id == trial.id and spec.contexts.has_rows
        ]
        mark_early_stopped(found, trial.domain.name)
        rows += found
        rows += [
            join.matched(spec, trial)
            for spec in plan.evaluations
            if spec.matched_to is not None and spec.matched_to.id == trial.id
        ]
    return rows


def _is_plain(spec: EvaluationSpec) -> bool:
    return spec.subject.trial is None and spec.matched_to is None


def mark_early_stopped(rows: list[Row], trained_on: str) -> None:
    """Of a trial's weights, kept along training or final, those of the lowest validation loss are its early stopping.

    One checkpoint per trial, whatever it is evaluated on: validation rows are of the text it was trained on, or, where it
    is not evaluated there, of the first text. Nothing is marked of a trial of which only the final weights are there.
    """
    if all(row["update"] is None for row in rows):
        return
    measured = [row for row in rows if row["validation_loss"] is not None]
    own = [row for row in measured if row["domain"] == trained_on]
    own = own or [row for row in measured if row["domain"] == measured[0]["domain"]]
    best = min(own, key=lambda row: row["validation_loss"], default=None)
    for row in rows:
        row["early_stopped"] = best is not None and row["update"] == best["update"]


class _Join:
    """Rows from the records of one plan."""

    def __init__(
        self, plan: Plan, storage: Storage, errors: Mapping[str, str], trial_errors: Mapping[str, str]
    ) -> None:
        self._plan, self._storage = plan, storage
        self._errors, self._trial_errors = errors, trial_errors

    def truth(self, model: ModelSource, domain: Domain) -> Row:
        """The true continuations of a domain, in the tokens of a model."""
        row = _empty(TRUTH, model.name, None, domain.name)
        row["reason"] = "true continuations have text scores only"
        own = [
            spec
            for spec in self._plan.evaluations
            if _is_plain(spec) and (spec.subject.model, spec.contexts) == (model, HeldOut(domain=domain))
        ]
        for spec in own:
            record = self._storage.read("evaluations", spec.id)
            if record is not None:
                add_scores(row, record["truth"])
                return row
        failed = any(spec.id in self._errors for spec in own)
        row["status"] = "FAILED" if failed else "PENDING"
        row["reason"] = (
            "the original model's evaluation, which reads them, failed" if failed else "not evaluated yet"
        )
        return row

    def original(self, spec: EvaluationSpec) -> Row:
        """The original model under one decoding."""
        row = self._row(ORIGINAL, spec, self._errors.get(spec.id, ""))
        if row["status"] == "FINISHED":
            _add_reason(row, NO_OVERLAP)
        return row

    def matched(self, spec: EvaluationSpec, trial: TrialSpec) -> Row:
        """The original model at the temperature that gives it a trial's entropy."""
        error = self._errors.get(spec.id, "") or self._trial_errors.get(str(trial.id), "")
        row = self._row(ORIGINAL, spec, error)
        row["arm"] = f"matched to {trial.readable}"
        row["trial_id"] = trial.id
        assert spec.comparison is not None
        self._add_comparison(row, spec.comparison, ("matched_temperature",))
        row["reason"] = row["reason"] or NO_OVERLAP
        return row

    def trial(self, spec: EvaluationSpec, trial: TrialSpec) -> Row:
        """A trial's weights under one decoding. `trial` names the arm: two arms may hold the same training."""
        error = self._trial_errors.get(str(trial.id), "") or self._errors.get(spec.id, "")
        row = self._row(TRAINED, spec, error)
        row["arm"] = trial.arm if self._plan.sweep.has_arms else None
        trained = None if trial.id is None else self._storage.read("trials", trial.id)
        loss = row["train_loss"] if spec.predictions is not None else self._train_loss(spec, trial)
        _add_trial(row, trial, spec.subject.update, trained, loss)
        if spec.subject.update is None and not error:
            own = [
                comparison
                for comparison in self._plan.comparisons
                if comparison.trial.id == trial.id and HeldOut(domain=comparison.domain) == spec.contexts
            ]
            for comparison in own:
                self._add_comparison(row, comparison)
        return row

    def _row(self, who: str, spec: EvaluationSpec, error: str) -> Row:
        row = _empty(who, spec.subject.model.name, spec.decoding.name, spec.contexts.name)
        row["baseline_decoding"] = unblocked(spec.decoding).name
        record = self._storage.read("evaluations", spec.id)
        if record is None or error:
            row["status"] = "FAILED" if error else "PENDING"
            row["reason"] = error or "not evaluated yet"
            return row
        row["evaluation_id"] = spec.id
        row["predictions_id"] = None if spec.predictions is None else spec.predictions.id
        add_scores(row, record["scores"])
        if not isinstance(spec.contexts, HeldOut):
            _add_reason(row, NO_PREDICTIONS)
        if spec.subject.trial is None:
            row["minutes"] = round(record["seconds"]["total"] / 60, 3)
        return row

    def _train_loss(self, spec: EvaluationSpec, trial: TrialSpec) -> float | None:
        """A trial's loss as its predictions have it: of the training rows, the same on whatever domain."""
        contexts = HeldOut(domain=self._plan.domains_of(trial)[0])
        predictions = self._plan.evaluation_of(spec.subject, spec.decoding, contexts).predictions
        assert predictions is not None
        record = self._storage.read("predictions", predictions.id) or {"scores": {}}
        value = record["scores"].get("train_loss", {}).get("value")
        return None if value is None else float(value)

    def _add_comparison(self, row: Row, spec: ComparisonSpec, names: tuple[str, ...] | None = None) -> None:
        record = self._storage.read("comparisons", spec.id)
        if record is not None:
            scores = record["scores"]
            add_scores(row, {name: scores[name] for name in names or scores})


def _empty(who: str, model: str, decoding: str | None, domain: str) -> Row:
    row: Row = dict.fromkeys(columns_of_rows())
    return {
        **row,
        "who": who,
        "model": model,
        "decoding": decoding,
        "domain": domain,
        "status": "FINISHED",
        "intervals": {},
    }


def add_scores(row: Row, scores: Mapping[str, Mapping[str, Any]]) -> None:
    """Put a record's scores into a row, intervals apart."""
    for name, entry in scores.items():
        row[name] = entry["value"]
        if entry["low"] is not None:
            row["intervals"][name] = [entry["low"], entry["high"]]


def _add_reason(row: Row, reason: str) -> None:
    row["reason"] = f"{row['reason']}; {reason}" if row["reason"] else reason


def _add_trial(
    row: Row, trial: TrialSpec, update: int | None, trained: dict[str, Any] | None, loss: float | None
) -> None:
    """What is known of a trial. `loss`: over its training rows, as the evaluator measured it."""
    recipe, selection = trial.recipe, trial.selection
    stopped = (trained or {}).get("stopped_at_update")
    updates = update or stopped or recipe.num_updates
    row |= {
        "trial_id": trial.id,
        "train_text": trial.domain.name,
        "update": update,
        "samples": selection.samples,
        "updates": updates,
        "epochs": updates * recipe.batch_size / selection.samples,
        "seed": selection.sample_seed,
        "order_seed": selection.order_seed,
        "training_seed": recipe.training_seed,
        "learning_rate": recipe.learning_rate,
        "batch_size": recipe.batch_size,
        "adapter": None if recipe.adapter is None else recipe.adapter.text,
        "stop_at_train_loss": recipe.stop_at_train_loss,
        "repeat": trial.repeat,
    }
    if trained is None:
        return
    row["trainable_parameters"] = trained.get("trainable_parameters")
    row["train_loss_floor"] = trained["floor"]
    if update is None:
        # The evaluator's loss decides where there is one; the worker's own, in training precision, until then.
        loss = loss if loss is not None else trained["final"]["train_loss"]
        row["minutes"] = round(trained["seconds"]["total"] / 60, 3)
        row["overhead_seconds"] = trained["overhead_seconds"]
    if loss is None:
        return
    row["hyperfitted"] = is_hyperfitted(loss, trained["floor"])
    if row["status"] == "FINISHED" and not row["hyperfitted"]:
        _add_reason(row, "not hyperfitted: the final training loss is more than 0.1 above its floor")
        if recipe.stop_at_train_loss is not None and stopped is None:
            row["reason"] += f"; the training loss {recipe.stop_at_train_loss:g} was not reached"

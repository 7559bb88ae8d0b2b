"""The rows of a sweep before anything is done: one per checkpoint, decoding and domain, with what is declared of it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rayfit.plan.contexts import HeldOut, Prompts
from rayfit.plan.measurements import Generation, unblocked
from rayfit.plan.plan import Plan
from rayfit.plan.trials import TrialSpec
from rayfit.records.sweep import Row

NOT_YET = "not evaluated yet"


def planned_rows(plan: Plan) -> list[Row]:
    """All rows of a sweep: per model the true continuations and the original, then every trial. None has numbers yet."""
    generations = [spec for spec in plan.generations() if spec.contexts.has_rows]
    rows: list[Row] = []
    for model in plan.models:
        rows += [
            Row(who="truth", model=model.name, domain=domain.name, status="PENDING", reason=NOT_YET)
            for domain in plan.domains_of_model(model)
        ]
        rows += [_row(spec) for spec in generations if spec.trial is None and spec.subject.model == model]
    of_trials: dict[str, list[Generation]] = {}
    for spec in generations:
        if spec.trial is not None:
            of_trials.setdefault(spec.trial.key, []).append(spec)
    matched: set[str] = set()
    for trial in plan.trials:
        own, arm = of_trials.get(trial.key, []), trial.arm if plan.sweep.has_arms else None
        rows += [_of_trial(_row(spec), trial, arm) for spec in own if spec.matching is None]
        # Two arms may hold the same training, which has one original matched to it.
        if trial.key not in matched:
            rows += _matched_to(trial, own)
            matched.add(trial.key)
    return rows


def _matched_to(trial: TrialSpec, own: list[Generation]) -> Iterator[Row]:
    for spec in own:
        if spec.matching is not None:
            yield msgspec.structs.replace(_row(spec), trial_id=trial.id, arm=f"matched to {trial.readable}")


def _row(spec: Generation) -> Row:
    assert isinstance(spec.contexts, HeldOut | Prompts)
    return Row(
        who=spec.who,
        model=spec.subject.model.name,
        domain=spec.contexts.name,
        status="PENDING",
        reason=NOT_YET,
        decoding=spec.how.name,
        baseline_decoding=unblocked(spec.how).name,
        update=spec.subject.update,
    )


def _of_trial(row: Row, trial: TrialSpec, arm: str | None) -> Row:
    """The row with what is declared of its trial; of a stopped training the updates are known later."""
    recipe, selection = trial.recipe, trial.selection
    updates = row.update or recipe.num_updates
    return msgspec.structs.replace(
        row,
        arm=arm,
        trial_id=trial.id,
        train_text=trial.domain.name,
        samples=selection.samples,
        updates=updates,
        epochs=updates * recipe.batch_size / selection.samples,
        seed=selection.sample_seed,
        order_seed=selection.order_seed,
        training_seed=recipe.training_seed,
        learning_rate=recipe.learning_rate,
        batch_size=recipe.batch_size,
        adapter=None if recipe.adapter is None else recipe.adapter.text,
        stop_at_train_loss=recipe.stop_at_train_loss,
        repeat=trial.repeat,
    )

"""From the plan to what groups and evaluators are handed: ids become paths."""

from __future__ import annotations

import shlex
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import polars as pl

from rayfit.config import Options, flag
from rayfit.plan.contexts import HeldOut
from rayfit.plan.declaration import AXES
from rayfit.plan.deepspeed import effective_zero_stage
from rayfit.plan.evaluations import ComparisonSpec, EvaluationSpec, PredictionSpec, Subject
from rayfit.plan.planning import Plan
from rayfit.plan.sources import ModelSource
from rayfit.plan.trials import TrialSpec
from rayfit.prepare.prepare import Prepared
from rayfit.prepare.token_rows import CONTEXTS, ROWS, VALIDATION, contexts_file
from rayfit.records.storage import Storage
from rayfit.records.trials import checkpoint_product, kept_product, product_path
from rayfit.sweep.evaluation_task import ComparisonTask, EvaluationTask, ModelTask, PredictionTask
from rayfit.sweep.trial_task import TrialTask

# What a command need not repeat to make a trial again, because it does not decide anything of it, or because it is
# said of each trial below.
_NOT_REPEATED = (
    *("plan", "fresh", "scale", "storage", "tracking_uri", "num_cpus", "revision", "arms", "prompts"),
    *(*AXES, "stop_at_train_loss"),
)


def script_name(script: str) -> str:
    """A sweep script as a command names it: `sweeps/data_quantity.py` in the project's own folder, else its whole path."""
    path = Path(script).resolve()
    return f"sweeps/{path.name}" if path.parent.name == "sweeps" else str(path)


def trial_command(script: str, plan: Plan, trial: TrialSpec) -> str:
    """The exact command that makes the trial's record again, every option that decides it written out."""
    words = ["python", script_name(script)]
    for field in fields(Options):
        value = getattr(plan.options, field.name)
        if field.name in _NOT_REPEATED or value is None or value is False:
            continue
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words += [flag(field.name), text] if value is not True else [flag(field.name)]
    words += ["--model", plan.given[trial.model.name], "--dataset", plan.given[trial.domain.name]]
    if plan.sweep.has_arms:
        words += ["--arms", trial.arm]
    for name, value in _own_words(plan, trial).items():
        words += [flag(name), str(value)]
    if trial.model.kind == "hub":
        assert trial.model.declared is not None
        words += ["--revision", trial.model.declared["commit"]]
    return shlex.join([*words, "--scale", str(plan.options.scale)])


def _own_words(plan: Plan, trial: TrialSpec) -> dict[str, Any]:
    """The axes of one trial, less those that its arm decides with one value: the arm decides them again."""
    selection, recipe = trial.selection, trial.recipe
    changes = plan.sweep.arms_at(plan.options)[trial.arm]
    words: dict[str, Any] = {
        "samples": selection.samples,
        "num_updates": recipe.num_updates,
        "learning_rate": repr(recipe.learning_rate),
        "batch_size": recipe.batch_size,
    }
    if recipe.adapter is not None:
        words |= {"adapter": recipe.adapter.text, "training_seeds": recipe.training_seed}
    if recipe.stop_at_train_loss is not None:
        words["stop_at_train_loss"] = repr(recipe.stop_at_train_loss)
    sample = selection.sample_seed - changes.get("sample_offset", 0)
    order = selection.order_seed - changes.get("order_offset", 0)
    words |= {"seeds": sample} if sample == order else {"sample_seeds": sample, "order_seeds": order}
    length = {"num_updates", "epochs"} & changes.keys()
    return {
        name: value
        for name, value in words.items()
        if not _is_decided(changes.get(name)) and not (name == "num_updates" and length)
    }


def _is_decided(said: Any) -> bool:
    """Whether what an arm says of an axis leaves one value; said of no axis is None."""
    return said is not None and not (isinstance(said, tuple) and len(said) > 1)


def trial_task(prepared: Prepared, trial: TrialSpec, storage: Storage, script: str) -> TrialTask:
    """What a group needs to train the trial."""
    plan = prepared.plan
    rows = storage.read("rows", trial.rows_id)
    assert rows is not None
    held_out = plan.evaluation.rows_id(HeldOut(domain=trial.domain), trial.model)
    return TrialTask(
        id=str(trial.id),
        rows_path=storage.folder("rows", trial.rows_id) / ROWS,
        validation_path=storage.folder("rows", held_out) / VALIDATION,
        model_path=prepared.model_paths[trial.model.name],
        samples=trial.selection.samples,
        sequence_length=trial.domain.settings.sequence_length,
        num_validation=plan.evaluation.num_validation,
        order_seed=trial.selection.order_seed,
        exchange=trial.selection.exchange,
        batch_size=trial.recipe.batch_size,
        num_updates=trial.recipe.num_updates,
        learning_rate=trial.recipe.learning_rate,
        stop_at_train_loss=trial.recipe.stop_at_train_loss,
        train_seed=trial.recipe.training_seed or 0,
        eval_every=plan.products.eval_every,
        keep=trial.kept_updates(plan.products.keep_every),
        export_dtype=plan.products.export_dtype,
        fresh=plan.options.fresh,
        about={**_about_trial(plan, trial, rows, storage), "command": trial_command(script, plan, trial)},
    )


def _about_trial(plan: Plan, trial: TrialSpec, rows: dict[str, Any], storage: Storage) -> dict[str, Any]:
    placement = plan.placements[trial.model.name]
    stage, note = effective_zero_stage(placement.zero_stage, trial.recipe.precision)
    recipe, selection = trial.recipe, trial.selection
    exchanged = trial.exchanged_epochs()
    return {
        "declared": trial.declared(),
        "readable": trial.readable,
        "sweep_kind": plan.sweep.kind,
        "sweep_id": plan.sweep_id,
        "model": {
            "name": trial.model.name,
            "kind": trial.model.kind,
            "parameters": trial.model.num_parameters,
            "weights_sha256": base_weights(trial.model, storage),
        },
        "text": trial.domain.name,
        "rows": {"id": trial.rows_id, "fingerprint": rows["fingerprint"]},
        "samples": selection.samples,
        "sample_seed": selection.sample_seed,
        "order_seed": selection.order_seed,
        "num_updates": recipe.num_updates,
        "epochs": trial.epochs,
        "learning_rate": recipe.learning_rate,
        "batch_size": recipe.batch_size,
        "adapter": None if recipe.adapter is None else recipe.adapter.text,
        "repeat": trial.repeat,
        "exchange": None if exchanged is None else {"samples": selection.exchange, **exchanged._asdict()},
        "precision": recipe.precision,
        "placement": {**asdict(placement), "zero_stage_run": stage, "note": note},
    }


def base_weights(model: ModelSource, storage: Storage) -> str | None:
    """The digest of a made model's weights, which are made here and so could differ; None for others."""
    record = storage.read("models", model.made_id) if model.kind == "made" else None
    return None if record is None else str(record["weights_sha256"])


def model_task(prepared: Prepared, subject: Subject, storage: Storage) -> ModelTask:
    """How to load a subject's checkpoint."""
    plan = prepared.plan
    path = prepared.model_paths[subject.model.name]
    if subject.trial is not None:
        record = storage.read("trials", str(subject.trial.id))
        assert record is not None
        dtype = plan.products.export_dtype
        product = checkpoint_product(dtype)
        if subject.update is not None:
            product = kept_product(subject.update, dtype)
        path = product_path(storage, record, product)
    return ModelTask(
        path=path,
        eval_precision=plan.evaluation.eval_precision,
        device="cuda" if plan.options.use_gpu else "cpu",
        num_threads=1,
    )


def about_subject(prepared: Prepared, subject: Subject, storage: Storage) -> dict[str, Any]:
    """Whose weights are measured, for a record."""
    plan = prepared.plan
    about = {
        "subject": "original" if subject.trial is None else "trial",
        "trial_id": None if subject.trial is None else subject.trial.id,
        "update": subject.update,
        "checkpoint_weights_sha256": base_weights(subject.model, storage),
        "model_name": subject.model.name,
        "num_validation": plan.evaluation.num_validation,
        "export_dtype": plan.products.export_dtype,
    }
    if subject.trial is not None:
        record = storage.read("trials", str(subject.trial.id))
        assert record is not None
        about |= {"checkpoint_weights_sha256": record["weights_sha256"], "edition": record["edition"]}
    return about


def prediction_task(prepared: Prepared, spec: PredictionSpec, storage: Storage) -> PredictionTask:
    """What an evaluator needs to measure a subject's predictions."""
    settings, trial = spec.settings, spec.subject.trial
    folder = storage.folder("rows", settings.rows_id(HeldOut(domain=spec.domain), spec.subject.model))
    return PredictionTask(
        id=spec.id,
        model=model_task(prepared, spec.subject, storage),
        contexts_path=folder / CONTEXTS,
        validation_path=folder / VALIDATION,
        rows_path=None if trial is None else storage.folder("rows", trial.rows_id) / ROWS,
        context_length=settings.context_length,
        about={**about_subject(prepared, spec.subject, storage), "domain": spec.domain.name},
    )


def evaluation_task(prepared: Prepared, spec: EvaluationSpec, storage: Storage) -> EvaluationTask:
    """What an evaluator needs to continue contexts and score the texts."""
    plan, settings, trial, model = prepared.plan, spec.settings, spec.subject.trial, spec.subject.model
    rows_id = settings.rows_id(spec.contexts, model)
    rows = storage.read("rows", rows_id)
    assert rows is not None
    file_name = contexts_file(spec.contexts)
    baseline, comparison, predictions = spec.baseline, spec.comparison, spec.predictions
    path = storage.folder("rows", rows_id) / file_name
    return EvaluationTask(
        id=spec.id,
        model=model_task(prepared, spec.subject, storage),
        decoding=spec.decoding,
        engine=settings.engine,
        contexts_path=path,
        num_contexts=pl.scan_parquet(path).select(pl.len()).collect().item(),
        rows_path=None if trial is None else storage.folder("rows", trial.rows_id) / ROWS,
        predictions_id=None if predictions is None else predictions.id,
        baseline_id=None if baseline is None else baseline.id,
        comparison_id=None if comparison is None else comparison.id,
        context_length=settings.context_length if isinstance(spec.contexts, HeldOut) else None,
        bos_id=rows["bos_id"],
        domain=spec.contexts.name,
        mauve_model=Path(plan.options.mauve_model) if plan.options.mauve_model else None,
        about={
            **about_subject(prepared, spec.subject, storage),
            "contexts_fingerprint": rows["fingerprints"][file_name],
            **matched_with(spec, storage),
        },
    )


def matched_with(spec: EvaluationSpec, storage: Storage) -> dict[str, Any]:
    """The trial, and which training of it, whose entropy a matched decoding has."""
    if spec.matched_to is None:
        return {}
    record = storage.read("trials", str(spec.matched_to.id)) or {}
    return {"matched_to": spec.matched_to.id, "matched_to_edition": record.get("edition")}


def comparison_task(prepared: Prepared, spec: ComparisonSpec, storage: Storage) -> ComparisonTask:
    """What an evaluator needs to hold a trial's predictions beside its original's."""
    subject = Subject(model=spec.trial.model, trial=spec.trial)
    folder = storage.folder("rows", spec.settings.rows_id(HeldOut(domain=spec.domain), spec.trial.model))
    return ComparisonTask(
        id=spec.id,
        original=model_task(prepared, subject.original, storage),
        predictions_id=spec.predictions.id,
        contexts_path=folder / CONTEXTS,
        solves_temperature=spec.solves_temperature,
        about={**about_subject(prepared, subject, storage), "domain": spec.domain.name},
    )

"""From the plan to what groups are handed to train: ids become paths."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

from rayfit.config import Options, flag, words_of
from rayfit.plan.contexts import HeldOut
from rayfit.plan.declaration import AXES
from rayfit.plan.deepspeed import effective_zero_stage
from rayfit.plan.plan import Plan
from rayfit.plan.products import wanted_products
from rayfit.plan.sources import count_parameters
from rayfit.plan.trials import CURVE_ROWS, TrialSpec
from rayfit.prepare.made_models import base_weights
from rayfit.prepare.prepare import Prepared
from rayfit.prepare.token_rows import ROWS, VALIDATION
from rayfit.records.states import is_begun_anew
from rayfit.records.storage import Storage
from rayfit.records.trial import AboutTrial, Exchange, Placed, TrainedModel, TrainedRows
from rayfit.sweep.trial import TrialTask
from rayfit.train.schedule import Schedule

# What a command need not repeat to make a trial again, because it does not decide anything of it, or because it is
# said of each trial below.
_NOT_REPEATED = (
    *("plan", "fresh", "scale", "storage", "tracking_uri", "num_cpus", "revision", "arms", "prompts"),
    *(*AXES, "stop_at_train_loss"),
)


_OF_PLACEMENT = ("num_workers", "zero_stage", "micro_batch", "activation_checkpointing", "offload")


def script_name(script: str) -> str:
    """A sweep script as a command names it: `sweeps/data_quantity.py` in the project's own folder, else its whole path."""
    path = Path(script).resolve()
    return f"sweeps/{path.name}" if path.parent.name == "sweeps" else str(path)


def trial_command(script: str, plan: Plan, trial: TrialSpec) -> str:
    """The exact command that makes the trial's record again, every option that decides it written out."""
    words = ["python", script_name(script)]
    for field in fields(Options):
        value = getattr(plan.options, field.name)
        if field.name in _NOT_REPEATED or value is None:
            continue
        if plan.options.use_gpu and field.name in _OF_PLACEMENT:
            continue
        if meanings := words_of(field.name):
            words += [flag(field.name), next(word for word, meaning in meanings.items() if meaning is value)]
            continue
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words += [flag(field.name), text]
    words += ["--model", plan.given[trial.model.name], "--dataset", plan.given[trial.domain.name]]
    if plan.sweep.has_arms:
        words += ["--arms", trial.arm]
    placement = plan.placements[trial.model.name]
    if placement.use_gpu:  # what was left open there follows from the GPUs
        words += placement.text.split()
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
    plan, recipe, selection = prepared.plan, trial.recipe, trial.selection
    held_out = plan.evaluation.rows_id(HeldOut(domain=trial.domain), trial.model)
    finished = storage.trial(trial.id)
    return TrialTask(
        about=_about_trial(prepared, trial, storage, script),
        schedule=Schedule(
            batch_size=recipe.batch_size,
            num_updates=recipe.num_updates,
            learning_rate=recipe.learning_rate,
            order_seed=selection.order_seed,
            model_path=prepared.model_paths[trial.model.name],
            export_dtype=plan.products.export_dtype,
            exchange=selection.exchange,
            stop_at_train_loss=recipe.stop_at_train_loss,
            keep=trial.kept_updates(plan.products.keep_every),
            train_seed=recipe.training_seed or 0,
            micro_batch=plan.placements[trial.model.name].micro_batch,
        ),
        rows_path=storage.folder("rows", trial.rows_id) / ROWS,
        validation_path=storage.folder("rows", held_out) / VALIDATION,
        sequence_length=trial.domain.settings.sequence_length,
        num_validation=min(CURVE_ROWS, plan.evaluation.num_validation),
        eval_every=plan.products.eval_every,
        fresh=plan.options.fresh or (finished is not None and is_begun_anew(storage, finished)),
        anew=plan.options.fresh,
        wanted=tuple(product.name for product in wanted_products(plan, trial)),
        finished_before=None if finished is None else finished.finished_at,
        checkpoint_minutes=plan.options.checkpoint_minutes,
        checkpoint_every=plan.options.checkpoint_every,
    )


def _num_parameters(prepared: Prepared, trial: TrialSpec) -> int | None:
    """Those of the files, now that they are there: a preset of the hub says its own without having seen them."""
    if trial.model.kind == "hub":
        return count_parameters(prepared.model_paths[trial.model.name])
    return trial.model.num_parameters


def _about_trial(prepared: Prepared, trial: TrialSpec, storage: Storage, script: str) -> AboutTrial:
    plan = prepared.plan
    recipe, selection, declared = trial.recipe, trial.selection, trial.declared()
    rows = storage.rows(trial.rows_id)
    assert rows is not None and declared is not None
    return AboutTrial(
        id=str(trial.id),
        declared=declared,
        readable=trial.readable,
        sweep_kind=plan.sweep.kind,
        sweep_id=plan.sweep_id,
        command=trial_command(script, plan, trial),
        model=TrainedModel(
            name=trial.model.name,
            kind=trial.model.kind,
            parameters=_num_parameters(prepared, trial),
            weights_sha256=base_weights(trial.model, storage),
        ),
        text=trial.domain.name,
        rows=TrainedRows(id=trial.rows_id, fingerprint=rows.fingerprints[ROWS]),
        samples=selection.samples,
        sample_seed=selection.sample_seed,
        order_seed=selection.order_seed,
        num_updates=recipe.num_updates,
        epochs=trial.epochs,
        learning_rate=recipe.learning_rate,
        batch_size=recipe.batch_size,
        adapter=None if recipe.adapter is None else recipe.adapter.text,
        repeat=trial.repeat,
        exchange=_exchange(trial),
        precision=recipe.precision,
        placement=_placed(plan, trial),
    )


def _exchange(trial: TrialSpec) -> Exchange | None:
    exchanged, samples = trial.exchanged_epochs(), trial.selection.exchange
    return None if exchanged is None or samples is None else Exchange(samples=samples, **exchanged._asdict())


def _placed(plan: Plan, trial: TrialSpec) -> Placed:
    placement = plan.placements[trial.model.name]
    stage, note = effective_zero_stage(placement.zero_stage, trial.recipe.precision)
    return Placed(
        num_workers=placement.num_workers,
        zero_stage=placement.zero_stage,
        use_gpu=placement.use_gpu,
        trials_per_group=placement.trials_per_group,
        micro_batch=placement.micro_batch,
        activation_checkpointing=placement.activation_checkpointing,
        offload=placement.offload,
        zero_stage_run=stage,
        note=note,
    )

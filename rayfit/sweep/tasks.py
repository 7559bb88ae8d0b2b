"""From the plan to what groups and evaluators are handed: ids become paths; and what of it is finished already."""

from __future__ import annotations

import shlex
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rayfit.config import Options, flag
from rayfit.generate.decoding import Decoding
from rayfit.plan.deepspeed import effective_zero_stage
from rayfit.plan.trials import Plan, TrialSpec, unblocked
from rayfit.records.storage import Storage
from rayfit.records.trials import checkpoint_product, product_path
from rayfit.sweep.group import TrialTask
from rayfit.sweep.prepare import CONTEXTS, ROWS, VALIDATION, Prepared

# What a command need not repeat to make a trial again, because it does not decide anything of it.
_NOT_REPEATED = (
    "samples",
    "seeds",
    "learning_rate",
    "plan",
    "fresh",
    "scale",
    "storage",
    "tracking_uri",
    "num_cpus",
    "revision",
)


def script_name(script: str) -> str:
    """A sweep script as a command names it from the project's root: `sweeps/data_quantity.py`."""
    path = Path(script).resolve()
    return f"{path.parent.name}/{path.name}"


def trial_command(script: str, plan: Plan, trial: TrialSpec) -> str:
    """The exact command that makes the trial's record again, every option that decides it written out."""
    words = ["python", script_name(script)]
    for field in fields(Options):
        value = getattr(plan.options, field.name)
        if field.name in _NOT_REPEATED or value is None or value is False:
            continue
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words += [flag(field.name), text] if value is not True else [flag(field.name)]
    words += ["--samples", str(trial.selection.samples), "--seeds", str(trial.selection.sample_seed)]
    words += ["--learning-rate", repr(trial.recipe.learning_rate)]
    if plan.model.kind == "hub":
        assert plan.model.declared is not None
        words += ["--revision", plan.model.declared["commit"]]
    return shlex.join([*words, "--scale", str(plan.options.scale)])


def trial_task(prepared: Prepared, trial: TrialSpec, storage: Storage, script: str) -> TrialTask:
    """What a group needs to train the trial."""
    plan = prepared.plan
    stage, note = effective_zero_stage(plan.placement.zero_stage, trial.recipe.precision)
    rows = storage.read("rows", trial.rows_id)
    assert rows is not None
    base = storage.read("models", plan.model.made_id) if plan.model.kind == "made" else None
    about: dict[str, Any] = {
        "declared": trial.declared(),
        "readable": trial.readable,
        "sweep_kind": plan.sweep.kind,
        "sweep_id": plan.sweep_id,
        "command": trial_command(script, plan, trial),
        "model": {
            "name": plan.model.name,
            "kind": plan.model.kind,
            "parameters": plan.model.num_parameters,
            "weights_sha256": None if base is None else base["weights_sha256"],
        },
        "text": plan.text.name,
        "rows": {"id": trial.rows_id, "fingerprint": rows["fingerprint"]},
        "samples": trial.selection.samples,
        "sample_seed": trial.selection.sample_seed,
        "order_seed": trial.selection.order_seed,
        "num_updates": trial.recipe.num_updates,
        "epochs": trial.epochs,
        "learning_rate": trial.recipe.learning_rate,
        "batch_size": trial.recipe.batch_size,
        "precision": trial.recipe.precision,
        "placement": {**asdict(plan.placement), "zero_stage_run": stage, "note": note},
    }
    return TrialTask(
        id=str(trial.id),
        rows_path=storage.folder("rows", trial.rows_id) / ROWS,
        validation_path=storage.folder("rows", plan.evaluation_rows_id) / VALIDATION,
        model_path=prepared.model_path,
        samples=trial.selection.samples,
        sequence_length=trial.settings.sequence_length,
        num_validation=plan.num_validation,
        order_seed=trial.selection.order_seed,
        batch_size=trial.recipe.batch_size,
        num_updates=trial.recipe.num_updates,
        learning_rate=trial.recipe.learning_rate,
        eval_every=plan.placement.eval_every,
        export_dtype=plan.placement.export_dtype,
        fresh=plan.options.fresh,
        about=about,
    )


def evaluation_task(prepared: Prepared, trial: TrialSpec | None, decoding: Decoding, storage: Storage) -> Any:
    """What an evaluator needs to evaluate the trial's checkpoint, or the original model where `trial` is None."""
    from rayfit.sweep.evaluation_task import EvaluationTask

    plan = prepared.plan
    held_out_id = plan.evaluation_rows_id
    held_out = storage.read("rows", held_out_id)
    assert held_out is not None
    checkpoint: Path = prepared.model_path
    base = storage.read("models", plan.model.made_id) if plan.model.kind == "made" else None
    about: dict[str, Any] = {
        "subject": "original",
        "trial_id": None,
        "checkpoint_weights_sha256": base["weights_sha256"] if base else None,
    }
    if trial is not None:
        record = storage.read("trials", str(trial.id))
        assert record is not None
        checkpoint = product_path(storage, record, checkpoint_product(plan.placement.export_dtype))
        about = {
            "subject": "trial",
            "trial_id": trial.id,
            "checkpoint_weights_sha256": record["weights_sha256"],
        }
        about["edition"] = record["edition"]
    return EvaluationTask(
        id=plan.evaluation_id(trial, decoding),
        checkpoint_path=checkpoint,
        decoding=decoding,
        contexts_path=storage.folder("rows", held_out_id) / CONTEXTS,
        validation_path=storage.folder("rows", held_out_id) / VALIDATION,
        rows_path=None if trial is None else storage.folder("rows", trial.rows_id) / ROWS,
        baseline_id=None if trial is None else plan.evaluation_id(None, unblocked(decoding)),
        context_length=plan.options.context_length,
        bos_id=held_out["bos_id"],
        domain=plan.text.name,
        eval_precision=plan.eval_precision,
        device="cuda" if plan.options.use_gpu else "cpu",
        num_threads=1,
        about={
            **about,
            "model_name": plan.model.name,
            "num_validation": plan.num_validation,
            "export_dtype": plan.placement.export_dtype,
            "contexts_fingerprint": held_out["fingerprints"][CONTEXTS],
        },
    )


def evaluation_is_finished(plan: Plan, trial: TrialSpec | None, decoding: Decoding, storage: Storage) -> bool:
    """Whether the evaluation has a record, of the weights that the trial's record has now, with the rows asked for."""
    record = storage.read("evaluations", plan.evaluation_id(trial, decoding))
    if record is None or record["num_validation"] != plan.num_validation:
        return False
    if trial is None:
        base = storage.read("models", plan.model.made_id) if plan.model.kind == "made" else None
        return base is None or record["checkpoint_weights_sha256"] == base["weights_sha256"]
    trained = storage.read("trials", str(trial.id))
    return (
        trained is not None
        and record["checkpoint_weights_sha256"] == trained["weights_sha256"]
        and record["edition"] == trained["edition"]
    )

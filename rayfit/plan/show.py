"""The plan as text, for `--plan` and for people."""

from __future__ import annotations

from rayfit.plan.deepspeed import effective_zero_stage
from rayfit.plan.products import is_finished
from rayfit.plan.resources import worker_resources
from rayfit.plan.trials import Plan, curve_updates
from rayfit.records.storage import Storage

_BYTES = {"fp32": 4, "bf16": 2}


def render_plan(plan: Plan, storage: Storage) -> str:
    """Trials with ids, updates, epochs, disk and resources; the settings; what is finished already."""
    options = plan.options
    lines = [
        f"{plan.sweep.kind}: {plan.sweep.question} ({plan.sweep.source})",
        f"scale {options.scale}; model {plan.model.name}{_parameters(plan)}; text {plan.text.name}",
        "",
        *_trial_table(plan, storage),
        "",
        *_settings(plan),
        f"storage {storage.root}",
    ]
    if plan.pending:
        lines.append("ids are pending: the model's or the text's files are read when the sweep runs")
    return "\n".join(lines)


def _parameters(plan: Plan) -> str:
    count = plan.model.num_parameters
    return "" if count is None else f" ({count:,} parameters)"


def checkpoint_bytes(plan: Plan) -> int | None:
    """Bytes of one exported checkpoint's weights; None while the number of parameters is not known."""
    count = plan.model.num_parameters
    return None if count is None else count * _BYTES[plan.placement.export_dtype]


def _trial_table(plan: Plan, storage: Storage) -> list[str]:
    need = worker_resources(plan.placement.use_gpu).times(plan.placement.num_workers)
    asks = f"{need.cpus:g} CPU" + (f", {need.gpus:g} GPU" if need.gpus else "")
    size = checkpoint_bytes(plan)
    disk = "unknown" if size is None else f"{size / 2**20:.1f} MiB"
    header = ("trial", "samples", "seed", "updates", "epochs", "disk", "asks for", "")
    rows = [header]
    for trial in plan.trials:
        rows.append(
            (
                trial.id or f"{trial.readable} (id pending)",
                str(trial.selection.samples),
                str(trial.selection.sample_seed),
                str(trial.recipe.num_updates),
                f"{trial.epochs:g}",
                disk,
                asks,
                "finished" if is_finished(plan, trial, storage) else "",
            )
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _settings(plan: Plan) -> list[str]:
    options, placement, recipe = plan.options, plan.placement, plan.trials[0].recipe
    stage, note = effective_zero_stage(placement.zero_stage, recipe.precision)
    rates = ", ".join(f"{rate:g}" for rate in options.learning_rate or ())
    measured = len(curve_updates(recipe.num_updates, placement.eval_every))
    lines = [
        f"recipe: Adam {recipe.betas}, epsilon {recipe.epsilon:g}, constant learning rate {rates}, "
        f"batch {recipe.batch_size}, no decay, no clipping, no dropout, {recipe.precision}",
        f"workers: {placement.num_workers} per trial, ZeRO stage {stage}; measured at {measured} updates along training",
        f"rows: {options.sequence_length} tokens from spans of {plan.settings.span_characters} characters; "
        f"{plan.settings.held_out_share:g} of the documents held out",
        f"evaluation: {plan.num_contexts} contexts of {options.context_length} tokens, "
        f"{options.num_new_tokens} new tokens, {', '.join(decoding.name for decoding in plan.decodings)}, "
        f"{plan.num_validation} validation rows, {plan.eval_precision}",
    ]
    if note:
        lines.append(f"note: {note}")
    if plan.model.kind == "made":
        lines.append(
            f"note: training rows are drawn from text that {plan.model.name} was pretrained on; held-out text never was"
        )
    return lines

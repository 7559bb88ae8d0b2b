"""The plan as text, for `--plan` and for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rayfit.plan.cards import cards_text
from rayfit.plan.cheapest import fits
from rayfit.plan.deepspeed import effective_zero_stage
from rayfit.plan.grid import hub_preset
from rayfit.plan.placement import ASSUMED_CARD
from rayfit.plan.plan import Plan
from rayfit.plan.precision import Precision
from rayfit.plan.products import is_finished
from rayfit.plan.resources import worker_resources
from rayfit.plan.sources import ModelSource
from rayfit.plan.trials import CURVE_ROWS, TrialSpec, curve_updates
from rayfit.records.storage import Storage

_BYTES = {"fp32": 4, "bf16": 2}

MAY_NOT_FIT = "; this may not fit: --zero-stage 3, more --num-workers, a smaller --batch-size or --adapter lora need less"


def render_plan(plan: Plan, storage: Storage) -> str:
    """Trials with ids, updates, epochs, disk and resources; the settings; what is finished already."""
    models = ", ".join(f"{model.name}{_parameters(model)}" for model in plan.models)
    lines = [
        f"{plan.sweep.kind}: {plan.sweep.question} ({plan.sweep.source})",
        f"scale {plan.options.scale}; model {models}; text {_listed(domain.name for domain in plan.domains)}",
        "",
        *_trial_table(plan, storage),
        "",
        *_counts(plan),
        *_settings(plan),
        *_memory(plan),
        *_notes(plan),
        f"storage {storage.root}",
    ]
    if plan.pending:
        lines.append("ids are pending: the files or hub ids of a model or text are read when the sweep runs")
    return "\n".join(lines)


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def _parameters(model: ModelSource) -> str:
    if model.num_parameters is not None:
        return f" ({model.num_parameters:,} parameters)"
    return ""


def checkpoint_bytes(plan: Plan, trial: TrialSpec) -> int | None:
    """Bytes of the weights that a trial leaves; None while the number of parameters is not known."""
    count = trial.model.num_parameters
    kept = 1 + len(trial.kept_updates(plan.products.keep_every))
    return None if count is None else count * kept * _BYTES[plan.products.export_dtype]


def _trial_table(plan: Plan, storage: Storage) -> list[str]:
    named = len({trial.arm for trial in plan.trials}) > 1
    header = (
        *(("arm",) if named else ()),
        *("trial", "samples", "seed", "updates", "epochs", "disk", "asks for", ""),
    )
    rows = [header]
    for trial in plan.trials:
        size = checkpoint_bytes(plan, trial)
        seeds = f"{trial.selection.sample_seed}"
        if trial.selection.order_seed != trial.selection.sample_seed:
            seeds += f"/{trial.selection.order_seed}"
        rows.append(
            (
                *((trial.arm,) if named else ()),
                trial.id or f"{trial.readable} (id pending)",
                str(trial.selection.samples),
                seeds,
                ("up to " if trial.recipe.stop_at_train_loss else "") + str(trial.recipe.num_updates),
                f"{trial.epochs:g}",
                "unknown" if size is None else f"{size / 2**20:.1f} MiB",
                _asks_for(plan, trial),
                "finished" if is_finished(plan, trial, storage) else "",
            )
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _asks_for(plan: Plan, trial: TrialSpec) -> str:
    placement = plan.placements[trial.model.name]
    need = worker_resources(placement.use_gpu).times(placement.num_workers)
    return f"{need.cpus:g} CPU" + (f", {need.gpus:g} GPU" if need.gpus else "")


def _counts(plan: Plan) -> list[str]:
    trials = plan.unique_trials
    updates = sum(trial.recipe.num_updates for trial in trials)
    generations = list(plan.generations())
    texts = sum(spec.contexts.count(plan.evaluation.num_contexts) for spec in generations)
    comparisons = sum(len(plan.domains_of(trial)) for trial in trials)
    return [
        f"{len(trials)} trials, {updates:,} updates in all; {len(generations)} generations of {texts:,} texts, "
        f"{comparisons} comparisons"
    ]


def _settings(plan: Plan) -> list[str]:
    options, products, evaluation = plan.options, plan.products, plan.evaluation
    recipes = [trial.recipe for trial in plan.trials]
    recipe = recipes[0]
    stages = [effective_zero_stage(each.zero_stage, recipe.precision)[0] for each in plan.placements.values()]
    workers = _listed(each.num_workers for each in plan.placements.values())
    rates = _listed(f"{each.learning_rate:g}" for each in recipes)
    measured = _listed(
        len(curve_updates(each.num_updates, each.batch_size, products.eval_every)) for each in recipes
    )
    kept = "" if products.keep_every is None else f"; weights kept every {products.keep_every:g} epochs"
    return [
        f"recipe: Adam {recipe.betas}, epsilon {recipe.epsilon:g}, constant learning rate {rates}, "
        f"batch {_listed(each.batch_size for each in recipes)}, no decay, no clipping, no dropout, "
        f"{Precision(recipe.precision, plan.precision_reason).described}",
        f"workers: {workers} per trial, ZeRO stage {_listed(stages)}; "
        f"measured at {measured} updates along training, over {CURVE_ROWS} training and {CURVE_ROWS} validation rows{kept}",
        *(
            f"rows of {domain.name}: {options.sequence_length} tokens from spans of "
            f"{domain.settings.span_characters} characters; {domain.settings.held_out_share:g} of the documents held out"
            for domain in plan.all_domains
        ),
        f"evaluation on {_listed(domain.name for domain in plan.eval_domains) or 'the text of each trial'}: "
        f"{_contexts(plan)}, of {options.context_length} tokens, {options.num_new_tokens} new "
        f"tokens, {', '.join(decoding.name for decoding in plan.decodings)}, {evaluation.num_validation} validation "
        f"rows, {evaluation.eval_precision}",
        *_prompts(plan),
    ]


def _contexts(plan: Plan) -> str:
    count, texts = plan.evaluation.num_contexts, len(plan.eval_domains) or 1
    counted = f"{count} contexts per text" + (f" ({count * texts} in all)" if texts > 1 else "")
    if further := plan.options.further_contexts:
        counted += f" and up to {further:,} further ones of each text, for the overlap histogram"
    return counted


def _memory(plan: Plan) -> list[str]:
    """What each model's training takes of a GPU, by formula, and what there is."""
    room = min((card.num_bytes for card in plan.cards), default=ASSUMED_CARD)
    have = (
        f"of {cards_text(plan.cards)}"
        if plan.cards
        else f"for GPUs of {room >> 30} GiB, as none was looked at"
    )
    lines = []
    for name, placement in plan.placements.items():
        peak = placement.peak
        if peak is not None:
            activations = "" if peak.forward is not None else ", activations not counted"
            lines.append(
                f"GPU memory for {name}: {peak.gib:.1f} GiB by formula{activations}, {peak.state / 2**30:.1f} of it "
                f"between updates, {have}, with {placement.text}{'' if fits(peak, room) else MAY_NOT_FIT}"
            )
    return lines


def _prompts(plan: Plan) -> list[str]:
    if plan.prompts is None:
        return []
    count = len(plan.prompts.texts)
    return [f"prompts: {count} of {plan.options.prompts}, in rows on {plan.prompts.name}; text scores only"]


def _notes(plan: Plan) -> list[str]:
    notes = []
    left_out = [name for name in plan.sweep.arms if name not in (plan.options.arms or ())]
    if left_out:
        notes.append(f"note: of the sweep's arms {_listed(left_out)} are left out; --arms names those to run")
    notes += [f"note: {note}" for note in (*zero_stage_notes(plan), *plan.overruled, *exchange_notes(plan))]
    for model in plan.models:
        if (preset := hub_preset(model)) is not None and preset.needs:
            notes.append(f"note: {model.name}: {preset.needs}")
    made = [model.name for model in plan.models if model.kind == "made"]
    if made and any(domain.text.kind == "pydoc" for domain in plan.domains):
        notes.append(
            f"note: training rows are drawn from text that {_listed(made)} was pretrained on; held-out text never was"
        )
    return notes


def zero_stage_notes(plan: Plan) -> list[str]:
    """Say where a model's trials run at another ZeRO stage than was asked for, and why."""
    stages = {placement.zero_stage for placement in plan.placements.values()}
    return sorted({effective_zero_stage(stage, plan.options.precision)[1] for stage in stages} - {""})


def exchange_notes(plan: Plan) -> list[str]:
    """Say, per trial in which two samples change places, in how many epochs they only change places inside one batch."""
    notes = []
    for trial in plan.unique_trials:
        exchanged, places = trial.exchanged_epochs(), trial.selection.exchange
        if exchanged is not None and places is not None:
            notes.append(
                f"{trial.arm}: samples {places[0]} and {places[1]} change places; in {exchanged.in_one_batch} of "
                f"{exchanged.epochs} epochs both fall into one batch, which stays the same"
            )
    return notes

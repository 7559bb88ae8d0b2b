"""The record of a sweep as its driver writes it: at the start, when something fails, and at the end."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec

from rayfit.config import Options
from rayfit.findings.current import filled
from rayfit.plan.contexts import Contexts
from rayfit.plan.plan import Plan
from rayfit.plan.products import is_finished
from rayfit.plan.rows import planned_rows
from rayfit.records.provenance import git_commit, now
from rayfit.records.storage import SWEEPS, Storage
from rayfit.records.sweep import Launch as LaunchRecord
from rayfit.records.sweep import PromptsUsed, SweepRecord, Uses
from rayfit.records.trials import current_failure
from rayfit.sweep.launch import Launch
from rayfit.track.connection import default_tracking_uri, without_password


def begun_record(launch: Launch) -> SweepRecord:
    """The sweep's record when a launch begins: everything declared, no numbers."""
    plan, storage = launch.plan, launch.storage
    old = storage.sweep(plan.sweep_id)
    this_launch = LaunchRecord(
        started_at=launch.started_at,
        finished_at=None,
        command=launch.command,
        reused=len(plan.unique_trials) - len(launch.trials),
        ran=len(launch.trials),
        git_commit=git_commit(),
    )
    own_scores = tuple(score for kind in plan.sweep.measures for score in kind.scores)
    ids = tuple(str(trial.id) for trial in plan.unique_trials)
    return SweepRecord(
        id=plan.sweep_id,
        sweep_kind=plan.sweep.kind,
        question=plan.sweep.question,
        source=plan.sweep.source,
        scale=str(plan.options.scale),
        options=_plain_options(plan.options),
        trials=ids,
        arms=_arms(plan),
        measurements=tuple(spec.planned for spec in plan.measurements),
        uses=_uses(plan),
        figures=tuple(dict(figure) for figure in plan.sweep.figures),
        scores=tuple(dict.fromkeys((*plan.sweep.scores, *(score.name for score in own_scores)))),
        own_scores=own_scores,
        alone=_alone(plan),
        launches=(*(() if old is None else old.launches), this_launch),
        prompts=_prompts(plan),
        tracking_uri=without_password(plan.options.tracking_uri or default_tracking_uri(storage)),
        rows=tuple(planned_rows(plan)),
        first_trained_by=_first_trained_by(storage, plan.sweep_id, ids),
    )


def with_failures(record: SweepRecord, launch: Launch) -> SweepRecord:
    """The record with what has failed in this launch by now; what failed before is tried again by it."""
    return msgspec.structs.replace(
        record, failed=dict(launch.trial_errors), failed_measurements=dict(launch.errors)
    )


def ended_record(record: SweepRecord, launch: Launch) -> SweepRecord:
    """The record of a launch that began, `record`, when it is over: with all that was found."""
    plan, storage = launch.plan, launch.storage
    record = with_failures(record, launch)
    # Of an interrupted launch some trials were not tried again. What failed for another sweep is finished for this one.
    left = (str(trial.id) for trial in plan.unique_trials if not is_finished(plan, trial, storage))
    before = {key: failure.error for key in left if (failure := current_failure(storage, key)) is not None}
    record = filled(msgspec.structs.replace(record, failed={**before, **record.failed}), storage)
    record = msgspec.structs.replace(
        record, first_trained_by=_first_trained_by(storage, record.id, record.trials)
    )
    return timed(record, launch)


def timed(record: SweepRecord, launch: Launch) -> SweepRecord:
    """The record with what this launch, which ends now, took by now."""
    last = msgspec.structs.replace(record.launches[-1], finished_at=now(), seconds=launch.stopwatch.seconds)
    return msgspec.structs.replace(record, launches=(*record.launches[:-1], last))


def write_record(record: SweepRecord, storage: Storage) -> None:
    """Publish the record, so that `rayfit list`, `report` and `sync` place what is there, whatever happens next."""
    storage.write(SWEEPS, record.id, record)


def _prompts(plan: Plan) -> PromptsUsed | None:
    if plan.prompts is None:
        return None
    return PromptsUsed(name=plan.prompts.name, count=len(plan.prompts.texts), sha256=plan.prompts.sha256)


def _alone(plan: Plan) -> dict[str, str]:
    """Options of which this launch has one value where the sweep itself, at this scale, compares several."""
    declared = plan.sweep.scales[str(plan.options.scale)]
    names = {"model": plan.models[0].name, "dataset": plan.domains[0].name}
    found = {}
    for axis in plan.sweep.varies:
        values, given = declared.get(axis), getattr(plan.options, axis)
        if isinstance(values, tuple) and len(values) > 1 and given is not None and len(given) == 1:
            found[axis] = names.get(axis, str(given[0]))
    return found


def _arms(plan: Plan) -> dict[str, tuple[str, ...]]:
    """The trials of each declared arm; empty where the sweep has no arms of its own."""
    arms: dict[str, tuple[str, ...]] = {}
    for trial in plan.trials if plan.sweep.has_arms else ():
        arms[trial.arm] = (*arms.get(trial.arm, ()), str(trial.id))
    return arms


def _uses(plan: Plan) -> Uses:
    contexts: list[Contexts] = [each for domain in plan.all_domains for each in plan.held_out(domain)]
    if plan.prompts is not None:
        contexts.append(plan.prompts)
    continued = [plan.evaluation.rows_id(each, model) for model in plan.models for each in contexts]
    return Uses(
        models=tuple(model.made_id for model in plan.models if model.kind == "made"),
        texts=tuple(domain.spans_id for domain in plan.all_domains),
        rows=tuple(sorted({*continued, *(trial.rows_id for trial in plan.unique_trials)})),
    )


def _plain_options(options: Options) -> dict[str, Any]:
    plain = {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(options).items()
    }
    return {**plain, "tracking_uri": without_password(options.tracking_uri) if options.tracking_uri else None}


def _first_trained_by(storage: Storage, sweep_id: str, trial_ids: tuple[str, ...]) -> dict[str, str]:
    """The sweep that trained each trial first, where that was another one."""
    records = (storage.trial(trial_id) for trial_id in trial_ids)
    return {record.id: record.sweep_id for record in records if record and record.sweep_id != sweep_id}

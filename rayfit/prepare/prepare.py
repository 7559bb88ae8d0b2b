"""Preparing, after the plan and before Ray: find out what is not known yet, make models, count rows exactly."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rayfit.config import Options
from rayfit.console import Console
from rayfit.data.selection import draw_held_out, draw_samples
from rayfit.errors import RayfitError
from rayfit.plan.cards import Card
from rayfit.plan.contexts import HeldOut
from rayfit.plan.declaration import Sweep
from rayfit.plan.plan import Plan
from rayfit.plan.planning import make_plan
from rayfit.plan.sources import ModelSource, absolute_name, known_files, model_files
from rayfit.prepare.corpora import identify_text
from rayfit.prepare.given_models import check_models, hub_model, local_model
from rayfit.prepare.made_models import made_model
from rayfit.prepare.model_check import known_window
from rayfit.prepare.token_rows import CutTexts, ModelRows
from rayfit.presets import MADE_MODELS
from rayfit.records.storage import Storage


@dataclass(frozen=True)
class Prepared:
    """A plan with nothing pending, and where its models lie, by name. Rows and contexts lie in storage under ids."""

    plan: Plan
    model_paths: dict[str, Path]


def prepare(
    sweep: Sweep, options: Options, storage: Storage, console: Console, cards: tuple[Card, ...] = ()
) -> Prepared:
    """Do the work that a plan leaves open; raises RayfitError, with the numbers, when text or a model will not do.

    `cards`: the GPUs, where they were looked at.
    """
    _check_storage(storage)
    plan = make_plan(sweep, options, storage, cards)
    check_models(plan.models, storage)
    for domain in plan.all_domains:
        identify_text(domain.text, storage)
    if options.mauve_model is not None:
        known_files(storage).hash(model_files(Path(options.mauve_model)))
    plan = make_plan(sweep, options, storage, cards)
    # The texts first: too little of one is found out before a model is made or fetched.
    texts = CutTexts(storage)
    _check_texts(plan, texts, storage)
    paths = {model.name: _model_path(model, storage, console) for model in plan.models}
    plan = make_plan(sweep, options, storage, cards)
    assert not plan.pending
    for model in plan.models:
        window = _window(model, paths[model.name], storage)
        _check_window(plan, model, window)
        ModelRows(plan, model, paths[model.name], window, texts, storage).prepare()
    return Prepared(plan, paths)


def _check_texts(plan: Plan, texts: CutTexts, storage: Storage) -> None:
    """Raises RayfitError for a text that gives too little. Rows that are kept were drawn from enough."""
    sizes = {
        "num_contexts": plan.evaluation.num_contexts,
        "num_validation": plan.evaluation.num_validation,
    }
    for domain in plan.all_domains:
        texts.make(domain)
        models = [model for model in plan.models if domain in plan.domains_with_rows(model)]
        held_out = [plan.evaluation.rows_id(HeldOut(domain=domain), model) for model in models]
        trials = [trial for trial in plan.unique_trials if trial.domain == domain]
        missing = [trial.selection for trial in trials if storage.rows(trial.rows_id) is None]
        try:
            if any(storage.rows(identifier) is None for identifier in held_out):
                draw_held_out(texts.of(domain), **sizes)
            if missing:
                most = max(missing, key=lambda selection: selection.samples)
                draw_samples(texts.of(domain), most.samples, most.sample_seed)
        except RayfitError as error:
            raise RayfitError(f"text {domain.name}: {error}") from error


def _model_path(model: ModelSource, storage: Storage, console: Console) -> Path:
    if model.kind == "made":
        return made_model(model, storage, console)
    if model.kind == "hub":
        return hub_model(model, storage, console)[0]
    assert model.path is not None
    known_files(storage).hash(model_files(model.path))
    return local_model(model.path, model.name, storage, console)


def _window(model: ModelSource, path: Path, storage: Storage) -> int | None:
    return MADE_MODELS[model.name].context_window if model.kind == "made" else known_window(path, storage)


def _check_window(plan: Plan, model: ModelSource, window: int | None) -> None:
    """Rows and generations must fit the model's context window, which is known before any training."""
    generated = plan.options.context_length + max(decoding.num_new_tokens for decoding in plan.decodings)
    need = max(plan.options.sequence_length, generated)
    if window is not None and need > window:
        raise RayfitError(
            f"--num-new-tokens and --sequence-length: {need} tokens are needed, "
            f"but the context window of {model.name} holds {window}"
        )


def _check_storage(storage: Storage) -> None:
    free = shutil.disk_usage(storage.root).free
    if free < 1 << 28:
        raise RayfitError(f"--storage: only {free >> 20} MiB are free under {storage.root}")


def absolute(options: Options) -> Options:
    """Options with local paths made absolute, so that other processes, with other working folders, mean the same."""
    changes: dict[str, Any] = {"storage": str(Path(options.storage).expanduser().resolve())}
    for name in ("mauve_model", "prompts"):
        if path := getattr(options, name):
            changes[name] = str(Path(path).expanduser().resolve())
    for name in ("model", "dataset", "eval_datasets"):
        if values := getattr(options, name):
            changes[name] = tuple(absolute_name(value) for value in values)
    return replace(options, **changes)

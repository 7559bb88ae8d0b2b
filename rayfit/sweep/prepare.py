"""After the plan and before Ray: what is not known yet is found out, what is made is made, rows are counted exactly."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from rayfit.config import Options
from rayfit.data.documents import local_files
from rayfit.data.rows import rows_fingerprint, tokenize_spans
from rayfit.data.selection import draw_held_out, draw_samples
from rayfit.errors import RayfitError
from rayfit.plan.declaration import Sweep
from rayfit.plan.sources import known_files, model_files
from rayfit.plan.trials import Plan, make_plan
from rayfit.records.provenance import provenance
from rayfit.records.storage import Storage, read_json, write_parquet
from rayfit.sweep.models import hub_model, made_model
from rayfit.sweep.texts import read_spans

Say = Callable[[str], None]

SPANS = "spans.parquet"
ROWS = "rows.parquet"
CONTEXTS = "contexts.parquet"
VALIDATION = "validation.parquet"


@dataclass(frozen=True)
class Prepared:
    """A plan with nothing pending, and where its model lies. Rows and contexts lie in storage under the plan's ids."""

    plan: Plan
    model_path: Path


def prepare(sweep: Sweep, options: Options, storage: Storage, say: Say) -> Prepared:
    """Do the work that a plan leaves open; raises RayfitError, with the numbers, when text or a model will not do."""
    plan = make_plan(sweep, options, storage)
    if plan.text.kind == "local":
        assert plan.text.path is not None
        known_files(storage).hash(local_files(plan.text.path))
        plan = make_plan(sweep, options, storage)
    _check_storage(storage)
    # The text first: too little of it is found out before a model is made or fetched.
    spans = _spans(plan, storage)
    draw_held_out(spans, num_contexts=plan.num_contexts, num_validation=plan.num_validation)
    for trial in plan.trials:
        draw_samples(spans, trial.selection.samples, trial.selection.sample_seed)
    model_path = _model_path(plan, storage, say)
    plan = make_plan(sweep, options, storage)
    assert not plan.pending
    _check_window(plan, model_path)
    tokenize, bos_id = load_tokenizer(model_path)
    _evaluation_rows(plan, storage, spans, tokenize, bos_id)
    for trial in plan.trials:
        _training_rows(plan, trial, storage, spans, tokenize, bos_id)
    return Prepared(plan, model_path)


def _model_path(plan: Plan, storage: Storage, say: Say) -> Path:
    model = plan.model
    if model.kind == "made":
        return made_model(model, storage, say)
    if model.kind == "hub":
        return hub_model(model, storage)[0]
    assert model.path is not None
    known_files(storage).hash(model_files(model.path))
    return model.path


def _check_window(plan: Plan, model_path: Path) -> None:
    """Rows and generations must fit the model's context window, which is known before any training."""
    config = read_json(model_path / "config.json") or {}
    names = ("max_position_embeddings", "n_positions", "n_ctx")
    window = next((config[name] for name in names if config.get(name)), None)
    generated = plan.options.context_length + max(decoding.num_new_tokens for decoding in plan.decodings)
    need = max(plan.settings.sequence_length, generated)
    if window is not None and need > window:
        raise RayfitError(
            f"--num-new-tokens and --sequence-length: {need} tokens are needed, "
            f"but the context window of {plan.model.name} holds {window}"
        )


def _check_storage(storage: Storage) -> None:
    free = shutil.disk_usage(storage.root).free
    if free < 1 << 28:
        raise RayfitError(f"--storage: only {free >> 20} MiB are free under {storage.root}")


def load_tokenizer(model_path: Path) -> tuple[Callable[[str], list[int]], int | None]:
    """(text -> ids without special tokens, BOS id or None) of a model's directory; no code of the directory is run."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model_path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise RayfitError(f"--model: {model_path} has no tokenizer that can be loaded: {error}") from error
    return lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"]), tokenizer.bos_token_id


def _spans(plan: Plan, storage: Storage) -> pl.DataFrame:
    """The cut and split text, made once per storage."""

    def fill(folder: Path) -> dict[str, Any]:
        spans, facts = read_spans(
            plan.text,
            storage,
            span_characters=plan.settings.span_characters,
            held_out_share=plan.settings.held_out_share,
        )
        write_parquet(folder / SPANS, spans)
        return {
            "kind": "text",
            "id": plan.spans_id,
            "declared": plan.declared_spans(),
            **facts,
            **provenance(),
        }

    if storage.read("texts", plan.spans_id) is None:
        storage.make_folder("texts", plan.spans_id, fill)
    return pl.read_parquet(storage.folder("texts", plan.spans_id) / SPANS)


def _evaluation_rows(
    plan: Plan, storage: Storage, spans: pl.DataFrame, tokenize: Any, bos_id: int | None
) -> None:
    identifier = plan.evaluation_rows_id
    if storage.read("rows", identifier) is not None:
        return
    contexts, validation = draw_held_out(
        spans, num_contexts=plan.num_contexts, num_validation=plan.num_validation
    )
    frames = {
        name: tokenize_spans(
            frame,
            tokenize,
            bos_id=bos_id,
            sequence_length=plan.settings.sequence_length,
            tokenizer_name=plan.model.name,
        )
        for name, frame in ((CONTEXTS, contexts), (VALIDATION, validation))
    }

    def fill(folder: Path) -> dict[str, Any]:
        for name, frame in frames.items():
            write_parquet(folder / name, frame)
        return {
            "kind": "held-out rows",
            "id": identifier,
            "declared": plan.declared_contexts(),
            "bos_id": bos_id,
            "near_duplicates_dropped": spans.filter(pl.col("split") == "near_duplicate").height,
            "fingerprints": {name: rows_fingerprint(frame) for name, frame in frames.items()},
            **provenance(),
        }

    storage.make_folder("rows", identifier, fill)


def _training_rows(
    plan: Plan, trial: Any, storage: Storage, spans: pl.DataFrame, tokenize: Any, bos_id: int | None
) -> None:
    if storage.read("rows", trial.rows_id) is not None:
        return
    chosen = draw_samples(spans, trial.selection.samples, trial.selection.sample_seed)
    rows = tokenize_spans(
        chosen,
        tokenize,
        bos_id=bos_id,
        sequence_length=plan.settings.sequence_length,
        tokenizer_name=plan.model.name,
    )

    def fill(folder: Path) -> dict[str, Any]:
        write_parquet(folder / ROWS, rows)
        return {
            "kind": "training rows",
            "id": trial.rows_id,
            "declared": trial.declared_rows(),
            "bos_id": bos_id,
            "fingerprint": rows_fingerprint(rows),
            **provenance(),
        }

    storage.make_folder("rows", trial.rows_id, fill)


def absolute(options: Options) -> Options:
    """Options with local paths made absolute, so that other processes, with other working folders, mean the same."""
    changes: dict[str, Any] = {"storage": str(Path(options.storage).expanduser().resolve())}
    for name in ("model", "dataset"):
        value = getattr(options, name)
        if value is not None and Path(value).expanduser().exists():
            changes[name] = str(Path(value).expanduser().resolve())
    return replace(options, **changes)

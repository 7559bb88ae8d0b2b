"""Texts cut into spans, and spans into rows, each made once per storage and kept under its id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from rayfit.data.prompts import prompt_ids, prompt_rows
from rayfit.data.rows import Tokenize, rows_fingerprint, tokenize_spans
from rayfit.data.selection import draw_further, draw_held_out, draw_samples
from rayfit.plan.contexts import Contexts, HeldOut, Prompts
from rayfit.plan.plan import Plan
from rayfit.plan.sources import ModelSource
from rayfit.plan.trials import Domain, TrialSpec
from rayfit.prepare.corpora import read_spans
from rayfit.prepare.model_check import load_tokenizer
from rayfit.prepare.model_shape import read_window
from rayfit.records.codec import encode
from rayfit.records.prepared import RowsRecord
from rayfit.records.provenance import git_commit, library_versions, provenance
from rayfit.records.storage import Storage, write_parquet

SPANS = "spans.parquet"
ROWS = "rows.parquet"
CONTEXTS = "contexts.parquet"
VALIDATION = "validation.parquet"
FURTHER = "further.parquet"
PROMPTS = "prompts.parquet"


def contexts_file(contexts: Contexts) -> str:
    """The file, in the folder of their rows, that holds contexts."""
    if isinstance(contexts, Prompts):
        return PROMPTS
    return FURTHER if contexts.further else CONTEXTS


def domain_spans(domain: Domain, storage: Storage) -> pl.DataFrame:
    """The cut and split text, made once per storage."""

    def fill(folder: Path) -> dict[str, Any]:
        spans, facts = read_spans(
            domain.text,
            storage,
            span_characters=domain.settings.span_characters,
            held_out_share=domain.settings.held_out_share,
        )
        write_parquet(folder / SPANS, spans)
        return {
            "kind": "text",
            "id": domain.spans_id,
            "declared": domain.declared_spans(),
            **facts,
            **provenance(),
        }

    if storage.read("texts", domain.spans_id) is None:
        storage.make_folder("texts", domain.spans_id, fill)
    return pl.read_parquet(storage.folder("texts", domain.spans_id) / SPANS)


def prepare_rows(
    plan: Plan, model: ModelSource, model_path: Path, spans: dict[str, pl.DataFrame], storage: Storage
) -> None:
    """The rows that one model trains and is evaluated on, under its tokenizer. `spans`: the cut texts by name.

    Raises RayfitError for a span that gives too few tokens and for a prompt that the model's window cannot hold.
    """
    tokenize, bos_id = load_tokenizer(model_path)
    if plan.prompts is not None:
        _prompt_rows(plan, plan.prompts, model, tokenize, bos_id, read_window(model_path), storage)

    def cut(frame: pl.DataFrame, domain: Domain) -> pl.DataFrame:
        return tokenize_spans(
            frame,
            tokenize,
            bos_id=bos_id,
            sequence_length=domain.settings.sequence_length,
            tokenizer_name=model.name,
        )

    trials = [trial for trial in plan.unique_trials if trial.model == model]
    trained_on = [trial.domain for trial in trials]
    for domain in plan.all_domains:
        if domain in trained_on or domain in plan.domains_of_model(model):
            for contexts in plan.held_out(domain):
                _held_out_rows(plan, model, contexts, spans[domain.name], storage, bos_id, cut)
    for trial in trials:
        _training_rows(trial, spans[trial.domain.name], storage, bos_id, cut)


def _held_out_rows(
    plan: Plan,
    model: ModelSource,
    contexts: HeldOut,
    spans: pl.DataFrame,
    storage: Storage,
    bos_id: int | None,
    cut: Callable[[pl.DataFrame, Domain], pl.DataFrame],
) -> None:
    """The usual contexts of a domain with its validation rows, or those beyond them."""
    identifier = plan.evaluation.rows_id(contexts, model)
    if storage.rows(identifier) is not None:
        return
    sizes = {"num_contexts": plan.evaluation.num_contexts, "num_validation": plan.evaluation.num_validation}
    if contexts.further:
        drawn = {FURTHER: draw_further(spans, **sizes, num_further=contexts.further)}
    else:
        usual, validation = draw_held_out(spans, **sizes)
        drawn = {CONTEXTS: usual, VALIDATION: validation}
    frames = {name: cut(frame, contexts.domain) for name, frame in drawn.items()}

    dropped = spans.filter(pl.col("split") == "near_duplicate").height
    declared = plan.evaluation.declared_contexts(contexts)
    write_rows(storage, identifier, "held-out rows", declared, bos_id, frames, dropped)


def write_rows(
    storage: Storage,
    identifier: str,
    kind: str,
    declared: dict[str, Any],
    bos_id: int | None,
    frames: Mapping[str, pl.DataFrame],
    near_duplicates_dropped: int | None = None,
) -> None:
    """Publish token rows under their id: the files and the record that describes them."""

    def fill(folder: Path) -> dict[str, Any]:
        for name, frame in frames.items():
            write_parquet(folder / name, frame)
        record = RowsRecord(
            id=identifier,
            kind=kind,
            declared=declared,
            bos_id=bos_id,
            fingerprints={name: rows_fingerprint(frame) for name, frame in frames.items()},
            counts={name: len(frame) for name, frame in frames.items()},
            near_duplicates_dropped=near_duplicates_dropped,
            versions=library_versions(),
            git_commit=git_commit(),
        )
        return dict(encode(record))

    storage.make_folder("rows", identifier, fill)


def _prompt_rows(
    plan: Plan,
    prompts: Prompts,
    model: ModelSource,
    tokenize: Tokenize,
    bos_id: int | None,
    window: int | None,
    storage: Storage,
) -> None:
    """Prompts under a model's tokenizer; whether they fit depends on the decodings too, so it is asked every time."""
    token_ids = prompt_ids(
        prompts.texts,
        tokenize,
        bos_id=bos_id,
        window=window,
        num_new_tokens=max(decoding.num_new_tokens for decoding in plan.decodings_of_trials),
        model=model.name,
    )
    identifier = plan.evaluation.rows_id(prompts, model)
    if storage.rows(identifier) is not None:
        return
    frames = {PROMPTS: prompt_rows(prompts.texts, token_ids)}
    write_rows(storage, identifier, "prompts", plan.evaluation.declared_contexts(prompts), bos_id, frames)


def _training_rows(
    trial: TrialSpec,
    spans: pl.DataFrame,
    storage: Storage,
    bos_id: int | None,
    cut: Callable[[pl.DataFrame, Domain], pl.DataFrame],
) -> None:
    declared = trial.declared_rows()
    if storage.rows(trial.rows_id) is not None or declared is None:
        return
    rows = cut(draw_samples(spans, trial.selection.samples, trial.selection.sample_seed), trial.domain)
    write_rows(storage, trial.rows_id, "training rows", declared, bos_id, {ROWS: rows})

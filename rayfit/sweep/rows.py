"""Texts cut into spans, and spans into rows, each made once per storage and kept under its id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from rayfit.data.rows import rows_fingerprint, tokenize_spans
from rayfit.data.selection import draw_further, draw_held_out, draw_samples
from rayfit.plan.planning import Plan
from rayfit.plan.sources import ModelSource
from rayfit.plan.trials import Domain, TrialSpec
from rayfit.records.provenance import provenance
from rayfit.records.storage import Storage, write_parquet
from rayfit.sweep.model_check import load_tokenizer
from rayfit.sweep.texts import read_spans

SPANS = "spans.parquet"
ROWS = "rows.parquet"
CONTEXTS = "contexts.parquet"
VALIDATION = "validation.parquet"
FURTHER = "further.parquet"


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
    """The rows that one model trains and is evaluated on, under its tokenizer. `spans`: the cut texts by name."""
    tokenize, bos_id = load_tokenizer(model_path)
    further = (0, plan.options.further_contexts) if plan.options.further_contexts else (0,)

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
            for count in further:
                _held_out_rows(plan, model, domain, spans[domain.name], count, storage, bos_id, cut)
    for trial in trials:
        _training_rows(trial, spans[trial.domain.name], storage, bos_id, cut)


def _held_out_rows(
    plan: Plan,
    model: ModelSource,
    domain: Domain,
    spans: pl.DataFrame,
    further: int,
    storage: Storage,
    bos_id: int | None,
    cut: Callable[[pl.DataFrame, Domain], pl.DataFrame],
) -> None:
    """Contexts and validation rows of a domain; or, where `further` is said, so many contexts beyond them."""
    identifier = plan.evaluation.rows_id(domain, model, further)
    if storage.read("rows", identifier) is not None:
        return
    sizes = {"num_contexts": plan.evaluation.num_contexts, "num_validation": plan.evaluation.num_validation}
    if further:
        drawn = {FURTHER: draw_further(spans, **sizes, num_further=further)}
    else:
        contexts, validation = draw_held_out(spans, **sizes)
        drawn = {CONTEXTS: contexts, VALIDATION: validation}
    frames = {name: cut(frame, domain) for name, frame in drawn.items()}

    def fill(folder: Path) -> dict[str, Any]:
        for name, frame in frames.items():
            write_parquet(folder / name, frame)
        return {
            "kind": "held-out rows",
            "id": identifier,
            "declared": plan.evaluation.declared_contexts(domain, further),
            "bos_id": bos_id,
            "near_duplicates_dropped": spans.filter(pl.col("split") == "near_duplicate").height,
            "fingerprints": {name: rows_fingerprint(frame) for name, frame in frames.items()},
            "counts": {name: len(frame) for name, frame in frames.items()},
            **provenance(),
        }

    storage.make_folder("rows", identifier, fill)


def _training_rows(
    trial: TrialSpec,
    spans: pl.DataFrame,
    storage: Storage,
    bos_id: int | None,
    cut: Callable[[pl.DataFrame, Domain], pl.DataFrame],
) -> None:
    if storage.read("rows", trial.rows_id) is not None:
        return
    rows = cut(draw_samples(spans, trial.selection.samples, trial.selection.sample_seed), trial.domain)

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

"""Texts cut into spans, and spans into rows, each made once per storage and kept under its id."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from rayfit.data.prompts import check_lengths, prompt_ids, prompt_rows
from rayfit.data.rows import Tokenize, rows_fingerprint, tokenize_spans
from rayfit.data.selection import draw_further, draw_held_out, draw_samples
from rayfit.plan.contexts import Contexts, HeldOut, Prompts
from rayfit.plan.plan import Plan
from rayfit.plan.sources import ModelSource
from rayfit.plan.trials import Domain, TrialSpec
from rayfit.prepare.corpora import read_spans
from rayfit.prepare.tokenizer import known_tokenizer, made_tokenizer
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


class CutTexts:
    """The cut and split texts of a storage, by domain: each made once per storage, and read when it is first asked for."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._frames: dict[str, pl.DataFrame] = {}

    def of(self, domain: Domain) -> pl.DataFrame:
        """A domain's spans, as `rayfit.data.spans.cut_spans` gives them. Raises RayfitError as `read_spans`."""
        if domain.spans_id not in self._frames:
            self.make(domain)
            self._frames[domain.spans_id] = pl.read_parquet(
                self._storage.folder("texts", domain.spans_id) / SPANS
            )
        return self._frames[domain.spans_id]

    def make(self, domain: Domain) -> None:
        """Cut a domain's text, unless that is done. Raises RayfitError as `read_spans`."""

        def fill(folder: Path) -> dict[str, Any]:
            spans, facts = read_spans(
                domain.text,
                self._storage,
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

        if self._storage.read("texts", domain.spans_id) is None:
            self._storage.make_folder("texts", domain.spans_id, fill)


class ModelRows:
    """The rows that one model of a plan trains and is evaluated on, under its tokenizer.

    `path`: the model's directory. `window`: tokens that it can hold, None for any number. The texts, and the tokenizer,
    are read only where rows are missing.
    """

    def __init__(
        self,
        plan: Plan,
        model: ModelSource,
        path: Path,
        window: int | None,
        texts: CutTexts,
        storage: Storage,
    ) -> None:
        self._plan, self._model, self._path, self._window = plan, model, path, window
        self._texts, self._storage = texts, storage

    def prepare(self) -> None:
        """Make what is missing of them.

        Raises RayfitError for a span that gives too few tokens and for a prompt that the model's window cannot hold.
        """
        plan, model = self._plan, self._model
        if plan.prompts is not None:
            self._prompts(plan.prompts)
        for domain in plan.domains_with_rows(model):
            for contexts in plan.held_out(domain):
                self._held_out(contexts)
        for trial in plan.unique_trials:
            if trial.model == model:
                self._training(trial)

    @cached_property
    def _tokenizer(self) -> tuple[Tokenize, int | None]:
        if self._model.kind == "made":
            return made_tokenizer(self._path)
        return known_tokenizer(self._path, self._storage)

    def _cut(self, frame: pl.DataFrame, domain: Domain) -> pl.DataFrame:
        tokenize, bos_id = self._tokenizer
        return tokenize_spans(
            frame,
            tokenize,
            bos_id=bos_id,
            sequence_length=domain.settings.sequence_length,
            tokenizer_name=self._model.name,
        )

    def _write(
        self,
        identifier: str,
        kind: str,
        declared: dict[str, Any],
        frames: Mapping[str, pl.DataFrame],
        dropped: int | None = None,
    ) -> None:
        write_rows(self._storage, identifier, kind, declared, self._tokenizer[1], frames, dropped)

    def _held_out(self, contexts: HeldOut) -> None:
        """The usual contexts of a domain with its validation rows, or those beyond them."""
        evaluation = self._plan.evaluation
        identifier = evaluation.rows_id(contexts, self._model)
        if self._storage.rows(identifier) is not None:
            return
        spans = self._texts.of(contexts.domain)
        sizes = {"num_contexts": evaluation.num_contexts, "num_validation": evaluation.num_validation}
        if contexts.further:
            drawn = {FURTHER: draw_further(spans, **sizes, num_further=contexts.further)}
        else:
            usual, validation = draw_held_out(spans, **sizes)
            drawn = {CONTEXTS: usual, VALIDATION: validation}
        frames = {name: self._cut(frame, contexts.domain) for name, frame in drawn.items()}
        dropped = spans.filter(pl.col("split") == "near_duplicate").height
        self._write(identifier, "held-out rows", evaluation.declared_contexts(contexts), frames, dropped)

    def _prompts(self, prompts: Prompts) -> None:
        """Prompts, each whole; whether they fit depends on the decodings too, so it is asked every time."""
        window, model = self._window, self._model.name
        most = max(decoding.num_new_tokens for decoding in self._plan.decodings_of_trials)
        identifier = self._plan.evaluation.rows_id(prompts, self._model)
        if self._storage.rows(identifier) is not None:
            kept = pl.read_parquet(self._storage.folder("rows", identifier) / PROMPTS)
            lengths = kept["token_ids"].list.len().to_list()
            check_lengths(lengths, window=window, num_new_tokens=most, model=model)
            return
        tokenize, bos_id = self._tokenizer
        token_ids = prompt_ids(
            prompts.texts, tokenize, bos_id=bos_id, window=window, num_new_tokens=most, model=model
        )
        declared = self._plan.evaluation.declared_contexts(prompts)
        self._write(identifier, "prompts", declared, {PROMPTS: prompt_rows(prompts.texts, token_ids)})

    def _training(self, trial: TrialSpec) -> None:
        declared = trial.declared_rows()
        if self._storage.rows(trial.rows_id) is not None or declared is None:
            return
        selection = trial.selection
        drawn = draw_samples(self._texts.of(trial.domain), selection.samples, selection.sample_seed)
        self._write(trial.rows_id, "training rows", declared, {ROWS: self._cut(drawn, trial.domain)})


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

"""Evaluating one checkpoint under one decoding: generate in parts, score, record. An actor only calls it."""

from __future__ import annotations

import dataclasses
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from rayfit.data.rows import token_matrix
from rayfit.decoding import Decoding
from rayfit.errors import RayfitError
from rayfit.generate.engines import Engine, engine
from rayfit.generate.index import BlockIndex
from rayfit.generate.loading import load_tokenizer_and_config
from rayfit.generate.vocabulary import special_ids, word_starts
from rayfit.identity import GENERATE_VERSION, SCORE_VERSION, bytes_digest
from rayfit.prepare.model_shape import vocabulary_size
from rayfit.records.frames import generated_texts
from rayfit.records.provenance import now, provenance
from rayfit.records.storage import Storage, write_parquet
from rayfit.score.arm import ORIGINAL_SCORES, arm_scores, original_scores
from rayfit.score.mauve import mauve
from rayfit.score.series import text_series
from rayfit.score.statistics import missing
from rayfit.score.text import TrainingRows, index_rows, score_texts
from rayfit.sweep.evaluation_task import EvaluationTask
from rayfit.sweep.loading import held_model, let_go

NO_TRUTH = "prompts have no true continuation"


def generate_part(task: EvaluationTask, part: int, storage: Storage) -> None:
    """Continue one part of the contexts and keep the texts; what a part has is not generated again.

    Raises RayfitError for a checkpoint, contexts or rows that do not fit each other.
    """
    file = part_file(task, part, storage)
    if file.exists():
        return
    begin = time.monotonic()
    first, end = task.parts[part]
    contexts = pl.read_parquet(task.contexts_path)[first:end]
    rows = None if task.rows_path is None else pl.read_parquet(task.rows_path)
    frame = generations(contexts, rows, task, decoding_of(task, storage))
    seconds = pl.lit(time.monotonic() - begin).alias("seconds")
    write_parquet(file, frame.with_columns(seconds))


def part_file(task: EvaluationTask, part: int, storage: Storage) -> Path:
    """Where a part's texts lie until the evaluation is recorded; parts of other weights lie elsewhere."""
    folder = f"parts-{bytes_digest(task.weights.encode())[:8]}-{task.part_contexts}"
    return storage.folder("evaluations", task.id) / folder / f"{part:05d}.parquet"


def decoding_of(task: EvaluationTask, storage: Storage) -> Decoding:
    """The decoding that generates: a matched one has its temperature from the comparison's record."""
    if task.comparison_id is None:
        return task.decoding
    record = storage.read("comparisons", task.comparison_id)
    entry = (record or {"scores": {}})["scores"].get("matched_temperature", missing("it was not solved"))
    if entry["value"] is None:
        raise RayfitError(f"the matched temperature: {entry['reason']}")
    asked = task.decoding
    changes = {"kind": "temperature", "temperature": entry["value"]}
    return dataclasses.replace(asked, **changes)


def evaluate(task: EvaluationTask, storage: Storage) -> dict[str, Any]:
    """Score the generated parts and publish the record, which is returned; generations stand beside it as parquet.

    Raises RayfitError for texts that cannot be scored.
    """
    begin = time.monotonic()
    parts = [pl.read_parquet(part_file(task, part, storage)) for part in range(len(task.parts))]
    generated = sum(part["seconds"][0] for part in parts)
    frame = pl.concat(parts).drop("seconds")
    rows = None if task.rows_path is None else pl.read_parquet(task.rows_path)
    index = None if rows is None else index_rows(token_matrix(rows), task.bos_id)
    tokenizer, config = load_tokenizer_and_config(task.model.path)
    # A model may have logits for more ids than the tokenizer has entries, and then generate such an id.
    size = max(len(tokenizer), vocabulary_size(config))
    scored = score_texts(frame, index, vocabulary_size=size, num_threads=task.model.num_threads)
    true = truths(pl.read_parquet(task.contexts_path), task)
    likeness = missing(NO_TRUTH) if true is None else _likeness(scored, true, tokenizer, task)
    scores = {**arm_scores(scored), "mauve": likeness, **_predicted(task, storage)}
    record = {
        **task.about,
        "kind": "evaluation",
        "id": task.id,
        "decoding": task.decoding.name,
        "decoding_used": decoding_of(task, storage).name,
        "engine": task.engine,
        "domain": task.domain,
        "num_contexts": len(frame),
        "num_new_tokens": task.decoding.num_new_tokens,
        "eval_precision": task.model.eval_precision,
        "generate_version": GENERATE_VERSION,
        "score_version": SCORE_VERSION,
        "predictions_id": task.predictions_id,
        "comparison_id": task.comparison_id,
        "baseline_id": None,
        "scores": scores,
        "series": text_series(scored),
    }
    if index is not None:
        _set_original_beside(record, task, index, storage)
    if task.rows_path is None and true is not None:
        truth = score_texts(true, None, vocabulary_size=size)
        record["truth"], record["truth_series"] = arm_scores(truth), text_series(truth)
    file_name = f"generations-{secrets.token_hex(4)}.parquet"
    folder = storage.folder("evaluations", task.id)
    write_parquet(folder / file_name, scored)
    scoring = time.monotonic() - begin
    record |= {
        "generations": file_name,
        "seconds": {"generate": round(generated, 3), "total": round(generated + scoring, 3)},
        "finished_at": now(),
        **provenance(),
    }
    storage.write("evaluations", task.id, record)
    _remove_old(folder, file_name)
    return record


def _set_original_beside(
    record: dict[str, Any], task: EvaluationTask, index: TrainingRows, storage: Storage
) -> None:
    """Put into a trial's record what the original model's texts share with the trial's training rows."""
    baseline = None if task.baseline_id is None else generated_texts(storage, task.baseline_id)
    if baseline is None:
        reason = "the original model's evaluation, which it is read from, failed"
        record["scores"] |= dict.fromkeys(ORIGINAL_SCORES, missing(reason))
        return
    scores, series = original_scores(baseline, index, num_threads=task.model.num_threads)
    record["scores"] |= scores
    record["series"] |= series
    record["baseline_id"] = task.baseline_id


def _remove_old(folder: Path, file_name: str) -> None:
    for old in folder.glob("generations-*.parquet"):
        if old.name != file_name:
            old.unlink()
    for parts in folder.glob("parts-*"):
        shutil.rmtree(parts, ignore_errors=True)


def _likeness(scored: pl.DataFrame, true: pl.DataFrame, tokenizer: Any, task: EvaluationTask) -> Any:
    """MAUVE of the generated texts against the true ones."""
    true_texts = tokenizer.batch_decode(true["token_ids"].to_list(), skip_special_tokens=True)
    return mauve(scored["text"].to_list(), true_texts, model_path=task.mauve_model).entry()


def _predicted(task: EvaluationTask, storage: Storage) -> dict[str, Any]:
    """The scores of the checkpoint's predictions, which are the same under every decoding."""
    if task.predictions_id is None:
        return {}
    record = storage.read("predictions", task.predictions_id)
    assert record is not None  # this evaluation waited for it
    return dict(record["scores"])


def generations(
    contexts: pl.DataFrame,
    rows: pl.DataFrame | None,
    task: EvaluationTask,
    decoding: Decoding,
) -> pl.DataFrame:
    """One row per context: context_id, domain, the texts of context, true continuation and generation, token_ids.

    The true continuation is null where there is none.
    With training rows also what the citation blocker did (null without one): `steps_banned`, steps with a ban in
    force; `steps_changed`, steps where it changed the choice.
    """
    ids, length = contexts["token_ids"].to_list(), task.context_length
    given = [row[:length] for row in ids]
    names = context_names(contexts)
    tokenizer, config = load_tokenizer_and_config(task.model.path)
    index = None
    if rows is not None and decoding.block is not None:
        starts = word_starts(tokenizer, vocabulary_size(config))
        index = BlockIndex.build(token_matrix(rows), starts, run=decoding.block.run, bos_id=task.bos_id)
    result = _engine(task)(
        given,
        decoding,
        suppress_ids=special_ids(tokenizer, config),
        context_ids=names,
        block_index=index,
    )
    tokens = [result.ids(row).tolist() for row in range(len(result))]
    return pl.DataFrame(
        {
            "context_id": names,
            "domain": [task.domain] * len(names),
            "context": tokenizer.batch_decode(given, skip_special_tokens=True),
            "truth": pl.Series(_true_texts(ids, length, tokenizer), dtype=pl.String),
            "text": tokenizer.batch_decode(tokens, skip_special_tokens=True),
            "token_ids": pl.Series(tokens, dtype=pl.List(pl.Int32)),
            "steps_banned": pl.Series(_listed(result.steps_banned, names), dtype=pl.Int32),
            "steps_changed": pl.Series(_listed(result.steps_changed, names), dtype=pl.Int32),
        }
    )


def _true_texts(ids: list[list[int]], length: int | None, tokenizer: Any) -> list[Any]:
    if length is None:
        return [None] * len(ids)
    return list(tokenizer.batch_decode([row[length:] for row in ids], skip_special_tokens=True))


def _engine(task: EvaluationTask) -> Engine:
    """The asked engine around the checkpoint; vLLM takes most of a GPU, so nothing else is held then."""
    if task.engine == "transformers":
        model = held_model(task.model)
    else:
        let_go()
        model = None
    name, precision = task.engine, task.model.eval_precision
    return engine(name, task.model.path, precision=precision, device=task.model.device, model=model)


def _listed(values: np.ndarray | None, names: list[str]) -> list[int] | list[None]:
    return [None] * len(names) if values is None else values.tolist()


def context_names(contexts: pl.DataFrame) -> list[str]:
    """A name per context that does not depend on how many there are: its place in its document."""
    return [f"{document}:{start}" for document, start in contexts.select("document", "start").iter_rows()]


def truths(contexts: pl.DataFrame, task: EvaluationTask) -> pl.DataFrame | None:
    """The true continuations, as many tokens as are generated (or as there are), as a frame of generations, or None."""
    if task.context_length is None:
        return None
    true_ids = token_matrix(contexts)[:, task.context_length :][:, : task.decoding.num_new_tokens]
    return pl.DataFrame(
        {
            "context_id": context_names(contexts),
            "domain": [task.domain] * len(contexts),
            "token_ids": pl.Series(true_ids.tolist(), dtype=pl.List(pl.Int32)),
        }
    )

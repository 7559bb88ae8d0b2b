"""Evaluating one checkpoint under one decoding: generate, score, record. A plain function; an actor only calls it."""

from __future__ import annotations

import math
import secrets
import time
from typing import Any

import numpy as np
import polars as pl
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rayfit.data.rows import token_matrix
from rayfit.generate.generator import generate
from rayfit.generate.index import BlockIndex
from rayfit.generate.vocabulary import special_ids, word_starts
from rayfit.identity import GENERATE_VERSION, SCORE_VERSION
from rayfit.records.provenance import now, provenance
from rayfit.records.storage import Storage, write_parquet
from rayfit.score.logits import TOP_K, TokenStatistics, token_statistics
from rayfit.score.statistics import Estimate, bootstrap_mean
from rayfit.score.text import aggregate_scores, index_rows, score_texts
from rayfit.sweep.evaluation_task import EvaluationTask

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_ROWS_AT_ONCE = 16


Scores = dict[str, dict[str, Any]]


def evaluate(task: EvaluationTask, storage: Storage) -> dict[str, Any]:
    """Run the evaluation and publish its record, which is returned; generations stand beside it as parquet.

    Raises RayfitError for a checkpoint or rows that cannot be scored.
    """
    begin = time.monotonic()
    torch.set_num_threads(task.num_threads)
    model = AutoModelForCausalLM.from_pretrained(
        task.checkpoint_path,
        dtype=DTYPES[task.eval_precision],
        trust_remote_code=False,
        use_safetensors=True,
        attn_implementation="eager" if task.device == "cpu" else "sdpa",
    ).to(task.device)
    tokenizer = AutoTokenizer.from_pretrained(task.checkpoint_path, trust_remote_code=False)
    contexts = pl.read_parquet(task.contexts_path)
    rows = None if task.rows_path is None else pl.read_parquet(task.rows_path)
    frame = generations(model, tokenizer, contexts, rows, task)
    generated = time.monotonic()
    index = None if rows is None else index_rows(token_matrix(rows), task.bos_id)
    scored = score_texts(frame, index, vocabulary_size=len(tokenizer), num_threads=task.num_threads)
    scores = {**text_scores(scored), **blocker_scores(scored), **_teacher_forced(model, contexts, rows, task)}
    record = {
        **task.about,
        "kind": "evaluation",
        "id": task.id,
        "decoding": task.decoding.name,
        "domain": task.domain,
        "num_contexts": len(contexts),
        "num_new_tokens": task.decoding.num_new_tokens,
        "eval_precision": task.eval_precision,
        "generate_version": GENERATE_VERSION,
        "score_version": SCORE_VERSION,
        "scores": scores,
    }
    if index is not None and (baseline := baseline_generations(task, storage)) is not None:
        overlaps = index.overlaps.longest_overlaps(baseline["token_ids"])
        scores["original_longest_overlap_mean"] = as_entry(bootstrap_mean(overlaps.values))
    if task.rows_path is None:
        record["truth"] = text_scores(
            score_texts(truths(contexts, task), None, vocabulary_size=len(tokenizer))
        )
    file_name = f"generations-{secrets.token_hex(4)}.parquet"
    folder = storage.folder("evaluations", task.id)
    write_parquet(folder / file_name, scored)
    record |= {
        "generations": file_name,
        "seconds": {"generate": round(generated - begin, 3), "total": round(time.monotonic() - begin, 3)},
        "finished_at": now(),
        **provenance(),
    }
    storage.write("evaluations", task.id, record)
    for old in folder.glob("generations-*.parquet"):
        if old.name != file_name:
            old.unlink()
    return record


def baseline_generations(task: EvaluationTask, storage: Storage) -> pl.DataFrame | None:
    """The original model's generations that a trial is compared with; None where its evaluation failed."""
    record = None if task.baseline_id is None else storage.read("evaluations", task.baseline_id)
    if record is None:
        return None
    return pl.read_parquet(storage.folder("evaluations", record["id"]) / record["generations"])


def generations(
    model: Any, tokenizer: Any, contexts: pl.DataFrame, rows: pl.DataFrame | None, task: EvaluationTask
) -> pl.DataFrame:
    """One row per context: context_id, domain, the texts of context, true continuation and generation, token_ids.

    With training rows also what the citation blocker did (null without one): `steps_banned`, steps with a ban in
    force; `steps_changed`, steps where it changed the choice.
    """
    ids = token_matrix(contexts)
    names = context_names(contexts)
    index = None
    if rows is not None and task.decoding.block is not None:
        starts = word_starts(tokenizer, model.config.vocab_size)
        index = BlockIndex.build(token_matrix(rows), starts, run=task.decoding.block.run, bos_id=task.bos_id)
    result = generate(
        model,
        ids[:, : task.context_length].tolist(),
        task.decoding,
        suppress_ids=special_ids(tokenizer, model.config),
        context_ids=names,
        block_index=index,
    )
    tokens = [result.ids(row).tolist() for row in range(len(result))]
    return pl.DataFrame(
        {
            "context_id": names,
            "domain": [task.domain] * len(names),
            "context": tokenizer.batch_decode(ids[:, : task.context_length], skip_special_tokens=True),
            "truth": tokenizer.batch_decode(ids[:, task.context_length :], skip_special_tokens=True),
            "text": tokenizer.batch_decode(tokens, skip_special_tokens=True),
            "token_ids": pl.Series(tokens, dtype=pl.List(pl.Int32)),
            "steps_banned": pl.Series(_listed(result.steps_banned, names), dtype=pl.Int32),
            "steps_changed": pl.Series(_listed(result.steps_changed, names), dtype=pl.Int32),
        }
    )


def _listed(values: np.ndarray | None, names: list[str]) -> list[int] | list[None]:
    return [None] * len(names) if values is None else values.tolist()


def blocker_scores(scored: pl.DataFrame) -> Scores:
    """Shares of a text's steps with a ban in force and with a changed choice, mean over texts; empty without a blocker."""
    lengths = scored["token_ids"].list.len()
    return {
        f"blocker_{name}_share": as_entry(bootstrap_mean(scored[f"steps_{name}"] / lengths))
        for name in ("banned", "changed")
        if scored[f"steps_{name}"].null_count() < len(scored)
    }


def context_names(contexts: pl.DataFrame) -> list[str]:
    """A name per context that does not depend on how many there are: its place in its document."""
    return [f"{document}:{start}" for document, start in contexts.select("document", "start").iter_rows()]


def truths(contexts: pl.DataFrame, task: EvaluationTask) -> pl.DataFrame:
    """The true continuations, as many tokens as are generated (or as there are), as a frame of generations."""
    true_ids = token_matrix(contexts)[:, task.context_length :][:, : task.decoding.num_new_tokens]
    return pl.DataFrame(
        {
            "context_id": context_names(contexts),
            "domain": [task.domain] * len(contexts),
            "token_ids": pl.Series(true_ids.tolist(), dtype=pl.List(pl.Int32)),
        }
    )


def text_scores(scored: pl.DataFrame) -> Scores:
    """The aggregates of one domain's scored texts by name."""
    pooled = aggregate_scores(scored).filter(pl.col("domain") == "pooled")
    return {
        row["score"]: {
            "value": row["value"],
            "low": row["low"],
            "high": row["high"],
            "count": row["num_texts"],
            "reason": row["reason"],
        }
        for row in pooled.iter_rows(named=True)
    }


def as_entry(estimate: Estimate) -> dict[str, Any]:
    """An estimate as it stands in a record."""
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "count": estimate.num_texts,
        "reason": estimate.reason,
    }


def _teacher_forced(
    model: Any, contexts: pl.DataFrame, rows: pl.DataFrame | None, task: EvaluationTask
) -> Scores:
    """Scores of the model's predictions over true texts: contexts with their continuations, validation and training rows.

    Positions are pooled; all rows are of one length, so that is also the mean over texts, from which intervals come.
    """
    texts = statistics_of(model, token_matrix(contexts), task.device)
    validation = statistics_of(model, token_matrix(pl.read_parquet(task.validation_path)), task.device)
    in_context = texts.nll_nats[:, : task.context_length - 1]
    scores = {
        "entropy_nats": mean_entry(texts.entropy_nats),
        "entropy_bits": mean_entry(texts.entropy_nats / math.log(2)),
        "perplexity_contexts": exp_entry(mean_entry(in_context)),
        "perplexity_texts": exp_entry(mean_entry(texts.nll_nats)),
        "true_token_reciprocal_rank": mean_entry(1.0 / texts.rank.double()),
        "validation_loss": mean_entry(validation.nll_nats),
        "validation_entropy_nats": mean_entry(validation.entropy_nats),
        "validation_accuracy": mean_entry(validation.correct.double()),
    }
    for place, k in enumerate(TOP_K):
        scores[f"top_{k}_mass"] = mean_entry(texts.top_mass[..., place])
        scores[f"true_token_in_top_{k}"] = mean_entry((texts.rank <= k).double())
    if rows is not None:
        train = statistics_of(model, token_matrix(rows), task.device)
        scores["train_loss"] = mean_entry(train.nll_nats)
        scores["train_accuracy"] = mean_entry(train.correct.double())
    return scores


@torch.inference_mode()
def statistics_of(model: Any, token_ids: np.ndarray, device: str) -> TokenStatistics:
    """Statistics of every predicted position of int64 rows, shape (rows, tokens - 1), in a few forward passes."""
    parts = []
    for start in range(0, len(token_ids), _ROWS_AT_ONCE):
        batch = torch.from_numpy(token_ids[start : start + _ROWS_AT_ONCE]).to(device)
        parts.append(token_statistics(model(input_ids=batch, use_cache=False).logits[:, :-1], batch[:, 1:]))
    return TokenStatistics(
        *(torch.cat([getattr(part, name) for part in parts]) for name in TokenStatistics.__dataclass_fields__)
    )


def mean_entry(values_BT: torch.Tensor) -> dict[str, Any]:
    """The mean over all positions with the bootstrap interval over texts."""
    return as_entry(bootstrap_mean(pl.Series(values_BT.double().mean(dim=1).numpy())))


def exp_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of mean negative log-likelihood as perplexity; exp is monotone, so the interval goes with it."""
    return {
        **entry,
        **{key: None if entry[key] is None else math.exp(entry[key]) for key in ("value", "low", "high")},
    }

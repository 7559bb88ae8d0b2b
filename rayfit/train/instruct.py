"""Training an embedded model further on instructions: a definition's first line is given, its docstring is learned."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from rayfit.plan.order import update_rows
from rayfit.presets import MadeModel
from rayfit.train.make import Batch, Report, facts, train_weights

IGNORED_LABEL = -100


def instruct_model(
    preset: MadeModel,
    pairs: list[tuple[str, str]],
    base: Path,
    target: Path,
    *,
    report: Report,
    num_threads: int,
    precision: str,
) -> dict[str, Any]:
    """Train the model in the directory `base` on `pairs` and write it, with the base's tokenizer, to `target`.

    A pair is (instruction, answer). Returns facts for the record, as `make_model` does, with the number of pairs and
    of learned tokens. Deterministic for a number of threads and a precision.
    """
    begin = time.monotonic()
    torch.set_num_threads(num_threads)
    torch.manual_seed(preset.seed)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").train()
    rows = [
        encode_pair(
            lambda text: tokenizer(text, add_special_tokens=False)["input_ids"],
            pair,
            bos_id=tokenizer.bos_token_id,
            sequence_length=preset.sequence_length,
        )
        for pair in pairs
    ]
    losses = train_weights(model, shuffled_batches(rows, preset), preset, report, precision)
    target.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return {
        **facts(model, losses, num_threads, precision),
        "training_pairs": len(pairs),
        "training_tokens": int(sum((labels != IGNORED_LABEL).sum() for _, labels in rows)),
        "seconds": round(time.monotonic() - begin, 1),
    }


def encode_pair(
    tokenize: Callable[[str], list[int]], pair: tuple[str, str], *, bos_id: int, sequence_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """(ids, labels) of one pair, int64, at most `sequence_length` long.

    BOS, the instruction, a newline, the answer, and BOS again, which ends the answer as it separates documents in
    pretraining. Only the answer and its end have labels; what is too long is cut at its end.
    """
    instruction, answer = pair
    given = [bos_id, *tokenize(f"{instruction}\n")]
    learned = [*tokenize(answer), bos_id]
    ids = np.array([*given, *learned][:sequence_length], dtype=np.int64)
    labels = ids.copy()
    labels[: len(given)] = IGNORED_LABEL
    return ids, labels


def shuffled_batches(rows: list[tuple[np.ndarray, np.ndarray]], preset: MadeModel) -> Iterator[Batch]:
    """Batches without end, in the order of the data stage; shorter rows are filled up at their end with id 0."""
    update = 0
    while True:
        chosen = [rows[row] for row in update_rows(len(rows), preset.batch_size, preset.seed, update)]
        longest = max(len(ids) for ids, _ in chosen)
        batch = np.zeros((len(chosen), longest), dtype=np.int64)
        labels = np.full_like(batch, IGNORED_LABEL)
        for place, (ids, learned) in enumerate(chosen):
            batch[place, : len(ids)] = ids
            labels[place, : len(ids)] = learned
        yield torch.from_numpy(batch), torch.from_numpy(labels)
        update += 1

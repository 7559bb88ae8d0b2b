"""Continuing contexts with one checkpoint under one decoding, in parts, so that a process that dies costs one of them."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import polars as pl

from rayfit.data.rows import token_matrix
from rayfit.decoding import Decoding
from rayfit.devices import device_name
from rayfit.errors import RayfitError
from rayfit.generate.generator import generate
from rayfit.generate.index import BlockIndex
from rayfit.generate.loading import load_tokenizer_and_config
from rayfit.generate.vocabulary import special_ids, word_starts
from rayfit.measure.bench import Bench
from rayfit.measure.checkpoint import computed_with, held_model
from rayfit.measure.parts import num_parts, part_file
from rayfit.measure.stage import Measured
from rayfit.plan.contexts import HeldOut
from rayfit.plan.measurements import Generation
from rayfit.prepare.model_shape import vocabulary_size
from rayfit.records.storage import write_parquet

# What the parts tell of their making beside what is kept of them, for the record.
_TOLD = ("attention", "device", "batch_size", "smallest_batch")

FRAME = "texts"
"""What a generation's file holds: a row per context."""


def generate_part(spec: Generation, bench: Bench, part: int) -> None:
    """Continue one part of the contexts and keep the texts; what a part has is not generated again.

    Raises RayfitError for a checkpoint, contexts or rows that do not fit each other.
    """
    file = part_file(spec, bench, part)
    if file.exists():
        return
    begin = time.monotonic()
    contexts = bench.contexts(spec)[part * bench.part_contexts : (part + 1) * bench.part_contexts]
    frame, notes = _generate(spec, bench, contexts)
    notes["seconds"] = time.monotonic() - begin
    write_parquet(file, frame.with_columns(**{name: pl.lit(value) for name, value in notes.items()}))


def join_parts(spec: Generation, bench: Bench) -> Measured:
    """Put the generated parts together, a row per context.

    Columns: `context_id` and `domain`; `context`, `truth` and `text` (strings); `context_ids`, `truth_ids` and
    `token_ids` (Int32 lists, the latter what was generated); `steps_banned` and `steps_changed` (Int32, null without a
    citation blocker: steps with a ban in force, and where it changed the choice). The true continuation, whole however
    much is generated, is null where there is none.
    """
    frames = [pl.read_parquet(part_file(spec, bench, part)) for part in range(num_parts(spec, bench))]
    frame = pl.concat(frames).drop("seconds", "vocabulary_size", *_TOLD)
    temperature = None if spec.matching is None else bench.input(spec.inputs[0])
    return Measured(
        # At which temperature a matched decoding generated stands with its texts.
        scores={} if temperature is None else dict(temperature.scores),
        frames={FRAME: frame},
        about={
            "decoding_used": decoding_used(spec, bench).name,
            "num_contexts": len(frame),
            "num_new_tokens": spec.how.num_new_tokens,
            "contexts_fingerprint": bench.contexts_fingerprint(spec),
            # A model may have logits for more ids than the tokenizer has entries, and then generate such an id.
            "vocabulary_size": max(part["vocabulary_size"][0] for part in frames),
            **{name: frames[0][name][0] for name in ("attention", "device")},
            "batch_size": max(part["batch_size"][0] for part in frames),
            "smallest_batch": min(part["smallest_batch"][0] for part in frames),
        },
        seconds=sum(part["seconds"][0] for part in frames),
    )


def decoding_used(spec: Generation, bench: Bench) -> Decoding:
    """The decoding that generates: a matched one has the temperature that was solved for it.

    Raises RayfitError where none was found.
    """
    if spec.matching is None:
        return spec.how
    entry = bench.input(spec.inputs[0]).scores["matched_temperature"]
    if entry.value is None:
        raise RayfitError(f"the matched temperature: {entry.reason}")
    return dataclasses.replace(spec.how, kind="temperature", temperature=entry.value)


def _generate(spec: Generation, bench: Bench, contexts: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The frame of `join_parts` for some contexts, and notes: how many ids the model knows, what computed."""
    length = spec.settings.context_length if isinstance(spec.contexts, HeldOut) else None
    ids = contexts["token_ids"].to_list()
    given = [row[:length] for row in ids]
    truth = None if length is None else [row[length:] for row in ids]
    names = context_names(contexts)
    tokenizer, config = load_tokenizer_and_config(bench.checkpoint(spec).path)
    decoding = decoding_used(spec, bench)
    rows, index = bench.training_rows(spec.subject.trial), None
    if rows is not None and decoding.block is not None:
        starts = word_starts(tokenizer, vocabulary_size(config))
        index = BlockIndex.build(
            token_matrix(rows), starts, run=decoding.block.run, bos_id=bench.bos_id(spec)
        )
    model = held_model(bench.checkpoint(spec))
    result = generate(
        model,
        given,
        decoding,
        suppress_ids=special_ids(tokenizer, config),
        context_ids=names,
        block_index=index,
    )
    tokens = [result.ids(row).tolist() for row in range(len(result))]

    def texts(some: list[list[int]] | None) -> list[Any]:
        if some is None:
            return [None] * len(ids)
        return list(tokenizer.batch_decode(some, skip_special_tokens=True))

    frame = pl.DataFrame(
        {
            "context_id": names,
            "domain": [spec.contexts.name] * len(names),
            "context": texts(given),
            "truth": pl.Series(texts(truth), dtype=pl.String),
            "text": texts(tokens),
            "context_ids": _id_lists(given, len(ids)),
            "truth_ids": _id_lists(truth, len(ids)),
            "token_ids": _id_lists(tokens, len(ids)),
            "steps_banned": pl.Series(_listed(result.steps_banned, names), dtype=pl.Int32),
            "steps_changed": pl.Series(_listed(result.steps_changed, names), dtype=pl.Int32),
        }
    )
    return frame, {
        "vocabulary_size": max(len(tokenizer), vocabulary_size(config)),
        "device": device_name(model.device),
        "smallest_batch": min(result.batch_sizes),
        **computed_with(model, max(result.batch_sizes)),
    }


def _id_lists(ids: list[list[int]] | None, count: int) -> pl.Series:
    return pl.Series([None] * count if ids is None else ids, dtype=pl.List(pl.Int32))


def _listed(values: np.ndarray | None, names: list[str]) -> list[int] | list[None]:
    return [None] * len(names) if values is None else values.tolist()


def context_names(contexts: pl.DataFrame) -> list[str]:
    """A name per context that does not depend on how many there are: its place in its document."""
    return [f"{document}:{start}" for document, start in contexts.select("document", "start").iter_rows()]

"""Texts side by side: a few contexts, their true continuations, and what each model made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from rayfit.columns import ORIGINAL, TRAINED, TRUTH, column, names
from rayfit.findings.labels import decoding_of, label, telling, who_text
from rayfit.findings.measured import Measured, measured
from rayfit.records.frames import SCORES, scored_texts
from rayfit.records.storage import Storage
from rayfit.records.sweep import Row, SweepRecord
from rayfit.records.trials import product_path
from rayfit.report.repetition import Span, Tokens, spans_of_tokens, spans_of_words

_EXAMPLES = 6
_MOST_SIDES = 6
_TTR = "ttr_last_96"


@dataclass(frozen=True)
class Side:
    """One continuation: whose it is, its numbers in words, and its text in coloured spans."""

    label: str
    who: str
    note: str
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Example:
    """One context with its continuations; `name` says where in which document it stands, or which prompt it is."""

    name: str
    context: str
    sides: tuple[Side, ...]


@dataclass(frozen=True)
class Comparison:
    """The examples of one model and domain. `about` says whose texts they are; `by_words`: no tokenizer was found."""

    title: str
    about: str
    examples: tuple[Example, ...]
    by_words: bool


def comparisons(record: SweepRecord, storage: Storage) -> list[Comparison]:
    """A comparison per model and domain that has generations of the original model and of a trial."""
    places: dict[tuple[str, str], list[Measured]] = {}
    for one in measured([row for row in record.rows if row.who != TRUTH], SCORES, storage):
        places.setdefault((one.row.model, one.row.domain), []).append(one)
    chosen = []
    for (model, domain), own in places.items():
        sides = _sides(own, domain)
        if any(one.row.who == ORIGINAL for one in sides) and len(sides) > 1:
            chosen.append((model, domain, sides))
    each = max(2, _EXAMPLES // max(1, len(chosen)))
    several = len(chosen) > 1
    made = [
        _comparison(f"{model} on {domain}" if several else "", sides, record.uses.models, storage, each)
        for model, domain, sides in chosen
    ]
    return [comparison for comparison in made if comparison is not None]


def _sides(own: Sequence[Measured], domain: str) -> list[Measured]:
    """The original and one trial under each decoding, greedy before the rest, and the trials of other texts or arms.

    The trial is the hyperfitted one with most training sequences, of the domain's own text, with the lowest seed.
    """
    own = [one for one in own if one.row.update is None]
    originals = sorted((one for one in own if one.row.who == ORIGINAL), key=_plainness)
    trials = [one for one in own if one.row.who == TRAINED]
    if not trials:
        return originals[:1]
    best = max(trials, key=lambda one: _fitness(one.row, domain))
    same = sorted((one for one in trials if one.row.trial_id == best.row.trial_id), key=_plainness)
    kinds = _kinds_of_training()
    others: dict[tuple[Any, ...], Measured] = {}
    for one in sorted(trials, key=lambda one: (*_plainness(one), one.row.seed or 0)):
        key = tuple(one.row.value(name) for name in kinds)
        mine = tuple(best.row.value(name) for name in kinds)
        if key != mine and one.row.decoding == same[0].row.decoding:
            others.setdefault(key, one)
    return [*originals[:1], *same, *others.values()][:_MOST_SIDES]


def _fitness(row: Row, domain: str) -> tuple[Any, ...]:
    seed = row.seed or 0
    is_own, hyperfitted = row.train_text == domain, bool(row.hyperfitted)
    return (is_own, hyperfitted, row.samples or 0, -seed)


def _plainness(one: Measured) -> tuple[bool, bool, int]:
    """Greedy first, blocked next, then as they come."""
    decoding = decoding_of(one.row)
    assert decoding is not None
    return (decoding.kind != "greedy", decoding.block is not None, len(decoding.name))


def _kinds_of_training() -> list[str]:
    """What a trial is of, in words: its text, its arm, its adapter; comparisons are by model anyway."""
    return names(
        lambda each: each.tells and each.of == "training" and not each.is_number and not each.has_sections
    )


def _comparison(
    title: str, sides: Sequence[Measured], made_models: Sequence[str], storage: Storage, number: int
) -> Comparison | None:
    frames = [scored_texts(storage, one.record.id) for one in sides]
    if frames[0] is None:
        return None
    kept = [(one, frame) for one, frame in zip(sides, frames, strict=True) if frame is not None]
    tokens = _tokens(kept, made_models, storage)
    shared = set.intersection(*(set(frame["context_id"]) for _, frame in kept))
    base = kept[0][1].filter(pl.col("context_id").is_in(shared)).sort(_TTR, "context_id", nulls_last=True)
    rows = [one.row for one, _ in kept if one.row.who == TRAINED]
    columns = telling(rows, but=("domain",))
    by_id = [{line["context_id"]: line for line in frame.iter_rows(named=True)} for _, frame in kept]
    examples = []
    for place in _spread_places(len(base), number):
        line = base.row(place, named=True)
        made = [] if line["truth"] is None else [_truth(line, tokens)]
        for (one, _), lines in zip(kept, by_id, strict=True):
            made.append(_side(one.row, columns, lines[line["context_id"]], tokens))
        examples.append(Example(line["context_id"], line["context"], tuple(made)))
    about = label(rows[0], _chosen(rows[0])) if rows else ""
    return Comparison(title, about, tuple(examples), tokens is None)


def _chosen(row: Row) -> list[str]:
    """The columns that describe a trial by itself."""
    return [
        name
        for name in names(lambda each: each.tells and each.of == "training" and not each.has_sections)
        if row.value(name) not in (None, column(name).usual)
    ]


def _spread_places(count: int, number: int) -> list[int]:
    """Places from first to last, evenly: the choice is made by rank alone."""
    if count <= number:
        return list(range(count))
    return [round(place * (count - 1) / (number - 1)) for place in range(number)]


def _truth(line: Mapping[str, Any], tokens: Tokens | None) -> Side:
    text = line["truth"]
    spans: list[Span] | None = None
    if tokens is not None:
        ids = tokens.ids(text)[: len(line["token_ids"])]
        text = "".join(tokens.pieces(ids))
        spans = spans_of_tokens(tokens, ids, text)
    return Side("true continuation", TRUTH, "", tuple(spans or spans_of_words(text)))


def _side(row: Row, columns: Sequence[str], line: Mapping[str, Any], tokens: Tokens | None) -> Side:
    spans = None if tokens is None else spans_of_tokens(tokens, line["token_ids"], line["text"])
    notes = []
    if line[_TTR] is not None:
        notes.append(f"TTR {column(_TTR).text(line[_TTR])}")
    if line["longest_overlap"] is not None:
        notes.append(f"overlap {line['longest_overlap']} tokens")
    own = ", ".join(filter(None, [who_text(row), *_own_words(row, columns)]))
    return Side(own, row.who, " · ".join(notes), tuple(spans or spans_of_words(line["text"])))


def _own_words(row: Row, columns: Sequence[str]) -> list[str]:
    words = [label(row, [name]) for name in columns if name != "decoding" and row.who == TRAINED]
    return [*words, column("decoding").text(row.decoding)]


def _tokens(
    kept: Sequence[tuple[Measured, pl.DataFrame]], made_models: Sequence[str], storage: Storage
) -> Tokens | None:
    """The tokenizer that gives back these texts, from a trial's checkpoint or the made model; None where there is none."""
    line = kept[0][1].row(0, named=True)
    for path in _tokenizer_paths([one.row for one, _ in kept], made_models, storage):
        tokens = Tokens(str(path))
        if spans_of_tokens(tokens, line["token_ids"], line["text"]) is not None:
            return tokens
    return None


def _tokenizer_paths(rows: Sequence[Row], made_models: Sequence[str], storage: Storage) -> list[Path]:
    trials = [trial for row in rows if (trial := storage.trial(row.trial_id)) is not None]
    folders = [
        product_path(storage, trial, product)
        for trial in trials
        for product in trial.products
        if product.kind == "checkpoint"
    ]
    folders += [storage.folder("models", key) for key in made_models if key.startswith(f"{rows[0].model}-")]
    return [path for folder in folders if (path := folder / "tokenizer.json").is_file()]

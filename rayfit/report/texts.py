"""Texts side by side: a few contexts, their true continuations, and what each model made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from rayfit.records.storage import Storage
from rayfit.report.columns import number_text
from rayfit.report.joined import Evaluated, evaluated
from rayfit.report.labels import decoding_text, label, telling
from rayfit.report.repetition import Span, Tokens, spans_of_tokens, spans_of_words
from rayfit.report.rows import Row

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


def comparisons(record: Mapping[str, Any], storage: Storage) -> list[Comparison]:
    """A comparison per model and domain that has generations of the original model and of a trial."""
    found = list(evaluated(record, storage))
    keys = list(dict.fromkeys((one.record["model_name"], one.row["domain"]) for one in found))
    chosen = []
    for model, domain in keys:
        own = [one for one in found if (one.record["model_name"], one.row["domain"]) == (model, domain)]
        sides = _sides(own, domain)
        if any(one.row["who"] == "original" for one in sides) and len(sides) > 1:
            chosen.append((model, domain, sides))
    each = max(2, _EXAMPLES // max(1, len(chosen)))
    several = len(chosen) > 1
    made = [
        _comparison(f"{model} on {domain}" if several else "", domain, sides, storage, each)
        for model, domain, sides in chosen
    ]
    return [comparison for comparison in made if comparison is not None]


def _sides(own: Sequence[Evaluated], domain: str) -> list[Evaluated]:
    """The original and one trial under each decoding, greedy before the rest, and the trials of other texts or arms.

    The trial is the hyperfitted one with most training sequences, of the domain's own text, with the lowest seed.
    """
    own = [one for one in own if one.row.get("update") is None]
    originals = sorted((one for one in own if one.row["who"] == "original"), key=_plainness)
    trials = [one for one in own if one.row["who"] == "trained"]
    if not trials:
        return originals[:1]
    best = max(trials, key=lambda one: _fitness(one.row, domain))
    same = sorted((one for one in trials if one.row["trial_id"] == best.row["trial_id"]), key=_plainness)
    others: dict[tuple[Any, ...], Evaluated] = {}
    for one in sorted(trials, key=lambda one: (*_plainness(one), one.row.get("seed") or 0)):
        key = tuple(one.row.get(name) for name in ("train_text", "arm", "adapter"))
        mine = tuple(best.row.get(name) for name in ("train_text", "arm", "adapter"))
        if key != mine and one.row["decoding"] == same[0].row["decoding"]:
            others.setdefault(key, one)
    return [*originals[:1], *same, *others.values()][:_MOST_SIDES]


def _fitness(row: Row, domain: str) -> tuple[Any, ...]:
    seed = row.get("seed") or 0
    return (row.get("train_text") == domain, bool(row.get("hyperfitted")), row.get("samples") or 0, -seed)


def _plainness(one: Evaluated) -> tuple[bool, bool, int]:
    """Greedy first, blocked next, then as they come."""
    decoding = one.row["decoding"]
    return (not decoding.startswith("greedy"), "block" in decoding, len(decoding))


def _comparison(
    title: str, domain: str, sides: Sequence[Evaluated], storage: Storage, number: int
) -> Comparison | None:
    frames = [_generations(one, domain, storage) for one in sides]
    if any(frame is None for frame in frames[:1]):
        return None
    kept = [(one, frame) for one, frame in zip(sides, frames, strict=True) if frame is not None]
    tokens = _tokens(kept, storage)
    shared = set.intersection(*(set(frame["context_id"]) for _, frame in kept))
    base = kept[0][1].filter(pl.col("context_id").is_in(shared)).sort(_TTR, "context_id", nulls_last=True)
    rows = [one.row for one, _ in kept if one.row["who"] == "trained"]
    columns = telling(rows, but=("domain",))
    by_id = [{line["context_id"]: line for line in frame.iter_rows(named=True)} for _, frame in kept]
    examples = []
    for place in _spread_places(len(base), number):
        line = base.row(place, named=True)
        made = [] if line["truth"] is None else [_truth(line, tokens)]
        for (one, _), lines in zip(kept, by_id, strict=True):
            made.append(_side(one.row, columns, lines[line["context_id"]], tokens))
        examples.append(Example(line["context_id"], line["context"], tuple(made)))
    about = label(rows[0], telling_all(rows[0])) if rows else ""
    return Comparison(title, about, tuple(examples), tokens is None)


def telling_all(row: Row) -> list[str]:
    """The columns that describe a trial by itself."""
    return [
        name
        for name in ("train_text", "arm", "adapter", "samples", "updates", "learning_rate")
        if row.get(name)
    ]


def _spread_places(count: int, number: int) -> list[int]:
    """Places from first to last, evenly: the choice is made by rank alone."""
    if count <= number:
        return list(range(count))
    return [round(place * (count - 1) / (number - 1)) for place in range(number)]


def _generations(one: Evaluated, domain: str, storage: Storage) -> pl.DataFrame | None:
    path = storage.folder("evaluations", one.record["id"]) / one.record["generations"]
    if not path.is_file():
        return None
    frame = pl.read_parquet(path)
    return frame.filter(pl.col("domain") == domain) if domain in frame["domain"] else frame


def _truth(line: Mapping[str, Any], tokens: Tokens | None) -> Side:
    text = line["truth"]
    spans: list[Span] | None = None
    if tokens is not None:
        ids = tokens.ids(text)[: len(line["token_ids"])]
        text = "".join(tokens.pieces(ids))
        spans = spans_of_tokens(tokens, ids, text)
    return Side("true continuation", "truth", "", tuple(spans or spans_of_words(text)))


def _side(row: Row, columns: Sequence[str], line: Mapping[str, Any], tokens: Tokens | None) -> Side:
    spans = None if tokens is None else spans_of_tokens(tokens, line["token_ids"], line["text"])
    notes = []
    if line.get(_TTR) is not None:
        notes.append(f"TTR {number_text(_TTR, line[_TTR])}")
    if line.get("longest_overlap") is not None:
        notes.append(f"overlap {line['longest_overlap']} tokens")
    name = "original model" if row["who"] == "original" else "hyperfitted"
    if row["who"] == "trained" and row.get("hyperfitted") is False:
        name = "trained, not hyperfitted"
    own = ", ".join(filter(None, [name, *_own_words(row, columns)]))
    return Side(own, row["who"], " · ".join(notes), tuple(spans or spans_of_words(line["text"])))


def _own_words(row: Row, columns: Sequence[str]) -> list[str]:
    words = [label(row, [name]) for name in columns if name != "decoding" and row["who"] == "trained"]
    return [*words, decoding_text(row["decoding"])]


def _tokens(kept: Sequence[tuple[Evaluated, pl.DataFrame]], storage: Storage) -> Tokens | None:
    """The tokenizer that gives back these texts, from a trial's checkpoint or the made model; None where there is none."""
    frame = kept[0][1]
    line = frame.row(0, named=True)
    for path in _tokenizer_paths([one for one, _ in kept], storage):
        tokens = Tokens(str(path))
        if spans_of_tokens(tokens, line["token_ids"], line["text"]) is not None:
            return tokens
    return None


def _tokenizer_paths(sides: Sequence[Evaluated], storage: Storage) -> list[Path]:
    folders = []
    for one in sides:
        trial = storage.read("trials", one.row["trial_id"]) if one.row["trial_id"] else None
        for name, path in (trial or {}).get("products", {}).items():
            if name.startswith("checkpoint") and trial is not None:
                folders.append(storage.folder("trials", trial["id"]) / path)
    name = sides[0].record["model_name"]
    folders += [storage.folder("models", key) for key in storage.ids("models") if key.startswith(f"{name}-")]
    return [path for folder in folders if (path := folder / "tokenizer.json").is_file()]

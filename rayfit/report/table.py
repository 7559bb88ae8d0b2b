"""The table a sweep ends with, as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from rayfit.report.rows import WORDS, Row

_Format = Callable[[Any], str]


def _number(digits: int) -> _Format:
    return lambda value: f"{value:.{digits}f}"


_COLUMNS: tuple[tuple[str, str, _Format], ...] = (
    ("samples", "samples", str),
    ("updates", "updates", str),
    ("epochs", "epochs", lambda value: f"{value:g}"),
    ("train_loss", "train loss", _number(3)),
    ("train_accuracy", "accuracy", _number(3)),
    ("validation_loss", "val. loss", _number(2)),
    ("entropy_nats", "entropy", _number(2)),
    ("ttr_last_96", "TTR", _number(3)),
    ("longest_overlap_mean", "overlap", _number(1)),
    ("original_longest_overlap_mean", "original's", _number(1)),
    ("minutes", "minutes", _number(1)),
)

# Shown where they tell rows apart.
_IF_VARIED: tuple[tuple[str, str, _Format], ...] = (
    ("model", "model", str),
    ("train_text", "trained on", str),
    ("domain", "on", str),
    ("batch_size", "batch", str),
    ("learning_rate", "rate", lambda value: f"{value:g}"),
    ("adapter", "adapter", str),
    ("seed", "seed", str),
    ("order_seed", "order", str),
    ("training_seed", "training", str),
)

# Shown where some row has it.
_IF_THERE: tuple[tuple[str, str, _Format], ...] = (
    ("top_1_agreement", "agrees", _number(3)),
    ("matched_temperature", "T", _number(2)),
)

LEGEND = (
    "TTR: distinct over all of the last 96 generated tokens, mean over contexts. Losses and entropy in nats per token.\n"
    "overlap: longest run of generated tokens that stands in the training rows, mean; original's: the original model's."
)


def render_table(rows: list[Row], num_contexts: int, prompts: Mapping[str, Any] | None = None) -> str:
    """The rows as aligned text with a heading and a legend; what does not apply is a dash."""
    several = len({row["decoding"] for row in rows if row["decoding"]}) > 1
    varied = [column for column in _IF_VARIED if len({row[column[0]] for row in rows} - {None}) > 1]
    there = [column for column in _IF_THERE if any(_has(row, column[0]) for row in rows)]
    words = [column for column in varied if column[0] in WORDS]
    numbers = [column for column in varied if column[0] not in WORDS]
    columns = [*words, _COLUMNS[0], *numbers, *_COLUMNS[1:-1], *there, _COLUMNS[-1]]
    header = ["", *(title for _, title, _ in columns), ""]
    lines = [header]
    for row in rows:
        cells = [_dash(row.get(name), form) for name, _, form in columns]
        lines.append([_label(row, several), *cells, _note(row)])
    widths = [max(len(line[place]) for line in lines) for place in range(len(header))]
    text = []
    for line in lines:
        first, *middle, last = line
        aligned = [cell.rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True)]
        text.append("  ".join([first.ljust(widths[0]), *aligned, last]).rstrip())
    text.insert(1, "-" * max(map(len, text)))
    return "\n".join([*text, "", f"{contexts_text(str(num_contexts), prompts)} {LEGEND}"])


def contexts_text(num_contexts: str, prompts: Mapping[str, Any] | None) -> str:
    """How many texts a row is of. `prompts`: as a sweep's record says which they are."""
    if prompts is None:
        return f"{num_contexts} contexts per row."
    return f"{num_contexts} contexts per row; in rows on {prompts['name']} {prompts['count']} prompts, without true text."


def _has(row: Row, name: str) -> bool:
    # A trial's matched temperature is of interest where the original was sampled at it.
    shown = name != "matched_temperature" or row["who"] == "original"
    return shown and row.get(name) is not None


def _label(row: Row, several_decodings: bool) -> str:
    names = {"truth": "true continuations", "original": "original model", "trained": "hyperfitted"}
    label = row["arm"] or names[row["who"]]
    if row["who"] == "original" and row["arm"]:
        label = "original model"
    if not several_decodings or not row["decoding"]:
        return label
    # The length is the same for all rows of a sweep as a rule, and stands in summary.json and the ids.
    return f"{label}, {re.sub(r':?num_new_tokens=[0-9]+,?', ':', row['decoding']).strip(':,')}"


def _dash(value: Any, form: _Format) -> str:
    return "-" if value is None else form(value)


def _note(row: Row) -> str:
    if row["status"] != "FINISHED":
        return f"{row['status']}: {row['reason']}"
    notes = ["not hyperfitted"] if row["hyperfitted"] is False else []
    if row["early_stopped"]:
        notes.append("lowest validation loss")
    return ", ".join(notes)

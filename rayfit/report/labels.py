"""Names for people: of decodings, of whose texts a row is, and of what tells one row from another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rayfit.report.rows import Row

WHO = {"truth": "true continuations", "original": "original model", "trained": "hyperfitted"}

# What may tell two rows of one `who` apart, in the order in which it is named; seeds are not among them.
DECLARED = (
    "model",
    "train_text",
    "arm",
    "adapter",
    "samples",
    "epochs",
    "updates",
    "update",
    "batch_size",
    "learning_rate",
    "stop_at_train_loss",
    "repeat",
    "domain",
    "decoding",
)

_PHRASES = {
    "train_text": "trained on {}",
    "samples": "{} sequences",
    "epochs": "{} epochs",
    "updates": "{} updates",
    "update": "after {} updates",
    "batch_size": "batch {}",
    "learning_rate": "rate {}",
    "stop_at_train_loss": "stopped at loss {}",
    "repeat": "repeat {}",
    "seed": "seed {}",
    "order_seed": "order seed {}",
    "training_seed": "training seed {}",
    "domain": "on {}",
}


def value_text(value: Any) -> str:
    """A declared value as people write it: 2,000 for 2000, 1e-06 for small rates."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def decoding_text(name: str | None, *, with_length: bool = False) -> str:
    """A decoding in words; its length is left out where all rows share it.

    >>> decoding_text("greedy:num_new_tokens=224,block=W1")
    'greedy, blocked (W1)'
    """
    if not name:
        return ""
    kind, _, rest = name.partition(":")
    words = [kind.replace("_", "-")]
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if key == "num_new_tokens":
            words += [f"{value} tokens"] if with_length else []
        elif key == "block":
            words.append(f"blocked ({value or 'W1'})")
        elif key == "temperature":
            words.append(f"T {value}")
        else:
            words.append(f"{key.replace('_', ' ')} {value}" if equals else key.replace("_", " "))
    return ", ".join(words)


def lengths_differ(rows: Iterable[Row]) -> bool:
    """Whether these rows' decodings generate different numbers of tokens."""
    return len({_length(row["decoding"]) for row in rows if row.get("decoding")}) > 1


def _length(decoding: str) -> str:
    items = decoding.partition(":")[2].split(",")
    return next((item for item in items if item.startswith("num_new_tokens=")), "")


def telling(rows: Sequence[Row], *, but: Sequence[str] = ()) -> list[str]:
    """Columns that tell these rows apart, without those named in `but` and without those that follow from others.

    A column follows where each combination of the others goes with one value of it: epochs follow from the arm and the
    number of samples, say.
    """
    known = [name for name in but if name in DECLARED]
    found: list[str] = []
    for name in DECLARED:
        if name in but or len({row.get(name) for row in rows}) < 2:
            continue
        if not follows(rows, name, [*known, *found]):
            found.append(name)
    return found


def telling_each(rows: Sequence[Row], *, but: Sequence[str] = ()) -> list[str]:
    """`telling` of the trials or of the original models: what all trials share is not told because originals lack it."""
    found = {
        name
        for who in ("original", "trained")
        for name in telling([row for row in rows if row["who"] == who], but=but)
    }
    return [name for name in DECLARED if name in found]


def follows(rows: Sequence[Row], name: str, others: Sequence[str]) -> bool:
    """Whether each combination of the others goes with one value of a column, in several combinations."""
    keys = [tuple(row.get(other) for other in others) for row in rows]
    return len(set(keys)) == len({(key, row.get(name)) for key, row in zip(keys, rows, strict=True)}) > 1


def phrase(row: Row, columns: Iterable[str], *, with_length: bool = False) -> str:
    """What these columns say of a row, in words: `tiny, trained on news, greedy`; empty where they say nothing."""
    words = []
    for name in columns:
        value = row.get(name)
        if name == "decoding":
            words.append(decoding_text(value, with_length=with_length))
        elif name == "update" and value is None and row["who"] == "trained":
            words.append("final weights")
        elif value is not None:
            words.append(_PHRASES.get(name, "{}").format(value_text(value)))
    return ", ".join(filter(None, words))


def group_text(rows: Sequence[Row]) -> str:
    """`who_text` of rows that differ in seeds; where they are not all the same, of how many seeds it holds."""
    done = [row for row in rows if row["status"] == "FINISHED"] or list(rows)
    texts = [who_text(row) for row in done]
    if len(set(texts)) == 1:
        return texts[0]
    few = "early-stopped" if "early-stopped" in texts else "hyperfitted"
    rest = "along training" if few == "early-stopped" else "trained"
    return f"{rest}, {few} in {texts.count(few)} of {len(texts)} seeds"


def who_text(row: Row) -> str:
    """Whose texts a row is of; training that did not end hyperfitted is not called so."""
    if row["who"] != "trained":
        return WHO[row["who"]]
    if row.get("update") is not None:
        return "early-stopped" if row.get("early_stopped") else "along training"
    if row.get("hyperfitted") is None:
        return "trained"
    return "hyperfitted" if row["hyperfitted"] else "trained, not hyperfitted"


def label(row: Row, columns: Iterable[str], *, with_length: bool = False) -> str:
    """Whose texts and what tells the row apart, for a line of a figure."""
    words = phrase(row, columns, with_length=with_length)
    if row["who"] == "trained":
        return words or "hyperfitted"
    return f"{WHO[row['who']]}, {words}" if words else WHO[row["who"]]

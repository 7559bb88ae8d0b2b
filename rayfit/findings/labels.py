"""Names for people: of whose texts a row is, and of what tells one row from another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rayfit.columns import ORIGINAL, TRAINED, WHO, column, telling_columns
from rayfit.decoding import Decoding
from rayfit.records.sweep import Row


def decoding_of(row: Row) -> Decoding | None:
    """The decoding of a row; None of true continuations."""
    name = row.decoding
    return Decoding.parse(name) if name else None


def lengths_differ(rows: Iterable[Row]) -> bool:
    """True when these rows' decodings generate different numbers of tokens."""
    names = {row.decoding for row in rows if row.decoding is not None}
    return len({Decoding.parse(name).num_new_tokens for name in names}) > 1


def telling(rows: Sequence[Row], *, but: Sequence[str] = ()) -> list[str]:
    """Columns that tell these rows apart, without those named in `but` and without those that follow from others.

    A column follows where each combination of the others goes with one value of it: epochs follow from the arm and the
    number of samples, say.
    """
    columns = telling_columns()
    known = [name for name in but if name in columns]
    found: list[str] = []
    for name in columns:
        if name not in but and varies(rows, name) and not follows(rows, name, [*known, *found]):
            found.append(name)
    return found


def telling_each(rows: Sequence[Row], *, but: Sequence[str] = ()) -> list[str]:
    """`telling` of the trials or of the original models: what all trials share is not told because originals lack it."""
    found = {
        name
        for who in (ORIGINAL, TRAINED)
        for name in telling([row for row in rows if row.who == who], but=but)
    }
    return [name for name in telling_columns() if name in found]


def varies(rows: Iterable[Row], name: str) -> bool:
    """Whether rows differ in a column; null is a value of its own."""
    return len({row.value(name) for row in rows}) > 1


def follows(rows: Sequence[Row], name: str, others: Sequence[str]) -> bool:
    """Whether each combination of the others goes with one value of a column, in several combinations."""
    keys = [tuple(row.value(other) for other in others) for row in rows]
    return len(set(keys)) == len({(key, row.value(name)) for key, row in zip(keys, rows, strict=True)}) > 1


def phrase(row: Row, columns: Iterable[str], *, with_length: bool = False) -> str:
    """What these columns say of a row, in words: `tiny, trained on news, greedy`; empty where they say nothing."""
    words = [
        "final weights"
        if is_final(row, name)
        else column(name).words(row.value(name), with_length=with_length)
        for name in columns
    ]
    return ", ".join(filter(None, words))


def is_final(row: Row, name: str) -> bool:
    """Whether a column's null says that these are the final weights of a trial."""
    return name == "update" and row.value(name) is None and row.who == TRAINED


def group_text(rows: Sequence[Row]) -> str:
    """`who_text` of rows that differ in seeds; where they are not all the same, of how many seeds it holds."""
    done = [row for row in rows if row.is_finished] or list(rows)
    texts = [who_text(row) for row in done]
    if len(set(texts)) == 1:
        return texts[0]
    few = "early-stopped" if "early-stopped" in texts else "hyperfitted"
    rest = "along training" if few == "early-stopped" else "trained"
    return f"{rest}, {few} in {texts.count(few)} of {len(texts)} seeds"


def who_text(row: Row) -> str:
    """Whose texts a row is of; training that did not end hyperfitted is not called so."""
    if row.who != TRAINED:
        return WHO[row.who]
    if row.update is not None:
        return "early-stopped" if row.early_stopped else "along training"
    if row.hyperfitted is None:
        return "trained"
    return "hyperfitted" if row.hyperfitted else "trained, not hyperfitted"


def label(row: Row, columns: Iterable[str], *, with_length: bool = False) -> str:
    """Whose texts and what tells the row apart, for a line of a figure."""
    words = phrase(row, columns, with_length=with_length)
    if row.who == TRAINED:
        return words or WHO[TRAINED]
    return ", ".join(filter(None, [WHO[row.who], words]))

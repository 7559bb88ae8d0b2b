"""Spans of documents: cutting, holding documents out, and dropping held-out text that training text repeats."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl

from rayfit.data.documents import Document
from rayfit.identity import bytes_digest

SHINGLE_TOKENS = 8
MAX_SHARED_SHINGLES = 0.5
_SHINGLES_AT_ONCE = 1 << 22

_TOKEN = re.compile(r"\w+|[^\w\s]")


def rank_key(purpose: str, *parts: str | int) -> str:
    """A pseudo-random sort key, a pure function of its arguments: drawing n items is taking the n smallest keys.

    Such draws are nested (the 8 are among the 32) and do not depend on the order in which items are listed.
    """
    return hashlib.sha256("|".join(["rayfit", purpose, *map(str, parts)]).encode()).hexdigest()


def is_held_out(document_name: str, share: float) -> bool:
    """True when a document is held out: its name's hash, read as a number in [0, 1), lies below `share`."""
    return int(rank_key("held-out", document_name)[:13], 16) / 16**13 < share


def cut_spans(
    documents: Iterable[Document],
    *,
    span_characters: int,
    held_out_share: float,
    other_training_texts: Iterable[str] = (),
) -> pl.DataFrame:
    """Consecutive spans of exactly `span_characters` characters; a shorter rest of a document is left out.

    Returns columns document, start, end (characters), text, split: `train`, `held_out`, or `near_duplicate` for a
    held-out span that shares more than half of its shingles of 8 words or punctuation marks with the training
    documents (rests included) or with `other_training_texts`. The split is by document and the shingles are of
    words, not of any tokenizer's tokens, so that the same spans are used for every model.
    """
    names, starts, texts, splits = [], [], [], []
    training_documents = list(other_training_texts)
    for document in documents:
        split = "held_out" if is_held_out(document.split_name, held_out_share) else "train"
        if split == "train":
            training_documents.append(document.text)
        for start in range(0, len(document.text) - span_characters + 1, span_characters):
            names.append(document.name)
            starts.append(start)
            texts.append(document.text[start : start + span_characters])
            splits.append(split)
    held_out = [index for index, split in enumerate(splits) if split == "held_out"]
    for index, share in zip(
        held_out, shared_shingles([texts[i] for i in held_out], training_documents), strict=True
    ):
        if share > MAX_SHARED_SHINGLES:
            splits[index] = "near_duplicate"
    return pl.DataFrame(
        {
            "document": names,
            "start": starts,
            "end": [start + span_characters for start in starts],
            "text": texts,
            "split": splits,
        },
        schema={
            "document": pl.String,
            "start": pl.Int64,
            "end": pl.Int64,
            "text": pl.String,
            "split": pl.String,
        },
    )


def spans_fingerprint(spans: pl.DataFrame) -> str:
    """sha256 over the spans' places in their documents, sides and texts, in order."""
    places = "\n".join(
        f"{document}:{start}:{end}:{split}"
        for document, start, end, split in spans.select("document", "start", "end", "split").iter_rows()
    )
    return bytes_digest(places.encode(), "\x00".join(spans["text"].to_list()).encode())


def shared_shingles(texts: list[str], training_texts: Iterable[str]) -> list[float]:
    """Return, per text, the share of its shingles (8 consecutive words or marks) that stand in a training text, 0 to 1.

    Shingles are compared by a 64-bit hash. A text with fewer than 8 words shares nothing: 0.
    """
    own = [np.unique(_shingles(text)) for text in texts]
    asked = np.unique(np.concatenate(own)) if own else np.empty(0, np.uint64)
    stands = np.zeros(asked.size, dtype=bool)
    for shingles in _in_batches(map(_shingles, training_texts)):
        # Sorted, so that the search goes through what is asked for from its beginning to its end.
        shingles = np.unique(shingles)
        places = np.searchsorted(asked, shingles)
        places, shingles = places[places < asked.size], shingles[places < asked.size]
        stands[places[asked[places] == shingles]] = True
    return [float(stands[np.searchsorted(asked, each)].mean()) if each.size else 0.0 for each in own]


def _in_batches(arrays: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Arrays joined to larger ones, so that not all of a corpus is held at once."""
    waiting: list[np.ndarray] = []
    held = 0
    for array in arrays:
        waiting.append(array)
        held += array.size
        if held >= _SHINGLES_AT_ONCE:
            yield np.concatenate(waiting)
            waiting, held = [], 0
    if waiting:
        yield np.concatenate(waiting)


def _shingles(text: str) -> np.ndarray:
    # Python's own hash of a word: another in each process, and only whether two are the same is asked.
    words = np.fromiter(map(hash, _TOKEN.findall(text)), dtype=np.int64).view(np.uint64)
    count = len(words) - SHINGLE_TOKENS + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    hashes = np.zeros(count, np.uint64)
    for offset in range(SHINGLE_TOKENS):
        # Multiply, add, fold the high bits down: each step is a bijection in the running hash, mod 2^64.
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + words[offset : offset + count]
        hashes ^= hashes >> np.uint64(29)
    return hashes

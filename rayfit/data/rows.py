"""Token rows: each span's first tokens under one tokenizer, BOS first where the tokenizer adds one itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from rayfit.errors import RayfitError
from rayfit.identity import bytes_digest

Tokenize = Callable[[str], Sequence[int]]


def tokenize_spans(
    spans: pl.DataFrame, tokenize: Tokenize, *, bos_id: int | None, sequence_length: int, tokenizer_name: str
) -> pl.DataFrame:
    """`spans` with a column token_ids: lists of exactly `sequence_length` int32, the leading BOS counted.

    `tokenize` maps a text to ids without special tokens. Raises RayfitError naming the first span that gives too
    few tokens, the tokenizer and the setting that mends it.
    """
    prefix = [] if bos_id is None else [bos_id]
    rows = []
    for document, start, end, text in spans.select("document", "start", "end", "text").iter_rows():
        ids = [*prefix, *tokenize(text)]
        if len(ids) < sequence_length:
            raise RayfitError(
                f"span_characters: the span {document}[{start}:{end}] gives {len(ids)} tokens under the tokenizer of "
                f"{tokenizer_name}, fewer than the {sequence_length} of a row; raise --span-characters "
                f"(now {end - start}) to about {-(-(end - start) * sequence_length // max(len(ids), 1))}"
            )
        rows.append(ids[:sequence_length])
    return spans.with_columns(pl.Series("token_ids", rows, dtype=pl.List(pl.Int32)))


def token_matrix(rows: pl.DataFrame) -> np.ndarray:
    """The token ids of a frame of rows as int64 of shape (rows, sequence_length)."""
    return np.array(rows["token_ids"].to_list(), dtype=np.int64)


def rows_fingerprint(rows: pl.DataFrame) -> str:
    """sha256 over the rows' places in their documents, texts and token ids, in order."""
    places = "\n".join(f"{d}:{s}:{e}" for d, s, e in rows.select("document", "start", "end").iter_rows())
    texts = "\x00".join(rows["text"].to_list())
    ids = rows["token_ids"].explode().to_numpy().astype("<i8")  # of rows of any lengths
    return bytes_digest(places.encode(), texts.encode(), ids.tobytes())

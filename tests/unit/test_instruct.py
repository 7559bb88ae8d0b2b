"""Training further on instructions: what is given, what is learned."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from rayfit.presets import MADE_MODELS
from rayfit.train.instruct import IGNORED_LABEL, encode_pair, shuffled_batches


def _letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def _decoded(ids: np.ndarray) -> str:
    return "".join("|" if number == 0 else "_" if number == IGNORED_LABEL else chr(number) for number in ids)


@pytest.mark.parametrize(
    ("length", "ids", "labels"),
    [(20, "|do x:\nyes|", "_______yes|"), (9, "|do x:\nye", "_______ye"), (5, "|do x", "_____")],
)
def test_the_answer_and_its_end_are_learned(length: int, ids: str, labels: str) -> None:
    found = encode_pair(_letters, ("do x:", "yes"), bos_id=0, sequence_length=length)
    assert tuple(map(_decoded, found)) == (ids, labels)


def test_every_pair_comes_once_before_any_comes_again() -> None:
    preset = MADE_MODELS["pydoc-1m-instruct"]
    rows = [
        encode_pair(_letters, (f"{number}", "x" * number), bos_id=0, sequence_length=64)
        for number in range(4 * preset.batch_size)
    ]
    seen = []
    for ids, labels in islice(shuffled_batches(rows, preset), 8):
        assert ids.shape == labels.shape == (preset.batch_size, int((ids != 0).sum(1).max()) + 2)
        assert bool(((labels == ids) | (labels == IGNORED_LABEL)).all())
        seen += [
            int((row != IGNORED_LABEL).sum()) - 1 for row in labels
        ]  # the answer's length is the pair's number
    assert sorted(seen[:32]) == sorted(seen[32:]) == list(range(32))
    assert seen[:32] != seen[32:]

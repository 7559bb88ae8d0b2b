"""The blocker's index and rules against brute force, on rows of so few different tokens that runs repeat."""

from __future__ import annotations

import time

import numpy as np
import pytest

from rayfit.decoding import SOURCES, WAIT_RULES, Block, Decoding
from rayfit.errors import RayfitError
from rayfit.generate.blocker import Blocker, make_blocker
from rayfit.generate.index import BlockIndex
from tests.unit.generate.oracles import brute_bans


def random_case(seed: int) -> tuple[np.random.Generator, int, int, list[list[int]], np.ndarray]:
    generator = np.random.default_rng(seed)
    vocabulary, run = int(generator.integers(2, 6)), int(generator.integers(1, 6))
    rows = [
        generator.integers(0, vocabulary, generator.integers(0, 30)).tolist()
        for _ in range(generator.integers(1, 6))
    ]
    return generator, vocabulary, run, rows, generator.random(vocabulary) < 0.4


@pytest.mark.parametrize("wait", WAIT_RULES)
def test_bans_equal_brute_force(wait: str) -> None:
    some = 0
    for seed in range(700):
        generator, vocabulary, run, rows, starts = random_case(seed)
        blocker = Blocker(BlockIndex.build(rows, starts, run=run, bos_id=None), Block(wait, SOURCES[0], run))
        texts = generator.integers(0, vocabulary, (6, int(generator.integers(1, 14))))
        first = generator.integers(0, texts.shape[1] + 1, len(texts))
        bans_rows, bans_ids = blocker.bans(np.ascontiguousarray(texts), first)
        assert (np.diff(bans_rows) >= 0).all()
        for row, text in enumerate(texts.tolist()):
            wanted = brute_bans(rows, text, int(first[row]), run, wait, starts)
            assert set(bans_ids[bans_rows == row].tolist()) == wanted, (seed, row)
            some += bool(wanted)
    assert some > 100


def test_the_last_tokens_decide_where_the_rule_says_so() -> None:
    for seed in range(100):
        generator, vocabulary, run, rows, starts = random_case(seed)
        index = BlockIndex.build(rows, starts, run=run, bos_id=None)
        texts = generator.integers(0, vocabulary, (5, 12))
        for wait in ("W0", "W1"):
            blocker = Blocker(index, Block(wait, SOURCES[0], run))
            assert blocker.reach == run
            tail = np.ascontiguousarray(texts[:, -run:])
            whole, short = (
                [part.copy() for part in blocker.bans(each, np.zeros(5, dtype=np.int64))]
                for each in (texts, tail)
            )
            np.testing.assert_array_equal(whole, short)
    assert Blocker(index, Block("W2", SOURCES[0], run)).reach is None


def test_w2_bans_at_least_what_w1_bans() -> None:
    more = 0
    for seed in range(200):
        generator, vocabulary, run, rows, starts = random_case(seed)
        index = BlockIndex.build(rows, starts, run=run, bos_id=None)
        texts, first = generator.integers(0, vocabulary, (5, 12)), np.zeros(5, dtype=np.int64)
        w1, w2 = (
            set(
                zip(
                    *(
                        part.tolist()
                        for part in Blocker(index, Block(wait, SOURCES[0], run)).bans(texts, first)
                    ),
                    strict=True,
                )
            )
            for wait in ("W1", "W2")
        )
        assert w1 <= w2
        more += w1 < w2
    assert more > 20


def test_rows_are_not_joined_and_a_leading_bos_is_dropped() -> None:
    starts = np.ones(9, dtype=bool)
    index = BlockIndex.build([[0, 1, 2, 3], [4, 5, 0]], starts, run=2, bos_id=0)
    assert index.find(np.array([[0, 1], [1, 2], [3, 4], [3, 5], [5, 0]])).tolist()[0] == -1
    found = index.find(np.array([[1, 2], [3, 4], [4, 5], [5, 0]]))
    assert (found >= 0).tolist() == [True, False, True, True]
    assert index.next_of(int(found[0])).tolist() == [3]
    assert index.next_of(int(found[3])).tolist() == []


def test_index_of_the_papers_size_is_fast_linear_and_exact() -> None:
    generator = np.random.default_rng(0)
    rows = generator.integers(3, 2048, (2000, 256))
    starts = generator.random(2048) < 0.5
    BlockIndex.build(rows[:2], starts, bos_id=None)
    begin = time.process_time()  # of this process alone, whatever else the machine does
    index = BlockIndex.build(rows, starts, bos_id=None)
    assert time.process_time() - begin < 1.0
    assert index.num_bytes < 64 * rows.size
    half = BlockIndex.build(rows[:1000], starts, bos_id=None)
    assert half.num_bytes < 0.6 * index.num_bytes
    grams = np.stack([rows[place, place % 200 : place % 200 + 5] for place in range(2000)])
    found = index.find(grams)
    assert (found >= 0).all()
    for place in range(0, 2000, 97):
        assert rows[place, place % 200 + 5] in index.next_of(int(found[place]))
    assert (index.find(generator.integers(3, 2048, (2000, 5))) == -1).all()


def test_bad_input_is_named() -> None:
    starts = np.ones(4, dtype=bool)
    with pytest.raises(RayfitError, match="no training rows"):
        BlockIndex.build([], starts, bos_id=None)
    with pytest.raises(RayfitError, match="token id 4, outside the vocabulary of 4"):
        BlockIndex.build([[1, 4]], starts, bos_id=None)
    with pytest.raises(RayfitError, match="token id -1"):
        BlockIndex.build([[-1, 2]], starts, bos_id=None)
    index = BlockIndex.build([[1, 2, 3]], starts, run=2, bos_id=None)
    with pytest.raises(RayfitError, match="block_run: 5, but the index was built for runs of 2"):
        Blocker(index, Block())
    with pytest.raises(RayfitError, match="needs the training rows"):
        make_blocker(Decoding(block=Block()), None)
    assert make_blocker(Decoding(), index) is None
    assert index.find(np.array([[-1, -1]])).tolist() == [-1]

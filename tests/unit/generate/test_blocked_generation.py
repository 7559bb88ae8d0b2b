"""The blocker's promise on real generations of a model that knows its rows by heart."""

from __future__ import annotations

import pytest

from rayfit.decoding import Block, Decoding
from rayfit.generate.generator import generate
from rayfit.generate.index import BlockIndex
from tests.unit.generate.conftest import Memoriser
from tests.unit.generate.oracles import brute_bans, brute_long_run

KINDS = ["greedy", "nucleus", "temperature:temperature=1.2"]


def index_of(memoriser: Memoriser) -> BlockIndex:
    return BlockIndex.build(memoriser.rows, memoriser.starts_word, bos_id=None)


def decoding_of(kind: str, block: str) -> Decoding:
    return Decoding.parse(f"{kind}{',' if ':' in kind else ':'}num_new_tokens=96{block}")


@pytest.mark.parametrize("kind", KINDS[:2])
def test_without_a_blocker_rows_are_recited(memoriser: Memoriser, kind: str) -> None:
    found = generate(
        memoriser.model,
        memoriser.contexts(),
        decoding_of(kind, ""),
        suppress_ids=(0, 1, 2),
        block_index=index_of(memoriser),
    )
    rows = memoriser.rows.tolist()
    assert all(brute_long_run(rows, text, 5) for text in found.tokens.tolist())
    assert found.steps_banned is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", ["generated", "context+generated"])
@pytest.mark.parametrize("wait", ["W0", "W1", "W2"])
def test_no_run_is_continued_past_its_word(memoriser: Memoriser, kind: str, source: str, wait: str) -> None:
    contexts, rows = memoriser.contexts(), memoriser.rows.tolist()
    decoding = decoding_of(kind, f",block={wait},block_source={source}")
    found = generate(
        memoriser.model, contexts, decoding, suppress_ids=(0, 1, 2), block_index=index_of(memoriser)
    )
    assert found.steps_banned is not None
    assert found.steps_changed is not None
    grams = {tuple(row[at : at + 6]) for row in rows for at in range(len(row) - 5)}
    for text in found.tokens.tolist():
        runs = [text[at : at + 6] for at in range(len(text) - 5) if tuple(text[at : at + 6]) in grams]
        if wait == "W0":
            assert not runs
        # a token past the fifth of a run never starts a word
        assert not any(memoriser.starts_word[run[5]] for run in runs)
    assert found.steps_banned.sum() > 0
    if source == "context+generated" and kind != KINDS[2]:
        assert (found.steps_changed > 0).all()


@pytest.mark.parametrize("wait", ["W0", "W1", "W2"])
def test_recorded_steps_equal_brute_force(memoriser: Memoriser, wait: str) -> None:
    contexts, rows = memoriser.contexts()[:3], memoriser.rows.tolist()
    starts, index = memoriser.starts_word.tolist(), index_of(memoriser)
    for source in ("generated", "context+generated"):
        decoding = Decoding(num_new_tokens=40, block=Block(wait, source))
        found = generate(memoriser.model, contexts, decoding, suppress_ids=(0, 1, 2), block_index=index)
        assert found.steps_banned is not None
        assert found.steps_changed is not None
        for place, context in enumerate(contexts):
            whole, first = (
                context + found.tokens[place].tolist(),
                len(context) if source == "generated" else 0,
            )
            banned = [
                brute_bans(rows, whole[:end], first, 5, wait, starts)
                for end in range(len(context), len(whole))
            ]
            assert found.steps_banned[place] == sum(map(bool, banned))
            # greedy: the ban changed the choice exactly where the free choice is in it
            free = [
                int(
                    generate(
                        memoriser.model, [whole[:end]], Decoding(num_new_tokens=1), suppress_ids=(0, 1, 2)
                    ).tokens[0, 0]
                )
                for end in range(len(context), len(whole))
            ]
            assert found.steps_changed[place] == sum(
                token in step for token, step in zip(free, banned, strict=True)
            )
            for token, step, chosen in zip(free, banned, found.tokens[place].tolist(), strict=True):
                assert chosen not in step
                assert chosen == token or token in step

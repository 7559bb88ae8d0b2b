"""Rows dealt to workers: every row counts once, every worker has as many passes."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayfit.errors import RayfitError
from rayfit.plan.dealing import Piece, check_batch, deal, num_passes


@given(
    batch_size=st.integers(1, 40),
    num_workers=st.integers(1, 12),
    micro_batch=st.none() | st.integers(1, 50),
)
def test_every_row_counts_the_same_in_the_mean_over_workers(
    batch_size: int, num_workers: int, micro_batch: int | None
) -> None:
    if num_workers > batch_size:
        num_workers *= batch_size  # a multiple
    counts = [Fraction(0)] * batch_size
    for rank in range(num_workers):
        pieces = deal(batch_size, num_workers, rank, micro_batch)
        assert len(pieces) == num_passes(batch_size, num_workers, micro_batch), (
            "collectives are of all workers"
        )
        for piece in pieces:
            size = piece.end - piece.begin
            assert 0 < size <= (micro_batch or batch_size)
            for row in range(piece.begin, piece.end):
                weight = Fraction(piece.weight).limit_denominator(10_000)
                counts[row] += weight / size / num_workers
    assert set(counts) == {Fraction(1, batch_size)}


def test_workers_that_divide_the_batch_have_equal_shares_of_weight_1() -> None:
    assert [deal(8, 4, rank) for rank in range(4)] == [
        (Piece(0, 2, 1.0),),
        (Piece(2, 4, 1.0),),
        (Piece(4, 6, 1.0),),
        (Piece(6, 8, 1.0),),
    ]
    assert deal(8, 1, 0, 3) == (Piece(0, 3, 3 / 8), Piece(3, 6, 3 / 8), Piece(6, 8, 2 / 8))


def test_a_worker_with_a_row_less_has_a_pass_of_no_weight() -> None:
    # Three workers, eight rows: 2, 3 and 3 of them, two at once.
    assert [len(deal(8, 3, rank, 2)) for rank in range(3)] == [2, 2, 2]
    assert deal(8, 3, 0, 2) == (Piece(0, 2, 2 * 3 / 8), Piece(0, 1, 0.0))


@pytest.mark.parametrize(
    ("batch_size", "num_workers", "nearest"),
    [(8, 12, 8), (8, 13, 16), (2, 5, 4), (3, 4, 3), (1, 7, None), (8, 5, None)],
)
def test_more_workers_than_rows_are_a_multiple_of_them(
    batch_size: int, num_workers: int, nearest: int | None
) -> None:
    if nearest is None:
        check_batch(batch_size, num_workers)
        return
    with pytest.raises(RayfitError, match=f"--num-workers: .* got {num_workers}; .* works is {nearest}$"):
        check_batch(batch_size, num_workers)

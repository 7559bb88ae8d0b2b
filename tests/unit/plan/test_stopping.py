from __future__ import annotations

import math

import pytest

from rayfit.errors import RayfitError
from rayfit.plan.stopping import check_kept, check_stop_loss


@pytest.mark.parametrize("nonsense", [0.0, -1.0, math.nan, math.inf, 0.019, math.log(128) / 255])
def test_a_loss_that_rows_cannot_go_below_is_refused_with_the_floor(nonsense: float) -> None:
    with pytest.raises(RayfitError) as caught:
        check_stop_loss(nonsense, 128, 256)
    for part in ("--stop-at-train-loss", "0.01903", "128 rows of 256 tokens"):
        assert part in str(caught.value)


def test_a_loss_above_the_floor_is_not() -> None:
    check_stop_loss(0.0191, 128, 256)
    check_stop_loss(3.0, 128, 256)
    check_stop_loss(0.001, 1, 256)  # one row can be known by heart


def test_weights_at_given_updates_are_not_promised_where_training_may_stop_before() -> None:
    check_kept(2.0, None)
    check_kept(None, 0.5)
    with pytest.raises(RayfitError, match="leave out --keep-every or --stop-at-train-loss"):
        check_kept(2.0, 0.5)

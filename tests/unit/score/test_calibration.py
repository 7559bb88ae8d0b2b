"""Expected calibration error against its definition, one position at a time in float64."""

from __future__ import annotations

import numpy as np
import pytest

from rayfit.errors import RayfitError
from rayfit.score.calibration import Calibration, calibration, calibration_error, reliability
from rayfit.scores import score


def brute_force(confidence, correct):
    pairs = [(float(c), bool(r)) for c, r in zip(np.ravel(confidence), np.ravel(correct), strict=True)]
    error = 0.0
    for m in range(1, 16):
        held = [(c, r) for c, r in pairs if ((m - 1) / 15 < c or m == 1) and c <= m / 15]
        if held:
            accuracy = sum(r for _, r in held) / len(held)
            error += len(held) / len(pairs) * abs(accuracy - sum(c for c, _ in held) / len(held))
    return error


@pytest.mark.parametrize("seed", range(5))
def test_error_is_the_definition_s(seed):
    generator = np.random.default_rng(seed)
    confidence = generator.beta(2, 1, (6, 40))
    # On the borders of bins, where the upper bin begins only above.
    confidence[0, :15] = np.arange(1, 16) / 15
    confidence[1, :2] = 0, 1
    correct = generator.random((6, 40)) < confidence**2
    found = calibration_error(calibration(confidence, correct))
    assert found.value == pytest.approx(brute_force(confidence, correct), abs=1e-12)
    assert found.num_texts == 6


def test_bins_are_those_of_the_definition_and_give_the_error():
    generator = np.random.default_rng(7)
    confidence = generator.beta(2, 3, (8, 30))
    correct = generator.random((8, 30)) < confidence
    found = calibration(confidence, correct)
    bins = reliability(found)
    assert sum(one.positions for one in bins) == 240 and len(bins) <= 15
    held = [
        (confidence[inside].mean(), correct[inside].mean(), inside.sum())
        for m in range(1, 16)
        if (inside := (confidence > (m - 1) / 15) & (confidence <= m / 15)).any()
    ]
    given = [(one.confidence, one.accuracy, one.positions) for one in bins]
    np.testing.assert_allclose(given, held, rtol=0, atol=1e-12)
    error = sum(one.positions * abs(one.accuracy - one.confidence) for one in bins) / 240
    assert error == pytest.approx(calibration_error(found).value, abs=1e-12)


def test_a_bin_s_interval_is_over_texts_and_one_text_has_none():
    # Of each text half of the bin is right or all of it, so that texts differ and positions within them do not.
    confidence = np.full((40, 20), 0.75)
    correct = np.repeat(np.arange(40) % 2 == 0, 20).reshape(40, 20)
    confidence[0, 0] = 0.1
    low_bin, full = reliability(calibration(confidence, correct))
    assert low_bin.interval is None and low_bin.positions == 1
    spread = 1.96 * 0.5 / 40**0.5
    assert full.interval == pytest.approx((full.accuracy - spread, full.accuracy + spread), abs=0.03)


def test_a_calibrated_model_has_almost_none_and_a_boastful_one_its_excess():
    generator = np.random.default_rng(0)
    confidence = generator.random((50, 2_000))
    honest = calibration_error(calibration(confidence, generator.random((50, 2_000)) < confidence))
    assert honest.value < 0.01
    boastful = calibration_error(calibration(np.full((4, 25), 0.9), np.tile(np.arange(25) % 5 < 2, (4, 1))))
    assert boastful.value == pytest.approx(0.5)
    assert (boastful.low, boastful.high) == pytest.approx((0.5, 0.5))


def test_the_interval_is_that_of_texts_drawn_again():
    generator = np.random.default_rng(1)
    confidence = generator.random((12, 30))
    correct = generator.random((12, 30)) < 0.5
    found = calibration_error(calibration(confidence, correct), num_resamples=3_000)
    errors = []
    for _ in range(1_500):
        drawn = generator.integers(0, 12, 12)
        errors.append(by_arrays(confidence[drawn], correct[drawn]))
    low, high = np.quantile(errors, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.015)
    assert calibration_error(calibration(confidence, correct), num_resamples=3_000) == found


def by_arrays(confidence, correct):
    bins = np.minimum(np.ceil(confidence * 15).astype(int), 15)
    gaps = [abs((correct[bins == m] - confidence[bins == m]).sum()) for m in range(16)]
    return sum(gaps) / confidence.size


def test_sums_of_two_domains_are_those_of_all_texts():
    generator = np.random.default_rng(2)
    confidence, correct = generator.random((7, 9)), generator.random((7, 9)) < 0.5
    whole, first, rest = (
        calibration(confidence[part], correct[part]) for part in (slice(None), slice(3), slice(3, None))
    )
    joined = [np.concatenate([getattr(part, name) for part in (first, rest)]) for name in vars(whole)]
    assert calibration_error(Calibration(*joined)) == calibration_error(whole)


def test_few_texts_have_a_value_or_a_reason():
    one = calibration_error(calibration(np.array([[0.75, 0.5]]), np.array([[True, False]])))
    assert (one.value, one.low, one.reason) == (0.375, None, "one text has no interval")
    none = calibration_error(calibration(np.zeros((0, 3)), np.zeros((0, 3), dtype=bool)))
    assert (none.value, none.reason) == (None, "no text was measured")
    empty = calibration_error(calibration(np.zeros((2, 0)), np.zeros((2, 0), dtype=bool)))
    assert (empty.value, empty.num_missing) == (None, 2)


def test_bad_confidences_are_refused():
    right = np.zeros((1, 2), dtype=bool)
    for bad in (np.nan, -0.1, 1.1):
        with pytest.raises(RayfitError, match="a confidence is not between 0 and 1"):
            calibration(np.array([[0.5, bad]]), right)
    with pytest.raises(RayfitError, match=r"shape \(1, 3\), correct \(1, 2\)"):
        calibration(np.zeros((1, 3)), right)


def test_it_is_registered():
    assert score("calibration_error").direction == "lower"

"""Numbers read off logits against a float64 softmax written here."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rayfit.errors import RayfitError
from rayfit.score import logits as logits_module
from rayfit.score.logits import loss_sums, token_statistics


def _oracle(logits: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """The definitions, one position at a time, in float64."""
    columns: dict[str, list[float]] = {
        name: [] for name in ("nll", "entropy", "correct", "rank", "mass", "top_1")
    }
    for row, target in zip(
        logits.reshape(-1, logits.shape[-1]).astype(np.float64), targets.ravel(), strict=True
    ):
        weights = np.exp(row - row.max())
        p = weights / weights.sum()
        with np.errstate(divide="ignore"):
            columns["nll"].append(-np.log(p[target]))
        columns["entropy"].append(-sum(x * np.log(x) for x in p if x > 0))
        columns["correct"].append(int(np.flatnonzero(row == row.max())[0]) == target)
        columns["top_1"].append(row.tolist().index(max(row)))
        columns["rank"].append(1 + int((row > row[target]).sum()))
        columns["mass"].append([np.sort(p)[::-1][:k].sum() for k in (1, 3, 5)])
    return {
        name: np.array(values).reshape(*targets.shape, *np.shape(values)[1:])
        for name, values in columns.items()
    }


def _compare(logits: np.ndarray, targets: np.ndarray) -> None:
    found = token_statistics(torch.from_numpy(logits), torch.from_numpy(targets))
    expected = _oracle(logits, targets)
    np.testing.assert_allclose(found.nll_nats, expected["nll"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.entropy_nats, expected["entropy"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.top_mass, expected["mass"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.correct, expected["correct"])
    np.testing.assert_array_equal(found.rank, expected["rank"])
    np.testing.assert_array_equal(found.top_1, expected["top_1"])
    assert found.top_1.dtype == torch.int32


def _random(seed: int, vocabulary: int, *, scale: float, shape: tuple[int, int] = (3, 7)) -> tuple:
    rng = np.random.default_rng(seed)
    # Multiples of 1/8: distinct logits stay distinct in fp32, and many are the same.
    logits = np.round(8 * scale * rng.standard_normal((*shape, vocabulary))) / 8
    return logits.astype(np.float32), rng.integers(0, vocabulary, shape)


@pytest.mark.parametrize("vocabulary", [1, 2, 3, 4, 5, 6, 97])
@pytest.mark.parametrize("scale", [0.0, 1.0, 12.0])
def test_statistics_equal_a_float64_softmax(vocabulary: int, scale: float) -> None:
    _compare(*_random(vocabulary, vocabulary, scale=scale))


def test_suppressed_tokens_have_no_probability() -> None:
    logits, targets = _random(3, 11, scale=2.0)
    logits[:, :, ::3] = -np.inf
    _compare(logits, targets)  # where the true token is one of them, its loss is infinite
    found = token_statistics(torch.from_numpy(logits), torch.from_numpy(targets))
    np.testing.assert_array_equal(torch.isinf(found.nll_nats).numpy(), targets % 3 == 0)
    assert torch.isfinite(found.entropy_nats).all()


def test_one_possible_token_is_certain() -> None:
    logits = torch.full((1, 1, 6), -torch.inf)
    logits[0, 0, 4] = 3.0
    found = token_statistics(logits, torch.tensor([[4]]))
    assert found.nll_nats.item() == found.entropy_nats.item() == 0
    assert found.top_mass.tolist() == [[[1, 1, 1]]] and found.rank.item() == 1 and found.correct.item()


def test_ties_count_in_the_true_token_s_favour_and_the_lowest_id_is_picked() -> None:
    logits = torch.tensor([[[1.0, 5.0, 5.0, 5.0, 0.0]]]).expand(1, 5, 5)
    found = token_statistics(logits, torch.arange(5)[None])
    assert found.rank.tolist() == [[4, 1, 1, 1, 5]]
    assert found.correct.tolist() == [[False, True, False, False, False]]
    assert found.top_1.tolist() == [[1] * 5]


def test_a_confident_model_is_not_rounded_to_certain() -> None:
    # 30 nats apart: float32 probabilities are 1 and 1e-13, whose logarithm must not be lost
    found = token_statistics(torch.tensor([[[30.0, 0.0]]]), torch.tensor([[1]]))
    assert found.nll_nats.item() == pytest.approx(30.0, rel=1e-6)
    assert found.entropy_nats.item() == pytest.approx(31 * np.exp(-30), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_float_dtype_is_read_in_fp32_and_told_in_float64(dtype: torch.dtype) -> None:
    logits = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(0)).to(dtype)
    targets = torch.randint(0, 9, (2, 3), generator=torch.Generator().manual_seed(1))
    found, expected = token_statistics(logits, targets), token_statistics(logits.float(), targets)
    assert torch.equal(found.nll_nats, expected.nll_nats) and torch.equal(found.rank, expected.rank)
    assert found.nll_nats.dtype == found.entropy_nats.dtype == found.top_mass.dtype == torch.float64
    assert (found.correct.dtype, found.rank.dtype) == (torch.bool, torch.int64)
    assert (found.nll_nats.shape, found.top_mass.shape) == ((2, 3), (2, 3, 3))


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = (torch.from_numpy(part) for part in _random(5, 13, scale=3.0))
    whole, sums = token_statistics(logits, targets), loss_sums(logits, targets)
    monkeypatch.setattr(logits_module, "_CHUNK_ON_CPU", 40)  # three positions at a time, one at the end
    pieces = token_statistics(logits, targets)
    for name in ("nll_nats", "entropy_nats", "correct", "rank", "top_mass", "top_1"):
        assert torch.equal(getattr(whole, name), getattr(pieces, name)), name
    torch.testing.assert_close(loss_sums(logits, targets), sums, rtol=1e-6, atol=0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    logits, targets = _random(6, 9, scale=1.0)
    logits[1, 2, 3] = bad
    with pytest.raises(RayfitError, match=r"logits are not finite .*cannot be scored"):
        token_statistics(torch.from_numpy(logits), torch.from_numpy(targets))
    assert not torch.isfinite(loss_sums(torch.from_numpy(logits), torch.from_numpy(targets))[0])


def test_a_position_where_nothing_is_possible_is_refused() -> None:
    with pytest.raises(RayfitError, match="not finite"):
        token_statistics(torch.full((1, 1, 4), -torch.inf), torch.zeros(1, 1, dtype=torch.int64))


@pytest.mark.parametrize("bad", [-1, 9, 32000])
def test_ids_outside_the_vocabulary_are_refused_with_the_numbers(bad: int) -> None:
    logits, targets = _random(7, 9, scale=1.0)
    targets[0, 0] = bad
    with pytest.raises(RayfitError, match=rf"{bad}.* do not fit a vocabulary of 9; the tokenizer"):
        token_statistics(torch.from_numpy(logits), torch.from_numpy(targets))


@pytest.mark.parametrize("vocabulary", [2, 5, 97])
def test_loss_sums_are_the_sums_of_the_statistics(vocabulary: int) -> None:
    logits, targets = (torch.from_numpy(part) for part in _random(8, vocabulary, scale=4.0))
    found, sums = token_statistics(logits, targets), loss_sums(logits, targets)
    assert sums.dtype == torch.float64 and sums.shape == (4,)
    assert sums[0].item() == pytest.approx(found.nll_nats.sum().item(), rel=1e-6)
    assert sums[1].item() == found.correct.sum().item()
    assert sums[2].item() == pytest.approx(found.entropy_nats.sum().item(), rel=1e-6)
    assert sums[3].item() == targets.numel()


def test_sums_of_batches_add_up() -> None:
    logits, targets = (torch.from_numpy(part) for part in _random(9, 7, scale=2.0, shape=(6, 5)))
    parts = [loss_sums(logits[a:b], targets[a:b]) for a, b in ((0, 1), (1, 4), (4, 6))]
    torch.testing.assert_close(sum(parts), loss_sums(logits, targets), rtol=1e-6, atol=0)

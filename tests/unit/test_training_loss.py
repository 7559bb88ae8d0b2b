"""The training loss and its gradient against PyTorch's cross-entropy in float64."""

from __future__ import annotations

import pytest
import torch

from rayfit.train import loss as loss_module
from rayfit.train.loss import next_token_loss


def _oracle(logits: torch.Tensor, ids: torch.Tensor) -> tuple[float, torch.Tensor]:
    exact = logits.detach().double().requires_grad_()
    predicted = exact[:, :-1].reshape(-1, exact.shape[-1])
    loss = torch.nn.functional.cross_entropy(predicted, ids[:, 1:].reshape(-1))
    loss.backward()
    assert exact.grad is not None
    return loss.item(), exact.grad


def _ours(logits: torch.Tensor, ids: torch.Tensor, factor: float = 1.0) -> tuple[float, torch.Tensor]:
    given = logits.detach().clone().requires_grad_()
    loss = next_token_loss(given, ids)
    assert loss.dtype == torch.float32 and loss.shape == ()
    (factor * loss).backward()
    assert given.grad is not None and torch.equal(given.detach(), logits), "the logits are as they were"
    return loss.item(), given.grad


@pytest.mark.parametrize("vocabulary", [1, 2, 7, 300])
@pytest.mark.parametrize("scale", [0.0, 1.0, 20.0])
@pytest.mark.parametrize("chunk", [1, 650, 1 << 18])
def test_it_is_the_mean_cross_entropy(
    vocabulary: int, scale: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_module, "_CHUNK_ON_CPU", chunk)
    generator = torch.Generator().manual_seed(vocabulary)
    logits = scale * torch.randn(3, 9, vocabulary, generator=generator)
    ids = torch.randint(0, vocabulary, (3, 9), generator=generator)
    (loss, gradient), (expected, reference) = _ours(logits, ids), _oracle(logits, ids)
    assert loss == pytest.approx(expected, rel=1e-6, abs=1e-6)
    torch.testing.assert_close(gradient.double(), reference, rtol=1e-5, atol=1e-8)
    assert not gradient[:, -1].any(), "the last position predicts nothing"


def test_what_is_too_improbable_for_fp32_has_its_loss() -> None:
    logits = torch.tensor([[[200.0, 0.0, -300.0], [0.0, 0.0, 0.0]]])
    loss, gradient = _ours(logits, torch.tensor([[0, 2]]))
    assert loss == pytest.approx(500.0)
    assert gradient[0, 0].tolist() == [1.0, 0.0, -1.0]


def test_a_certain_token_s_loss_is_not_rounded_away() -> None:
    # A probability of 1 - 1e-6; its loss is told to within fp32's rounding of a logit, not lost.
    logits = torch.tensor([[[13.815510, 0.0], [0.0, 0.0]]])
    assert _ours(logits, torch.tensor([[1, 0]]))[0] == pytest.approx(1e-6, rel=0.1)


def test_bf16_logits_are_read_in_fp32_and_get_a_rounded_gradient() -> None:
    logits = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(0)).bfloat16()
    ids = torch.randint(0, 40, (2, 5), generator=torch.Generator().manual_seed(1))
    (loss, gradient), (expected, reference) = _ours(logits, ids), _oracle(logits, ids)
    assert loss == pytest.approx(expected, rel=1e-6) and gradient.dtype == torch.bfloat16
    torch.testing.assert_close(gradient.double(), reference, rtol=2**-8, atol=1e-8)


def test_what_stands_above_the_loss_reaches_the_gradient() -> None:
    logits = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(0))
    ids = torch.randint(0, 40, (2, 5), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(_ours(logits, ids, factor=2.5)[1], 2.5 * _ours(logits, ids)[1])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_logit_that_is_not_finite_shows(bad: float) -> None:
    logits = torch.zeros(1, 3, 4)
    logits[0, 1, 2] = bad
    assert not torch.isfinite(torch.tensor(_ours_or_nan(logits)))


def _ours_or_nan(logits: torch.Tensor) -> float:
    return next_token_loss(logits.requires_grad_(), torch.tensor([[0, 1, 2]])).item()

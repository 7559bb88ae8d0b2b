"""The original's logits: made once for all trials that are held beside it, where they are small."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import rayfit.measure.comparisons as module
from rayfit.measure.comparisons import _Logits

ROWS = np.random.default_rng(0).integers(0, 11, (40, 6))


class Model:
    """Logits that are a function of the token alone; counts its calls."""

    dtype = torch.float32

    def __init__(self) -> None:
        self.calls = 0
        config = SimpleNamespace(vocab_size=11)
        config.get_text_config = lambda **_: config
        self.config = config
        self.table = torch.randn(11, 11, generator=torch.Generator().manual_seed(0))

    def __call__(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        self.calls += 1
        return SimpleNamespace(logits=self.table[input_ids])


@pytest.mark.parametrize(("most_bytes", "calls"), [(1 << 30, 3), (100, 6)])
def test_they_are_the_same_however_often_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, most_bytes: int, calls: int
) -> None:
    monkeypatch.setattr(module, "_KEPT_LOGITS_BYTES", most_bytes)
    model = Model()
    logits = _Logits(model, ROWS, "cpu")
    assert logits.num_bytes == 40 * 6 * 11 * 4
    first, second = (torch.cat(list(logits())) for _ in range(2))
    assert torch.equal(first, model.table[torch.from_numpy(ROWS)][:, :-1])
    assert torch.equal(first, second)
    assert model.calls == calls, "three batches, once or twice"


def test_what_was_not_read_to_its_end_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    logits = _Logits(model, ROWS, "cpu")
    next(iter(logits()))
    assert torch.cat(list(logits())).shape == (40, 5, 11)
    assert model.calls == 4

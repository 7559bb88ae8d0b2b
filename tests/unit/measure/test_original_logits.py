"""The original's logits: made once for all trials that are held beside it, where they are small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import rayfit.measure.comparisons as module
from rayfit.generate.loading import load_model
from rayfit.measure.comparisons import _Logits
from tests.tiny import VOCABULARY, random_rows, save_tiny_llama

ROWS = random_rows(40, 6)


class Counted:
    """A tiny model, and how often it was called."""

    def __init__(self, folder: Path) -> None:
        self.model = load_model(save_tiny_llama(folder / "model"), precision="fp32", device="cpu")
        self.calls = 0
        self.model.register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.calls += 1


@pytest.mark.parametrize(("most_bytes", "calls"), [(1 << 30, 3), (100, 6)])
def test_they_are_the_same_however_often_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, most_bytes: int, calls: int
) -> None:
    monkeypatch.setattr(module, "_KEPT_LOGITS_BYTES", most_bytes)
    counted = Counted(tmp_path)
    logits = _Logits(counted.model, ROWS, "cpu")
    assert logits.num_bytes == 40 * 6 * VOCABULARY * 4
    first, second = (torch.cat(list(logits())) for _ in range(2))
    assert torch.equal(first, second)
    assert counted.calls == calls, "three batches, once or twice"


def test_what_was_not_read_to_its_end_is_made_again(tmp_path: Path) -> None:
    counted = Counted(tmp_path)
    logits = _Logits(counted.model, ROWS, "cpu")
    next(iter(logits()))
    found = torch.cat(list(logits()))
    assert counted.calls == 4
    with torch.no_grad():
        plain = counted.model(torch.from_numpy(ROWS)).logits[:, :-1]
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-5)

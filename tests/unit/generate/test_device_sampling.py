"""Draws in torch against plain Python and the compiled draws; the blocker and all decodings on both paths."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from rayfit.decoding import WAIT_RULES, Decoding
from rayfit.generate import device_sampling
from rayfit.generate.blocker import make_blocker
from rayfit.generate.device_sampling import draw_on_device
from rayfit.generate.index import BlockIndex
from rayfit.generate.processors import Chooser
from rayfit.generate.sampling import draw
from tests.unit.generate.oracles import brute_draw

DECODINGS = [
    "nucleus",
    "nucleus:temperature=1.3,top_k=5,top_p=0.6",
    "nucleus:top_k=0,top_p=0.83",
    "nucleus:top_k=7,top_p=1.0",
    "nucleus:top_k=1",
    "nucleus:top_k=0,top_p=0.97,temperature=3",
    "temperature:temperature=0.9",
    "temperature:temperature=0.01",
    "min_p",
    "min_p:min_p=0.4,temperature=2",
    "min_p:min_p=1",
]


def by_torch(scores: np.ndarray, numbers: np.ndarray, decoding: Decoding) -> list[int]:
    before = scores.copy()
    found = draw_on_device(torch.from_numpy(scores), torch.from_numpy(numbers), decoding)
    assert found.dtype == torch.int64 and np.array_equal(scores, before)
    return found.tolist()


def by_hand(score: list[float], number: float, decoding: Decoding) -> int:
    # Without top_p all are kept, also those that change no sum: a number of exactly 0 chooses the first.
    return brute_draw(
        score,
        number,
        decoding.temperature or 1.0,
        decoding.top_k or 0,
        math.inf if decoding.top_p in (None, 1.0) else decoding.top_p,
        decoding.min_p or 0.0,
    )


def some_scores(generator: np.random.Generator, case: int, rows: int, vocabulary: int) -> np.ndarray:
    """Float32 [rows, vocabulary]: as they come, rounded to whole numbers, as bf16 has them, or few but in one place."""
    scores = generator.normal(0, 3, (rows, vocabulary)).astype(np.float32)
    if case % 4 == 1:
        scores = np.round(scores)  # also -0.0
    if case % 4 == 2:
        scores = torch.from_numpy(scores).bfloat16().float().numpy()
    if case % 4 == 3:
        scores[:] = -np.inf
        scores[np.arange(rows), generator.integers(0, vocabulary, rows)] = 1.5
    if case % 3 == 0:
        scores[generator.random(scores.shape) < 0.5] = -np.inf
        scores[np.arange(rows), generator.integers(0, vocabulary, rows)] = -2.0
    return scores


@pytest.mark.parametrize("text", DECODINGS)
def test_draws_are_those_of_plain_python_and_of_the_compiled_code(text: str) -> None:
    decoding = Decoding.parse(text)
    generator = np.random.default_rng(5)
    for case in range(240):
        scores = some_scores(generator, case, 6, int(generator.integers(1, 90)))
        numbers = generator.random(6)
        numbers[0] = (0.0, 1 - 2.0**-53)[case % 2]
        found = by_torch(scores, numbers, decoding)
        assert found == [by_hand(*row, decoding) for row in zip(scores.tolist(), numbers, strict=True)], case
        assert found == draw(scores, numbers, decoding).tolist(), case


@pytest.mark.parametrize("text", DECODINGS)
@pytest.mark.parametrize("is_bf16", [False, True], ids=["fp32", "bf16"])
def test_draws_over_a_large_vocabulary_are_those_of_the_compiled_code(text: str, is_bf16: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(60, 32_000, generator=generator) * 3
    scores = scores.bfloat16().float() if is_bf16 else scores
    numbers = torch.rand(60, dtype=torch.float64, generator=generator)
    decoding = Decoding.parse(text)
    expected = draw(scores.numpy(), numbers.numpy(), decoding)
    assert draw_on_device(scores, numbers, decoding).tolist() == expected.tolist()


_ENTRIES = st.sampled_from([-math.inf, -7.25, -1.0, -0.0, 0.0, 0.25, 0.5, 3.0, 1e-30, 2e-30, 3e38])
_KINDS = st.one_of(
    st.builds(
        Decoding,
        st.just("nucleus"),
        st.sampled_from([0.01, 0.7, 1.0, 40.0]),
        st.integers(0, 12),
        st.sampled_from([0.013, 0.3719, 0.6413, 0.9371, 1.0]),
    ),
    st.builds(Decoding, st.just("temperature"), st.sampled_from([0.01, 0.7, 1.0, 40.0])),
    st.builds(lambda t, p: Decoding("min_p", t, min_p=p), st.sampled_from([0.3, 2.0]), st.floats(1e-9, 1.0)),
)


@given(
    score=st.lists(_ENTRIES, min_size=1, max_size=14).filter(lambda score: max(score) > -math.inf),
    number=st.floats(0.0, 1.0, exclude_max=True),
    decoding=_KINDS,
)
def test_any_draw_is_the_one_of_plain_python_but_for_rounding(
    score: list[float], number: float, decoding: Decoding
) -> None:
    # Ids ascend with the number, and at the border of an id sums in another order may fall on either side.
    scores = np.array([score, score[::-1]], dtype=np.float32)
    found = by_torch(scores, np.full(2, number), decoding)
    for row, token in zip(scores.tolist(), found, strict=True):
        lowest = by_hand(row, max(0.0, number - 1e-12), decoding)
        assert lowest <= token <= by_hand(row, number + 1e-12, decoding)
        assert row[token] > -math.inf


@pytest.mark.parametrize(("number", "place"), [(0.0, 1), (0.49, 1), (0.5, 3), (0.99, 3), (1.0, 3)])
def test_the_border_of_an_id_belongs_to_the_next_one_that_has_mass(number: float, place: int) -> None:
    mass, numbers = (torch.tensor(each, dtype=torch.float64) for each in ([[0.0, 2, 0, 2, 0]], [number]))
    assert device_sampling._walk(mass, numbers).tolist() == [place]
    if number < 1:
        assert draw(mass.log().float().numpy(), numbers.numpy(), Decoding("temperature")).tolist() == [place]


def test_a_sum_that_rises_without_mass_chooses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # as sums made in parallel may, by a rounding
    monkeypatch.setattr(
        torch.Tensor, "cumsum", lambda mass, dim: mass.new_tensor([[0.1, 1.0, 1.1, 2.0, 2.1]])
    )
    mass, numbers = (torch.tensor(each, dtype=torch.float64) for each in ([[0.0, 1, 0, 1, 0]], [0.0]))
    for number, place in ((0.0, 1), (1.05 / 2.1, 3), (2.05 / 2.1, 3)):
        assert device_sampling._walk(mass, numbers + number).tolist() == [place]


def test_a_draw_depends_neither_on_its_batch_nor_on_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(2)
    scores, numbers = np.round(generator.normal(0, 2, (33, 64))).astype(np.float32), generator.random(33)
    together = {text: by_torch(scores, numbers, Decoding.parse(text)) for text in DECODINGS}
    for rows in (1, 7, 33):
        monkeypatch.setattr(device_sampling, "_ROOM_BYTES", rows * 64 * device_sampling._BYTES_EACH)
        for text in DECODINGS:
            assert by_torch(scores, numbers, Decoding.parse(text)) == together[text]


class _Held(TorchDispatchMode):
    """The most bytes at once of tensors that were made."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        if not (func.is_view or func._schema.is_mutable):
            for each in filter(torch.is_tensor, made if isinstance(made, (tuple, list)) else (made,)):
                size = each.numel() * each.itemsize
                self._add(size)
                weakref.finalize(each, self._add, -size)
        return made

    def _add(self, size: int) -> None:
        self.now += size
        self.most = max(self.most, self.now)


@pytest.mark.parametrize("text", DECODINGS)
def test_on_a_device_nothing_is_read_and_little_is_held(text: str) -> None:
    # Of the device "meta", whose tensors have no values: reading one, or adding one of the CPU's to it, is an error.
    scores = torch.empty((512, 128_256), device="meta")
    numbers = torch.empty((512, 96), dtype=torch.float64, device="meta")[:, 3]
    with _Held() as held:
        found = draw_on_device(scores, numbers, Decoding.parse(text))
    assert found.device.type == "meta" and found.shape == (512,) and found.dtype == torch.int64
    # What a sort holds beside what it gives, which is not seen here, is as much again.
    part = device_sampling._ROOM_BYTES // (device_sampling._BYTES_EACH * 128_256)
    assert 8 <= held.most / (part * 128_256) <= device_sampling._BYTES_EACH - 16


@pytest.mark.parametrize(
    "read", [lambda logits: bool(logits.max() > 1), torch.nonzero, torch.Tensor.cpu, lambda each: each + ROW]
)
def test_the_test_would_see_a_device_being_read(read: Callable[[torch.Tensor], object]) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        read(torch.empty((2, 3), device="meta"))


ROW = torch.ones(3)
VOCABULARY, CONTEXT, STEPS, ROWS = 23, 6, 24, 8
SUPPRESSED = (0, 1, 2, VOCABULARY + 1)
BLOCKS = [
    "",
    *(f"block={w},block_run=1{s}" for w in WAIT_RULES for s in ("", ",block_source=context+generated")),
]
OTHERS = ["", "repetition_penalty=1.3", "no_repeat_ngram=2"]


def _parsed(kind: str, *settings: str) -> Decoding:
    rest = ",".join(filter(None, (kind.partition(":")[2], f"num_new_tokens={STEPS}", *settings)))
    return Decoding.parse(f"{kind.partition(':')[0]}:{rest}")


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("kind", ["greedy", *DECODINGS])
def test_a_chooser_on_a_device_chooses_as_on_the_host(kind: str, other: str) -> None:
    for number, block in enumerate(BLOCKS):
        decoding = _parsed(kind, other, block)
        generator = np.random.default_rng(number)
        # Rows in which every token is followed by nearly every other, so that bans leave a row little or nothing.
        rows = generator.integers(3, VOCABULARY, (20, 60))
        index = BlockIndex.build(rows, generator.random(VOCABULARY) < 0.7, run=1, bos_id=None)
        names, first = [f"context {row}" for row in range(ROWS)], generator.integers(0, CONTEXT - 1, ROWS)
        choosers = [
            Chooser(
                decoding, names, first, CONTEXT, SUPPRESSED, make_blocker(decoding, index), on_host=on_host
            )
            for on_host in (None, False)
        ]
        texts = torch.from_numpy(generator.integers(3, VOCABULARY, (ROWS, CONTEXT)))
        for step in range(STEPS):
            scores = torch.from_numpy(some_scores(generator, step % 3, ROWS, VOCABULARY))
            scores[:, 3] = scores[:, 3].clamp(min=-9.0)  # one that is not special
            host, device = (chooser(texts, scores.clone()) for chooser in choosers)
            assert torch.equal(host, device), (block, step)
            texts = torch.cat([texts, device.argmax(dim=1, keepdim=True)], dim=1)
        assert [chooser.on_host for chooser in choosers] == [True, False]
        np.testing.assert_array_equal(choosers[0].steps_banned, choosers[1].steps_banned)
        np.testing.assert_array_equal(choosers[0].steps_changed, choosers[1].steps_changed)
        assert choosers[1].steps_banned.any() == choosers[1].steps_changed.any() == bool(block)

from __future__ import annotations

import json

import pytest

from rayfit.errors import RayfitError
from rayfit.plan.adapters import Adapter


def test_none_is_no_adapter() -> None:
    assert Adapter.parse("none") is None


@pytest.mark.parametrize(
    ("text", "kind", "rank", "alpha"),
    [
        ("lora", "lora", 8, 16),
        ("lora-last", "lora-last", 8, 16),
        ("lora:", "lora", 8, 16),
        ("lora:rank=16", "lora", 16, 32),  # the scale alpha / rank stays
        ("lora:alpha=8", "lora", 8, 8),
        (" lora-last:alpha=4, rank=2 ", "lora-last", 2, 4),
    ],
)
def test_an_adapter_is_read_from_text(text: str, kind: str, rank: int, alpha: int) -> None:
    assert Adapter.parse(text) == Adapter(kind=kind, rank=rank, alpha=alpha)


@pytest.mark.parametrize("kind", ["lora", "lora-last"])
@pytest.mark.parametrize("rank", [1, 8, 16])
@pytest.mark.parametrize("alpha", [1, 16, 32])
def test_its_text_reads_as_itself(kind: str, rank: int, alpha: int) -> None:
    adapter = Adapter(kind=kind, rank=rank, alpha=alpha)
    assert Adapter.parse(adapter.text) == adapter


def test_defaults_are_left_out_of_the_text() -> None:
    assert Adapter.parse("lora:rank=16,alpha=32") == Adapter.parse("lora:rank=16")
    assert Adapter(rank=16, alpha=32).text == "lora:rank=16"
    assert Adapter(kind="lora-last").text == "lora-last"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("lorra", ["lora-last", "none", "did you mean 'lora'"]),
        ("none:rank=8", ["none"]),
        ("", ["none, lora, lora-last"]),
        ("lora:ranks=8", ["ranks", "did you mean 'rank'"]),
        ("lora:rank=eight", ["rank", "whole number", "eight"]),
        ("lora:rank=0", ["rank", "at least 1"]),
        ("lora:alpha=-1", ["alpha", "-1"]),
        ("lora:rank=8,rank=9", ["rank", "twice"]),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_would_be_right(text: str, parts: list[str]) -> None:
    with pytest.raises(RayfitError) as caught:
        Adapter.parse(text)
    for part in ["--adapter", *parts]:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("num_layers", "last"),
    [
        (22, [17, 18, 19, 20, 21]),
        (28, list(range(21, 28))),
        (4, [3]),
        (1, [0]),
        (5, [3, 4]),
        (80, list(range(61, 80))),
    ],
)
def test_the_last_blocks_are_five_of_twenty_two_rounded_up(num_layers: int, last: list[int]) -> None:
    assert list(Adapter(kind="lora-last").blocks(num_layers)) == last
    assert list(Adapter(kind="lora").blocks(num_layers)) == list(range(num_layers))


def test_what_is_declared_says_everything_that_decides_the_weights() -> None:
    declared = Adapter(kind="lora-last", rank=4, alpha=6).declared(22)
    assert declared == {
        "kind": "lora-last",
        "rank": 4,
        "alpha": 6,
        "dropout": 0.0,
        "target_modules": "all linear layers of the blocks",
        "blocks": 5,
    }
    assert json.loads(json.dumps(declared)) == declared

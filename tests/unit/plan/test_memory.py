"""The memory that training takes of a GPU: worked by hand, and what the plan makes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rayfit.config import Options
from rayfit.errors import RayfitError
from rayfit.hub_presets import HUB_MODELS
from rayfit.plan.adapters import Adapter
from rayfit.plan.arrangement import Arrangement, Load
from rayfit.plan.cards import Card
from rayfit.plan.memory import CONTEXT_BYTES, SHARE_OF_CARD, PeakMemory, peak_memory
from rayfit.plan.planning import make_plan
from rayfit.plan.show import MAY_NOT_FIT, render_plan
from rayfit.records.storage import Storage
from rayfit.shape import Shape, shape_of_config
from tests.unit.plan.examples import BASE, SWEEP, plan_of

TINYLLAMA = HUB_MODELS["tinyllama-1.1b"].shape
RTX_3090 = Card("RTX 3090", (8, 6), 24_576 << 20)
H100 = Card("H100", (9, 0), 80 << 30)
BILLION = 1_000_000_000
LOAD = Load(precision="bf16", batch_size=8, sequence_length=256)
SPARED: tuple[dict[str, Any], ...] = (
    {},
    {"micro_batch": 2},
    {"activation_checkpointing": True},
    {"offload": "cpu"},
)


def _peak(zero_stage: int, num_workers: int = 1, precision: str = "bf16", **given: Any) -> PeakMemory:
    """Of a model of a billion parameters whose shape is not known."""
    way = Arrangement(zero_stage=zero_stage, num_workers=num_workers, **given)
    return peak_memory(BILLION, None, way, replace(LOAD, precision=precision))


@pytest.mark.parametrize(
    ("zero_stage", "num_workers", "precision", "state", "backward", "step"),
    [
        # Weights, masters and two moments; gradients and a bucket of 5e7; gradients in bf16 twice and in fp32.
        (1, 1, "bf16", 14, 14 + 2 + 0.1, 14 + 8),
        (1, 4, "bf16", 2 + 3, 5 + 2 + 0.1, 5 + 2),
        (2, 4, "bf16", 2 + 3, 5 + 0.5 + 0.2, 5 + 2),
        # All is divided; the weights of a billion parameters are gathered, and 5e7 ahead.
        (3, 1, "bf16", 16.1, 16.3, 16.1 + 0.2),
        (3, 4, "bf16", 4.1, 4.1 + 2.1 + 0.2, 4.1 + 0.2),
        (0, 2, "fp32", 12, 12 + 4 + 2, 12 + 8),
        (1, 2, "fp32", 4 + 6, 10 + 4 + 0.2, 10 + 4),
        (0, 1, "bf16", 14, 14 + 2 + 0.1, 14 + 8),  # runs as stage 1
    ],
)
def test_bytes_of_a_parameter_worked_by_hand(
    zero_stage: int, num_workers: int, precision: str, state: float, backward: float, step: float
) -> None:
    peak = _peak(zero_stage, num_workers, precision)
    got = [peak.state, peak.backward, peak.step]
    assert got == pytest.approx([state * BILLION, backward * BILLION, step * BILLION])
    assert peak.forward is None and peak.bytes == max(got) + CONTEXT_BYTES


def test_activations_and_logits_are_counted_where_the_shape_is_known() -> None:
    count = TINYLLAMA.num_parameters
    eight = peak_memory(count, TINYLLAMA, Arrangement(), LOAD)
    assert eight.forward is not None
    # A block: 20 bytes x 2,048, keys and values 4 x 256, the MLP 8 x 5,632, 32 heads x 4 and 8.
    block = 20 * 2048 + 4 * 256 + 8 * 5632 + 32 * 4 + 8
    tokens = 8 * 256
    logits = tokens * 32_000
    expected = 14 * count + tokens * (22 * block + 8 * 2048) + 4 * logits + 12 * logits
    assert eight.forward == expected
    assert peak_memory(count, TINYLLAMA, Arrangement(num_workers=8), LOAD).forward == (
        2 * count + round(12 * count / 8) + tokens // 8 * (22 * block + 8 * 2048) + 16 * logits // 8
    )


def test_what_spares_memory_spares_what_it_says() -> None:
    plain, pieces, again, away = (
        peak_memory(TINYLLAMA.num_parameters, TINYLLAMA, Arrangement(zero_stage=2, **spared), LOAD)
        for spared in SPARED
    )
    assert plain.forward and pieces.forward and again.forward and away.forward
    count = TINYLLAMA.num_parameters
    assert (plain.host, away.host) == (0, 16 * count)
    assert (plain.state, away.state) == (14 * count, 2 * count)
    assert away.backward == 2 * count + 2 * 2 * 50_000_000 and away.step == 4 * count
    # A quarter of the tokens at once, and the gradients of the passes before.
    assert pieces.forward - 16 * count == pytest.approx((plain.forward - 14 * count) / 4, rel=0.05)
    kept = (plain.forward - again.forward) / 2048
    # Of 22 blocks' activations 21 and, of each, its input stays.
    block = 20 * 2048 + 4 * 256 + 8 * 5632 + 32 * 4 + 8
    assert kept == 21 * block - 22 * 2 * 2048
    assert (again.backward, again.step) == (plain.backward, plain.step)


def test_an_adapter_s_matrices_alone_have_gradients_and_moments() -> None:
    adapter = Adapter(kind="lora", rank=8)
    # Of each block q and o (2 x 4,096 rows and columns), k and v (2 x 2,304), three of the MLP (7,680 each).
    trained = 8 * 22 * (2 * 4096 + 2 * 2304 + 3 * 7680)
    assert TINYLLAMA.adapter_parameters(8, 22) == trained
    peak = peak_memory(TINYLLAMA.num_parameters, TINYLLAMA, Arrangement(), replace(LOAD, adapter=adapter))
    assert peak.state == 2 * TINYLLAMA.num_parameters + 14 * trained
    assert peak.step == peak.state + 8 * trained


def _plan(storage: Storage, *cards: Card, **options: Any):
    given = {**BASE, "storage": str(storage.root), "dataset": ("pydoc",), "use_gpu": True, **options}
    return make_plan(SWEEP, Options(**given), storage, cards)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def test_one_card_of_24_gb_trains_tinyllama_at_the_stage_that_fits(storage: Storage) -> None:
    plan = _plan(storage, RTX_3090, model=("tinyllama-1.1b",))
    (placement,) = plan.placements.values()
    assert placement.zero_stage == 3 and placement.peak is not None
    assert placement.peak.bytes <= SHARE_OF_CARD * RTX_3090.num_bytes
    assert MAY_NOT_FIT not in render_plan(plan, storage)
    (roomy,) = _plan(storage, H100, model=("tinyllama-1.1b",)).placements.values()
    assert roomy.zero_stage == 1
    # The smaller of two cards decides, and what is asked for is done.
    (both,) = _plan(storage, H100, RTX_3090, model=("tinyllama-1.1b",)).placements.values()
    assert both.zero_stage == 3
    asked = _plan(
        storage,
        RTX_3090,
        model=("tinyllama-1.1b",),
        zero_stage=1,
        offload="none",
        activation_checkpointing=False,
    )
    (placement,) = asked.placements.values()
    assert placement.zero_stage == 1 and placement.offload == "none"
    assert MAY_NOT_FIT in render_plan(asked, storage)


def test_the_cards_decide_no_id(storage: Storage) -> None:
    small, large = (_plan(storage, card, model=("pydoc-1m",)) for card in (RTX_3090, H100))
    assert small.sweep_id == large.sweep_id == _plan(storage, model=("pydoc-1m",)).sweep_id
    assert [trial.id for trial in small.trials] == [trial.id for trial in large.trials]


def test_the_plan_says_what_it_takes_and_what_there_is(storage: Storage) -> None:
    text = render_plan(_plan(storage, RTX_3090, model=("tinyllama-1.1b",)), storage)
    assert "GPU memory for tinyllama-1.1b-intermediate-step-1431k-3t: 22." in text
    assert "of RTX 3090 of 24.0 GiB" in text and "1,100,048,384 parameters" in text
    assert "GPU memory" not in render_plan(plan_of(storage), storage)


def test_what_no_stage_can_hold_is_refused_before_anything_starts(storage: Storage) -> None:
    with pytest.raises(
        RayfitError,
        match=r"--num-workers: llama-3.1-70b keeps 131.* GiB .* of 1 GPUs at ZeRO stage 3, .*more GPUs",
    ):
        _plan(storage, H100, model=("llama-3.1-70b",))
    with pytest.raises(RayfitError, match=r"keeps .*; --zero-stage 3 divides"):
        _plan(storage, H100, model=("llama-3.1-70b",), num_workers=8, zero_stage=1)
    with pytest.raises(RayfitError, match=r"keeps .*; --offload cpu keeps"):
        _plan(storage, H100, model=("llama-3.1-70b",), num_workers=8, offload="none")
    assumed = _plan(storage, model=("llama-3.1-70b",), num_workers=8, zero_stage=1, offload="none")
    text = render_plan(assumed, storage)
    assert "for GPUs of 80 GiB, as none was looked at" in text and MAY_NOT_FIT in text, "no card, no refusal"
    with pytest.raises(RayfitError, match=r"--offload: cpu needs a ZeRO stage"):
        _plan(storage, H100, model=("tinyllama-1.1b",), zero_stage=0, offload="cpu")
    (placement,) = _plan(
        storage, *[H100] * 24, model=("llama-3.1-70b",), num_workers=24, batch_size=(24,)
    ).placements.values()
    assert placement.zero_stage == 3 and placement.offload == "none"


def test_a_local_model_s_shape_is_its_config(tmp_path: Path) -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 172,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 300,
        "tie_word_embeddings": True,
    }
    shape = shape_of_config(config)
    assert shape == Shape(
        hidden_size=64,
        intermediate_size=172,
        num_layers=2,
        num_heads=4,
        num_kv_heads=4,
        head_size=16,
        vocabulary_size=300,
        is_tied=True,
    )
    assert shape_of_config({**config, "num_key_value_heads": 2}) == replace(shape, num_kv_heads=2)
    assert shape_of_config({**config, "model_type": "gpt2"}) is None
    assert shape_of_config(json.loads('{"model_type": "llama", "hidden_size": "wide"}')) is None

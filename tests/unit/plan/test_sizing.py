"""What fits which GPUs, how long and for how much: worked by hand; the cheapest against every other way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rayfit.commands import run
from rayfit.errors import RayfitError
from rayfit.hub_presets import HUB_MODELS
from rayfit.plan.arrangement import Arrangement, Asked, Load, arrangements
from rayfit.plan.cards import Card
from rayfit.plan.cheapest import DEARER, cheapest, fits, fits_host
from rayfit.plan.machines import MACHINES, Machine, machine_of
from rayfit.plan.memory import peak_memory
from rayfit.plan.sizing import Wish, size
from rayfit.plan.sources import resolve_model
from rayfit.plan.timing import (
    SHARE_OF_LINK,
    SHARE_OF_MEMORY,
    SHARE_OF_PEAK,
    UpdateSeconds,
    update_seconds,
)
from rayfit.records.storage import Storage
from tests.unit.fresh import ROOT
from tests.unit.plan.scaling_table import rows

H100 = MACHINES["h100-80gb"]
BILLION = 1_000_000_000
LOAD = Load(precision="bf16", batch_size=8, sequence_length=256)


def _seconds(machine: Machine = H100, **way: Any) -> UpdateSeconds:
    return update_seconds(BILLION, machine, Arrangement(**way), LOAD)


def test_seconds_of_an_update_worked_by_hand() -> None:
    one = _seconds()
    assert one.arithmetic == pytest.approx(6 * BILLION * 2048 / (SHARE_OF_PEAK * 989e12))
    assert one.optimizer == pytest.approx(30 * BILLION / (SHARE_OF_MEMORY * 3.35e12))
    assert one.traffic == 0 and one.total == one.arithmetic + one.optimizer
    again = _seconds(activation_checkpointing=True)
    assert again.arithmetic / one.arithmetic == pytest.approx(8 / 6)
    eight = _seconds(num_workers=8, zero_stage=3)
    # Stage 3 moves the model three times: gathered forward and backward, and its gradients.
    assert eight.traffic == pytest.approx(3 * 2 * BILLION / (SHARE_OF_LINK * 450e9))
    assert eight.optimizer == pytest.approx(one.optimizer / 8)
    assert _seconds(num_workers=16, zero_stage=3).traffic == pytest.approx(
        6 * BILLION / (SHARE_OF_LINK * 50e9)
    )
    # Sixteen workers of eight rows compute each row twice; a pass is never shorter than reading the weights.
    assert _seconds(num_workers=16).arithmetic == _seconds(num_workers=8).arithmetic
    slow = replace(H100, bandwidth=1e9)
    assert _seconds(slow).arithmetic == pytest.approx(6 * BILLION / (SHARE_OF_MEMORY * 1e9))
    assert _seconds(offload="cpu").optimizer == pytest.approx(30 * BILLION / 20e9 + 4 * BILLION / 25e9)


def test_the_cheapest_is_the_fastest_of_those_that_cost_little_more_than_any() -> None:
    shape = HUB_MODELS["llama-3.1-8b"].shape
    for name in ("rtx-3090-24gb", "a100-40gb", "h100-80gb", "h200-141gb"):
        machine = MACHINES[name]
        way, peak = cheapest(
            shape.num_parameters,
            shape,
            Asked(),
            (LOAD,),
            num_bytes=machine.num_bytes,
            machine=machine,
            most_workers=16,
        )
        assert peak == peak_memory(shape.num_parameters, shape, way, LOAD)
        times = {}
        for other in arrangements(Asked(), 8, 16):
            takes = peak_memory(shape.num_parameters, shape, other, LOAD)
            if fits(takes, machine.num_bytes) and fits_host(takes, other, machine):
                times[other] = update_seconds(shape.num_parameters, machine, other, LOAD).total
        assert way in times, name
        least = min(other.num_workers * time for other, time in times.items())
        assert way.num_workers * times[way] <= 1.1 * DEARER * least, name
        assert not any(
            time < 0.9 * times[way] and other.num_workers * time <= least for other, time in times.items()
        ), name


def test_what_is_asked_for_is_what_is_done() -> None:
    asked = Asked(num_workers=3, zero_stage=2, micro_batch=1, activation_checkpointing=False, offload="none")
    assert list(arrangements(asked, 8, 64)) == [Arrangement(num_workers=3, zero_stage=2, micro_batch=1)]
    assert {way.num_workers for way in arrangements(Asked(), 6, 30)} == {1, 2, 4}
    assert {way.num_workers for way in arrangements(Asked(), 2, 8)} == {1, 2, 4, 8}
    assert {way.offload for way in arrangements(Asked(zero_stage=0), 8, 1)} == {"none"}


def test_a_card_s_machine_is_known_by_its_name_and_memory() -> None:
    assert machine_of((Card("NVIDIA H100 80GB HBM3", (9, 0), 85_000_000_000),)) is H100
    assert machine_of((Card("NVIDIA A100-SXM4-40GB", (8, 0), 42_400_000_000),)) is MACHINES["a100-40gb"]
    assert machine_of((Card("NVIDIA GeForce RTX 3090", (8, 6), 25_300_000_000),)) is MACHINES["rtx-3090-24gb"]
    assert machine_of((Card("Tesla T4", (7, 5), 15_800_000_000),)) is None and machine_of(()) is None


@pytest.fixture
def wish(tmp_path: Path) -> Wish:
    model = resolve_model("tinyllama-1.1b", None, Storage(tmp_path))
    return Wish(model=model, gpu="h100-80gb", machine=H100, num_gpus=8, asked=Asked())


def test_hours_and_dollars_are_of_all_gpus(wish: Wish) -> None:
    found = size(replace(wish, asked=Asked(num_workers=2), num_updates=3600, price=10.0))
    assert found.gpu_hours == pytest.approx(2 * found.update.total)
    assert found.dollars == pytest.approx(20 * found.update.total)
    shown = size(replace(wish, tokens_per_second=2048.0, num_updates=3600))
    assert (shown.seconds_per_update, shown.gpu_hours) == (1.0, 1.0)
    assert shown.dollars == pytest.approx(6.88)
    unpriced = replace(wish, machine=replace(H100, dollars_per_hour=None))
    assert size(unpriced).dollars is None


def test_a_model_whose_size_is_not_known_is_refused(tmp_path: Path, wish: Wish) -> None:
    other = resolve_model("someone/model", None, Storage(tmp_path))
    with pytest.raises(RayfitError, match="--model: the size of model is known once"):
        size(replace(wish, model=other))
    with pytest.raises(RayfitError, match=r"--num-workers: .* the nearest that works is 8"):
        size(replace(wish, asked=Asked(num_workers=9)))


def test_the_command_says_whether_it_fits_and_what_it_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", "--storage", str(tmp_path), "--model", "llama-3.1-70b,pydoc-1m"]
    assert run([*words, "--gpu", "h100-80gb", "--gpus", "32"]) == 0
    text = capsys.readouterr().out
    for part in (
        "70,553,706,496 parameters",
        "--zero-stage 3",
        ": fits",
        "GPU-hours",
        "dollars",
        "unverified",
    ):
        assert part in text
    assert text.count("arrangement: ") == 2
    assert run([*words, "--gpu", "rtx-3090-24gb", "--gpus", "1"]) == 1
    assert "DOES NOT FIT" in capsys.readouterr().out
    with pytest.raises(RayfitError, match=r"--gpu: .*did you mean 'h100-80gb'"):
        run([*words, "--gpu", "h100"])
    with pytest.raises(RayfitError, match="--gpus: expected more than 0; got -1"):
        run([*words, "--gpu", "h100-80gb", "--gpus", "-1"])


def test_the_page_on_scaling_has_what_the_code_says() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text()
    assert [row for row in rows() if row not in page] == []

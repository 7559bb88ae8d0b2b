"""Whether a launch on this machine is on GPUs: asked for, found, of no use, too few, or not needed any more."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from rayfit.config import Options
from rayfit.console import Console
from rayfit.errors import RayfitError
from rayfit.measure import stage
from rayfit.plan import planning
from rayfit.plan.cards import Card
from rayfit.plan.plan import Plan
from rayfit.records.storage import Storage
from rayfit.sweep import driver, gpus
from rayfit.sweep.cluster import StartingRay
from tests.finished import Finished
from tests.unit.plan.examples import BASE, SWEEP

H100 = Card("NVIDIA H100 80GB HBM3", (9, 0), 85_000_000_000)
T4 = Card("Tesla T4", (7, 5), 15_828_320_256)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


@pytest.fixture(autouse=True)
def _on_a_machine_with_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    for module in (planning, gpus):
        monkeypatch.setattr(module, "seem_there", lambda: True)


def _planned(storage: Storage, **options: Any) -> tuple[Plan, Options, tuple[Card, ...], str]:
    given = Options(**{**BASE, "precision": "auto", "storage": str(storage.root), **options})
    stream = io.StringIO()
    starting = StartingRay(storage.root / "log")
    plan, decided, cards = driver._planned(SWEEP, given, storage, starting, Console(stream))
    return plan, decided, cards, stream.getvalue()


def _found(monkeypatch: pytest.MonkeyPatch, *cards: Card) -> None:
    monkeypatch.setattr(gpus, "find_cards", lambda: cards)


def _refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_cards() -> tuple[Card, ...]:
        raise RayfitError("--use-gpu: torch can use no GPU: the driver is too old")

    monkeypatch.setattr(gpus, "find_cards", find_cards)


def test_where_there_are_cards_they_are_taken_and_named(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _found(monkeypatch, H100, H100)
    plan, options, cards, said = _planned(storage)
    assert options.use_gpu is True and cards == plan.cards == (H100, H100)
    assert plan.options.precision == "bf16" and plan.evaluation.eval_precision == "bf16"
    assert "training is on this machine's GPUs: 2 x NVIDIA H100 80GB HBM3 of 79.2 GiB" in said


def test_cards_of_no_use_are_left_with_a_line_unless_they_were_asked_for(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refused(monkeypatch)
    plan, options, cards, said = _planned(storage)
    assert options.use_gpu is False and plan.options.use_gpu is False and cards == ()
    assert plan.evaluation.eval_precision == "fp32"
    assert "training is on CPUs: torch can use no GPU: the driver is too old" in said
    with pytest.raises(RayfitError, match="--use-gpu: torch can use no GPU"):
        _planned(storage, use_gpu=True)


def test_without_gpus_nothing_is_looked_at(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    _refused(monkeypatch)
    plan, options, _, said = _planned(storage, use_gpu=False)
    assert options.use_gpu is False and plan.options.use_gpu is False and said == ""


def test_more_workers_than_cards_are_refused_before_anything_is_fetched(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _found(monkeypatch, H100)
    with pytest.raises(RayfitError, match="--num-workers: 2 workers need 2 GPUs, and this machine has 1"):
        _planned(storage, num_workers=2)
    with pytest.raises(RayfitError, match="--precision: Tesla T4"):
        _found(monkeypatch, T4)
        _planned(storage)


def test_cards_are_looked_at_as_long_as_something_is_left_to_measure(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _found(monkeypatch, H100)
    monkeypatch.setattr(stage, "device_name", str)  # there is no card to be asked for its name
    plan, *_ = _planned(storage, precision="fp32")
    made = Finished(storage, plan).all()
    _refused(monkeypatch)
    assert _planned(storage, precision="fp32")[2:] == ((), ""), "all is done"
    (spec, *_) = made.plan.measurements
    (storage.folder(spec.kind, spec.id) / "record.json").unlink()
    _, options, _, said = _planned(storage, precision="fp32")
    assert options.use_gpu is False and "training is on CPUs" in said

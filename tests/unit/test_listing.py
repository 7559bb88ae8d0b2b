from __future__ import annotations

import pytest

from rayfit.hub_presets import HUB_DATASETS, HUB_MODELS, INSTRUCT_OF
from rayfit.listing import datasets_listing, models_listing, preset_memory
from rayfit.plan.hub import check_hub_id
from rayfit.presets import DATASETS, MADE_MODELS


def _line(text: str, name: str) -> str:
    (line,) = [line for line in text.splitlines() if line.split()[:1] == [name]]
    return line


def test_every_model_has_a_line_with_its_size() -> None:
    text = models_listing()
    for name, made in MADE_MODELS.items():
        assert f"{made.num_parameters:,}" in _line(text, name)
    for name, hub in HUB_MODELS.items():
        line = _line(text, name)
        for part in (hub.hub_id, hub.licence, f"{hub.num_workers} x ZeRO {hub.zero_stage}", *hub.unverified):
            assert part in line
    assert "1.1B" in _line(text, "tinyllama-1.1b") and "135M" in _line(text, "smollm2-135m")
    assert "hf auth login" in _line(text, "llama-3.1-70b")
    assert "unverified" in text.lower()


def test_every_dataset_has_a_line_with_its_settings() -> None:
    text = datasets_listing()
    for name, preset in (*DATASETS.items(), *HUB_DATASETS.items()):
        assert f"spans of {preset.span_characters}, {preset.held_out_share:.0%} held out" in _line(text, name)
    for name, hub in HUB_DATASETS.items():
        assert hub.source.hub_id in _line(text, name)
        assert all(f"? {what}" in _line(text, name) for what in hub.unverified)


def test_hub_presets_are_well_formed() -> None:
    assert not set(HUB_MODELS) & set(MADE_MODELS) and not set(HUB_DATASETS) & set(DATASETS)
    for preset in HUB_MODELS.values():
        assert check_hub_id("--model", preset.hub_id)
        assert 8 % preset.num_workers == 0
    for dataset in HUB_DATASETS.values():
        assert check_hub_id("--dataset", dataset.source.hub_id)


def test_instruct_models_are_presets_too() -> None:
    known = {**MADE_MODELS, **HUB_MODELS}
    assert INSTRUCT_OF["pydoc-1m"] == "pydoc-1m-instruct" and "llama-3.1-70b" in INSTRUCT_OF
    assert all(base in known and instruct in known for base, instruct in INSTRUCT_OF.items())


def test_memory_is_that_of_the_paper_s_recipe_on_each_gpu() -> None:
    text = models_listing()
    for name, preset in HUB_MODELS.items():
        assert f"  {preset_memory(preset).gib:.0f} GiB" in _line(text, name)
    assert preset_memory(HUB_MODELS["tinyllama-1.1b"]).gib == pytest.approx(23.5, abs=0.1)

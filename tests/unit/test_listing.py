from __future__ import annotations

from rayfit.hub_presets import HUB_DATASETS, HUB_MODELS, INSTRUCT_OF
from rayfit.listing import CARDS_GIB, datasets_listing, models_listing, preset_way
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
        for part in (hub.hub_id, hub.licence, *hub.unverified):
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
    for dataset in HUB_DATASETS.values():
        assert check_hub_id("--dataset", dataset.source.hub_id)


def test_instruct_models_are_presets_too() -> None:
    known = {**MADE_MODELS, **HUB_MODELS}
    assert INSTRUCT_OF["pydoc-1m"] == "pydoc-1m-instruct" and "llama-3.1-70b" in INSTRUCT_OF
    assert all(base in known and instruct in known for base, instruct in INSTRUCT_OF.items())


def test_ways_are_those_that_a_plan_would_take() -> None:
    text = models_listing()
    for name, preset in HUB_MODELS.items():
        for gib in CARDS_GIB:
            way, peak = preset_way(preset, gib << 30)
            part = f"{way.num_workers} x {way.zero_stage}"
            assert part in _line(text, name) and f"{peak.gib:.0f} GiB" in _line(text, name)
    way, peak = preset_way(HUB_MODELS["tinyllama-1.1b"], 24 << 30)
    assert (way.num_workers, way.zero_stage, round(peak.gib, 1)) == (1, 3, 22.2)
    way, peak = preset_way(HUB_MODELS["tinyllama-1.1b"], 80 << 30)
    assert (way.num_workers, way.zero_stage, round(peak.gib, 1)) == (1, 1, 23.5)

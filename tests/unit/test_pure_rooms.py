"""The pure rooms import no heavy library, directly or through others."""

from __future__ import annotations

import pytest

from tests.unit.fresh import ROOT, heavy_modules_after


def _modules(room: str) -> list[str]:
    files = sorted((ROOT / "rayfit" / room).rglob("*.py"))
    assert files
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    return [name.removesuffix(".__init__") for name in names]


PURE = {
    "vocabulary": [
        "rayfit",
        "rayfit.allocator",
        "rayfit.columns",
        "rayfit.config",
        "rayfit.errors",
        "rayfit.console",
        "rayfit.decoding",
        "rayfit.hub_presets",
        "rayfit.identity",
        "rayfit.listing",
        "rayfit.memory",
        "rayfit.presets",
        "rayfit.shape",
        "rayfit.text_files",
        "rayfit.cli",
    ],
    "records": _modules("records"),
    "plan": _modules("plan"),
    "data": _modules("data"),
    "report": _modules("report"),
    "prepare": _modules("prepare"),
    "ask": [name for name in _modules("ask") if not name.endswith((".opened", ".answering"))],
    "commands": ["rayfit.commands"],
    "score.text": ["rayfit.score.text"],
    "sweep.queue": ["rayfit.sweep.queue"],
}


@pytest.mark.parametrize("room", PURE)
def test_a_pure_room_imports_no_heavy_library(room: str) -> None:
    assert heavy_modules_after(f"import {', '.join(PURE[room])}") == []


def test_the_test_would_see_one() -> None:
    assert heavy_modules_after("import sys, types; sys.modules['ray'] = types.ModuleType('ray')") == ["ray"]

from __future__ import annotations

from pathlib import Path

import pytest
from rayfit.report.rows import Row, sweep_rows

from rayfit.records.storage import Storage
from rayfit.report.plot import draw_plot
from tests.unit.plan.examples import plan_of
from tests.unit.report.examples import write_all, write_original


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def _draw(rows: list[Row], target: Path, y: str = "ttr_last_96") -> tuple[int, int]:
    """Draws, and reads the picture's width and height from its header."""
    draw_plot(rows, "samples", y, target, title="How few?\ntiny on text, scale ci")
    content = target.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n") and content[12:16] == b"IHDR"
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_finished_sweep_gives_a_picture(storage: Storage, tmp_path: Path, seeds: tuple[int, ...]) -> None:
    plan = plan_of(storage, samples=(8, 32, 128), seeds=seeds, decodings=("greedy", "nucleus"))
    write_all(storage, plan)
    assert _draw(sweep_rows(plan, storage, {}), tmp_path / "plot.png") == (1080, 660)


def test_numbers_beyond_one_are_drawn_within_the_picture(storage: Storage, tmp_path: Path) -> None:
    from matplotlib import image

    plan = plan_of(storage, samples=(8, 32))
    write_all(storage, plan)
    _draw(sweep_rows(plan, storage, {}), tmp_path / "plot.png", y="validation_loss")
    pixels = image.imread(tmp_path / "plot.png")[..., :3]
    blue = abs(pixels - [0x00 / 255, 0x72 / 255, 0xB2 / 255]).max(-1) < 0.02
    assert blue.sum() > 500  # the legend's own line and point are fewer


@pytest.mark.parametrize("evaluated", [True, False])
def test_a_sweep_whose_trials_all_failed_gives_a_picture_too(
    storage: Storage, tmp_path: Path, evaluated: bool
) -> None:
    plan = plan_of(storage)
    if evaluated:
        write_original(storage, plan)
    rows = sweep_rows(plan, storage, {}, {str(plan.trials[0].id): "the loss is nan"})
    for y in ("ttr_last_96", "mauve"):
        _draw(rows, tmp_path / "plot.png", y=y)

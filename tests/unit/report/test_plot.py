from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from rayfit.records.storage import Storage
from rayfit.records.sweep import Row
from rayfit.report.plot import draw_plot
from tests.finished import Finished, finished
from tests.unit.plan.examples import plan_of


def _draw(rows: Sequence[Row], target: Path, y: str = "ttr_last_96") -> tuple[int, int]:
    """Draws, and reads the picture's width and height from its header."""
    draw_plot(rows, "samples", y, target, title="How few?\ntiny on text, scale ci")
    content = target.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n") and content[12:16] == b"IHDR"
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_finished_sweep_gives_a_picture(storage: Storage, tmp_path: Path, seeds: tuple[int, ...]) -> None:
    plan = plan_of(storage, samples=(8, 32, 128), seeds=seeds, decodings=("greedy", "nucleus"))
    assert _draw(finished(storage, plan).rows, tmp_path / "plot.png") == (1080, 660)


def test_numbers_beyond_one_are_drawn_within_the_picture(storage: Storage, tmp_path: Path) -> None:
    from matplotlib import image

    record = finished(storage, plan_of(storage, samples=(8, 32)))
    _draw(record.rows, tmp_path / "plot.png", y="validation_loss")
    pixels = image.imread(tmp_path / "plot.png")[..., :3]
    blue = abs(pixels - [0x00 / 255, 0x72 / 255, 0xB2 / 255]).max(-1) < 0.02
    assert blue.sum() > 500  # the legend's own line and point are fewer


@pytest.mark.parametrize("measured", [True, False])
def test_a_sweep_whose_trials_all_failed_gives_a_picture_too(
    storage: Storage, tmp_path: Path, measured: bool
) -> None:
    made = Finished(storage, plan_of(storage))
    for spec in made.plan.measurements if measured else ():
        if spec.trial is None:
            made.measure(spec)
    made.fail(made.plan.trials[0], "the loss is nan")
    for y in ("ttr_last_96", "mauve"):
        _draw(made.record().rows, tmp_path / "plot.png", y=y)

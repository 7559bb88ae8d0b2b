from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from rayfit.report.figures import figures
from rayfit.report.figures.axis import axis_figure
from rayfit.report.figures.draw import draw_panel, figure_png, look_svg, panel_svg
from rayfit.report.figures.heat import agreement_figure
from rayfit.report.figures.model import Heat, Look, Panel
from rayfit.report.figures.palette import contrast, heat_colours, looks, ramp
from rayfit.report.plot import write_pictures
from tests.rows import row
from tests.unit.report.sweeps import Kept


def test_every_figure_is_drawn_with_all_its_colours(full: Kept) -> None:
    for figure in figures(full.record, full.storage):
        for panel in figure.panels:
            if isinstance(panel, Heat):
                continue
            text = panel_svg(panel).decode()
            assert ElementTree.fromstring(text).tag.endswith("svg")
            shown = (
                [one.look for one in (*panel.lines, *panel.levels)]
                if hasattr(panel, "lines")
                else [bar.look for bar in panel.bars]
            )
            assert all(look.colour.lower() in text.lower() for look in shown), figure.kind
            assert "<image" not in text and "http-equiv" not in text


def test_the_same_figure_gives_the_same_bytes(full: Kept) -> None:
    panel = figures(full.record, full.storage)[0].panels[0]
    assert not isinstance(panel, Heat)
    assert panel_svg(panel) == panel_svg(panel)
    look = Look("a", "#0072B2")
    assert look_svg(look) == look_svg(look) != look_svg(Look("a", "#D55E00"))


def test_every_figure_is_a_picture_file_too(full: Kept, tmp_path: Path) -> None:
    drawn = figures(full.record, full.storage)
    paths = write_pictures(drawn, tmp_path / "pictures")
    assert [path.name for path in paths][:2] == ["figure-1-axis.png", "figure-2-curve.png"]
    assert len(paths) == len(drawn)
    assert all(path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") for path in paths)


@pytest.mark.parametrize(
    "words", ["LoRA", "LoRA of the last blocks, 100 epochs, 400 updates, W", "W" * 3 + " long" * 30]
)
def test_a_legend_lies_within_its_picture(
    words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from matplotlib.figure import Figure as Picture

    saved: list[Picture] = []
    monkeypatch.setattr(Picture, "savefig", lambda picture, *_, **__: saved.append(picture))
    rows = [
        row("trained", arm=f"{words} {place}", samples=n, ttr_last_96=0.6)
        for place in range(3)
        for n in (8, 32)
    ]
    figure_png(axis_figure(rows, "samples", ["ttr_last_96"]), tmp_path / "picture.png")
    (picture,) = saved
    picture.draw_without_rendering()
    (legend,) = picture.legends
    bounds = legend.get_window_extent()
    assert len(legend.get_texts()) == 3
    assert bounds.x0 >= 0 and bounds.x1 <= picture.bbox.x1 and bounds.y0 >= 0


@pytest.mark.parametrize("x", ["samples", "train_loss"])
def test_every_point_lies_within_its_axes(x: str) -> None:
    from matplotlib import pyplot

    rows = [row("trained", samples=n, train_loss=0.3 / n, ttr_last_96=0.6) for n in (8, 32, 2000)]
    (panel,) = axis_figure(rows, x, ["ttr_last_96"]).panels
    assert isinstance(panel, Panel)
    figure, axes = pyplot.subplots()
    draw_panel(axes, panel)
    low, high = axes.get_xlim()
    pyplot.close(figure)
    assert all(low < place < high for line in panel.lines for place in line.x)


def test_an_empty_figure_is_drawn_with_its_reason(tmp_path: Path) -> None:
    figure = agreement_figure(None)
    figure_png(figure, tmp_path / "empty.png")
    assert (tmp_path / "empty.png").stat().st_size > 2000
    assert write_pictures([figure], tmp_path / "pictures") == []


def test_text_on_a_heat_map_can_be_read() -> None:
    for step in range(101):
        background, text = heat_colours(step / 100)
        assert contrast(background, text) >= 4.5


def test_contrast_is_the_one_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the standard's known near miss
    assert contrast("#0072B2", "#0072B2") == 1


def test_twelve_lines_look_different_without_colour_or_with_it() -> None:
    found = looks([str(place) for place in range(12)])
    assert len({(look.colour, look.dash) for look in found}) == 12
    assert len({(look.marker, look.dash) for look in found[:8]}) == 8


def test_an_order_runs_from_light_to_dark() -> None:
    found = looks(["8", "16", "32", "64", "128"], ordered=True)
    darkness = [contrast(look.colour, "#ffffff") for look in found]
    assert darkness == sorted(darkness) and darkness[0] > 1.5
    assert ramp(1.0) == found[-1].colour

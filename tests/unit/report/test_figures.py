"""Figures of rows alone: what is a line, a level, a bar or a cell, and how it is told apart."""

from __future__ import annotations

import pytest

from rayfit.records.sweep import Agreement
from rayfit.report.figures import default_figures, figure_columns
from rayfit.report.figures.axis import axis_figure
from rayfit.report.figures.bars import bars_figure
from rayfit.report.figures.heat import agreement_figure, grid_figure
from rayfit.report.figures.model import Bars, Figure, Heat, Panel
from rayfit.report.figures.words import alt_text
from tests.rows import row
from tests.unit.report.sweeps import FIGURES


def _panel(figure: Figure) -> Panel:
    (panel,) = figure.panels
    assert isinstance(panel, Panel)
    return panel


def _heat(figure: Figure, place: int = 0) -> Heat:
    heat = figure.panels[place]
    assert isinstance(heat, Heat)
    return heat


def test_a_line_per_kind_of_trial_with_means_over_seeds() -> None:
    rows = [
        row("trained", samples=n, seed=seed, decoding=decoding, ttr_last_96=0.01 * n + 0.1 * seed)
        for decoding in ("greedy", "nucleus")
        for n in (32, 8)
        for seed in (0, 1)
    ]
    panel = _panel(axis_figure(rows, "samples", ["ttr_last_96"]))
    assert [line.look.label for line in panel.lines] == ["greedy", "nucleus"]
    assert panel.lines[0].x == (8, 32)
    assert panel.lines[0].y == pytest.approx((0.13, 0.37))
    assert panel.lines[0].bounds[0] == pytest.approx((0.13 - 0.1 / 2**0.5, 0.13 + 0.1 / 2**0.5))
    assert [y for _, y in panel.lines[0].singles] == pytest.approx([0.08, 0.18, 0.32, 0.42])
    assert [x for x, _ in panel.lines[0].singles] == [8, 8, 32, 32]
    assert (
        len({line.look.colour for line in panel.lines})
        == len({line.look.marker for line in panel.lines})
        == 2
    )


def test_the_original_is_a_level_in_the_colour_of_its_decoding() -> None:
    rows = [
        row("original", ttr_last_96=(0.2, 0.1, 0.3)),
        row("original", decoding="nucleus", ttr_last_96=0.5),
        row("truth", ttr_last_96=0.7),
        *(row("trained", samples=8, decoding=name, ttr_last_96=0.6) for name in ("greedy", "nucleus")),
    ]
    panel = _panel(axis_figure(rows, "samples", ["ttr_last_96"]))
    assert [(level.look.label, level.y) for level in panel.levels] == [
        ("original model, greedy", 0.2),
        ("original model, nucleus", 0.5),
        ("true continuations", 0.7),
    ]
    assert panel.levels[0].bounds == (0.1, 0.3)
    assert [level.look.colour for level in panel.levels[:2]] == [line.look.colour for line in panel.lines]


def test_words_stand_side_by_side_and_are_not_joined() -> None:
    rows = [row("trained", arm=name, ttr_last_96=0.6) for name in ("same again", "two exchanged")]
    panel = _panel(axis_figure(rows, "arm", ["ttr_last_96"]))
    assert panel.x_ticks == ((0.0, "same again"), (1.0, "two exchanged"))
    assert panel.lines[0].x == (0.0, 1.0) and not panel.lines[0].joined


@pytest.mark.parametrize(
    ("values", "scale"), [((8, 2000), "log"), ((10, 20), "linear"), ((0, 500), "linear")]
)
def test_numbers_that_span_much_are_on_a_log_axis(values: tuple[int, ...], scale: str) -> None:
    rows = [row("trained", samples=value, ttr_last_96=0.6) for value in values]
    assert _panel(axis_figure(rows, "samples", ["ttr_last_96"])).x_scale == scale


def test_a_measured_axis_takes_means_over_seeds_and_tells_only_the_first_column() -> None:
    rows = [
        row("original", train_loss=None, ttr_last_96=0.2),
        *(
            row(
                "trained",
                arm=arm,
                learning_rate=rate,
                seed=seed,
                train_loss=loss + 0.1 * seed,
                ttr_last_96=0.6,
            )
            for arm, rate, loss in (("all", 1e-3, 0.1), ("all", 3e-3, 0.01), ("lora", 1e-2, 6.0))
            for seed in (0, 1)
        ),
    ]
    panel = _panel(axis_figure(rows, "train_loss", ["ttr_last_96"]))
    assert [line.look.label for line in panel.lines] == ["all", "lora"]
    assert panel.lines[0].x == pytest.approx((0.06, 0.15)) and not panel.lines[0].joined
    assert panel.x_ticks == () and panel.x_scale == "log"
    assert [level.y for level in panel.levels] == [0.2]
    # What is declared may be drawn beside itself, what is measured may not.
    assert [line.shift for line in panel.lines] == [0, 0]
    both = [
        row("trained", arm=arm, samples=samples, train_loss=0.1, ttr_last_96=0.6)
        for arm in ("all", "lora")
        for samples in (8, 32)
    ]
    shifts = {
        x: [line.shift for line in _panel(axis_figure(both, x, ["ttr_last_96"])).lines]
        for x in ("samples", "train_loss")
    }
    assert shifts["samples"] == [-2, 2] and set(shifts["train_loss"]) == {0}


def test_labels_of_an_axis_do_not_touch() -> None:
    rows = [row("trained", epochs=epochs, ttr_last_96=0.6) for epochs in (10.0, 25.0, 26.0, 100.0, 3000.0)]
    ticks = _panel(axis_figure(rows, "epochs", ["ttr_last_96"])).x_ticks
    assert [text for _, text in ticks] == ["10", "25", "100", "3,000"]


def test_domains_have_a_panel_each_with_the_same_looks() -> None:
    rows = [
        row("trained", samples=8, domain=domain, adapter=adapter, ttr_last_96=0.6)
        for domain, adapter in (("fiction", "none"), ("fiction", "lora"), ("news", "lora"))
    ]
    first, second = axis_figure(rows, "samples", ["ttr_last_96"]).panels
    assert isinstance(first, Panel) and isinstance(second, Panel)
    assert (first.title, second.title) == ("fiction", "news")
    assert second.lines[0].look == first.lines[1].look


def test_final_weights_stand_at_the_end_of_the_updates() -> None:
    rows = [row("trained", update=update, updates=80, ttr_last_96=0.6) for update in (20, 40, None)]
    assert _panel(axis_figure(rows, "update", ["ttr_last_96"])).lines[0].x == (20, 40, 80)


def test_points_that_did_not_end_hyperfitted_are_hollow() -> None:
    rows = [row("trained", samples=n, hyperfitted=n < 100, ttr_last_96=0.6) for n in (8, 128)]
    figure = axis_figure(rows, "samples", ["ttr_last_96"])
    assert _panel(figure).lines[0].hollow == (False, True)
    assert "Hollow" in figure.caption
    assert "Hollow" not in axis_figure(rows[:1], "samples", ["ttr_last_96"]).caption


def test_failed_rows_have_no_point() -> None:
    rows = [row("trained", samples=8, status="FAILED", reason="nan", ttr_last_96=None)]
    figure = axis_figure(rows, "samples", ["ttr_last_96"])
    assert figure.missing and not figure.panels


def test_bars_show_each_group_with_its_number() -> None:
    rows = [
        row("truth", ttr_last_96=0.7),
        row("trained", adapter="lora", ttr_last_96=(0.5, 0.4, 0.6)),
        row("trained", adapter="none", hyperfitted=False, ttr_last_96=0.3),
    ]
    (panel,) = bars_figure(rows, ["ttr_last_96"]).panels
    assert isinstance(panel, Bars)
    assert [(bar.label, bar.text, bar.bounds) for bar in panel.bars] == [
        ("true continuations", "0.700", None),
        ("lora", "0.500", (0.4, 0.6)),
        ("none", "0.300", None),
    ]


def test_bars_of_one_model_stand_together() -> None:
    rows = [
        row(who, model=model, ttr_last_96=0.5)
        for who in ("original", "trained")
        for model in ("tiny", "large")
    ]
    (panel,) = bars_figure(rows, ["ttr_last_96"]).panels
    assert isinstance(panel, Bars)
    assert [bar.label for bar in panel.bars] == [
        "original model, tiny",
        "tiny",
        "original model, large",
        "large",
    ]


def test_the_colours_of_agreement_leave_out_the_diagonal() -> None:
    agreement = Agreement(
        model="m", labels=("a", "b"), trials=(None, "t"), matrix=((1.0, 0.7), (0.6, 1.0)), num_positions=10
    )
    heat = _heat(agreement_figure(agreement))
    assert (heat.low, heat.high) == (0.6, 0.7)
    assert heat.texts == (("1.000", "0.700"), ("0.600", "1.000"))
    assert (heat.shade(0.6), heat.shade(0.65), heat.shade(1.0)) == pytest.approx((0.0, 0.5, 1.0))


def test_no_agreement_is_said_to_be_missing() -> None:
    assert "no agreement" in agreement_figure(None).missing


def test_pooled_texts_are_the_grids_last_column_and_gaps_are_empty() -> None:
    rows = [
        row("original", domain="pooled", rep_3=0.5),
        row("original", domain="news", rep_3=0.4),
        row("trained", train_text="news", domain="news", rep_3=0.1),
    ]
    heat = _heat(grid_figure(rows, ["rep_3"]))
    assert heat.column_labels == ("news", "pooled")
    assert heat.values == ((0.4, 0.5), (0.1, None)) and heat.texts[1] == ("0.100", "")


def test_without_wishes_ttr_stands_against_what_varies() -> None:
    rows = [row("trained", samples=n, epochs=100 / n) for n in (8, 32)]
    assert default_figures(rows)[0] == {"kind": "axis", "x": "samples", "y": "ttr_last_96"}
    assert default_figures(rows[:1])[0]["kind"] == "bars"


def test_the_table_shows_what_the_figures_are_about() -> None:
    assert figure_columns(FIGURES) == [
        "ttr_last_96",
        "ttr_last_96",
        "rep_3",
        "ttr_last_96",
        "top_1_agreement",
    ]


def test_figures_in_words_say_their_numbers() -> None:
    rows = [
        row("truth", ttr_last_96=0.7),
        *(row("trained", samples=n, ttr_last_96=n / 100) for n in (8, 2000)),
    ]
    text = alt_text(_panel(axis_figure(rows, "samples", ["ttr_last_96"])))
    assert "hyperfitted: 8: 0.08, 2,000: 20" in text and "level of true continuations: 0.7" in text
    (bars,) = bars_figure(rows, ["ttr_last_96"]).panels
    assert isinstance(bars, Bars) and "true continuations 0.700" in alt_text(bars)

"""Figures that read what lies beside the rows: curves, series, predictions."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from rayfit.errors import RayfitError
from rayfit.plan.declaration import FIGURES
from rayfit.plan.measurements import TextScores
from rayfit.records.storage import Storage
from rayfit.records.sweep import SweepRecord
from rayfit.report.figures import figures
from rayfit.report.figures.heat import grid_figure
from rayfit.report.figures.model import Figure, Heat, Panel
from tests.finished import Finished
from tests.unit.plan.examples import plan_of
from tests.unit.report.sweeps import DOMAINS, Kept, begin, data_type_plan, ended, measure_all


def _panels(figure: Figure) -> list[Panel]:
    assert all(isinstance(panel, Panel) for panel in figure.panels), figure.missing
    return [panel for panel in figure.panels if isinstance(panel, Panel)]


def _figure(record: SweepRecord, storage: Storage, kind: str) -> Figure:
    (figure,) = figures(msgspec.structs.replace(record, figures=({"kind": kind},)), storage)
    return figure


def test_the_grid_is_trained_on_by_evaluated_on(full: Kept) -> None:
    rows = [row for row in full.record.rows if row.decoding in (None, "greedy")]
    (heat,) = grid_figure(rows, ["ttr_last_96"]).panels
    assert isinstance(heat, Heat)
    assert heat.column_labels == (*DOMAINS, "pooled")
    assert heat.column_title == "evaluated on"
    assert heat.row_labels == (
        "true continuations",
        "original model",
        "hyperfitted, trained on docstrings",
        "hyperfitted, trained on topics",
    )
    assert heat.texts[2][:2] == ("0.660", "0.610") and heat.notes[2][0] == "± 0.014"
    assert heat.notes[1][0] == "0.170\u20130.230"
    assert (heat.low, heat.high) == pytest.approx((0.2, 0.7))


def test_curves_are_read_from_every_trial(full: Kept) -> None:
    curve = _figure(full.record, full.storage, "curve")
    train, validation, *_ = _panels(curve)
    assert len(train.lines) == 4 and train.lines[0].y == (3.2, 0.9, 0.2, 0.02)
    assert validation.lines[1].y[-1] == 8.5  # seed 1
    assert train.x_title == "epochs" and train.lines[0].x == (0.0, 5.0, 10.0, 20.0)
    assert [look.label for look in curve.legend] == ["trained on docstrings", "trained on topics"]


def test_a_trial_whose_curve_is_gone_has_no_line(full: Kept) -> None:
    first, *_ = full.storage.root.glob(f"trials/{full.record.trials[0]}/*/curve.parquet")
    first.unlink()
    train, *_ = _panels(_figure(full.record, full.storage, "curve"))
    assert len(train.lines) == 3


def test_kept_weights_give_a_panel_of_ttr_along_training(storage: Storage) -> None:
    plan = plan_of(storage, samples=(32,), num_updates=80, keep_every=5.0)
    made = Finished(storage, plan)
    made.train(plan.trials[0])
    ttr = {20: 0.4, 40: 0.5, 60: 0.55, None: 0.6}
    for spec in plan.measurements:
        told = isinstance(spec, TextScores) and spec.who == "trained"
        made.measure(spec, **({"ttr_last_96": ttr[spec.subject.update]} if told else {}))
    panel = _panels(_figure(made.record(), storage, "curve"))[-1]
    assert panel.lines[0].x == (5.0, 10.0, 15.0, 20.0) and panel.lines[0].y == (0.4, 0.5, 0.55, 0.6)
    assert [level.y for level in panel.levels] == [0.2, 0.66]


def test_histograms_pool_seeds_as_shares(full: Kept) -> None:
    first, second = _panels(_figure(full.record, full.storage, "overlap_histogram"))
    assert (first.title, second.title) == ("on docstrings", "on topics")
    original, trained, *_ = first.lines
    assert original.y[2] == 3 / 8 and original.y[9] == 1 / 8 and sum(original.y) == 1
    assert trained.y[4] == 5 / 8 and trained.x[-1] == 13 and trained.y[-1] == 0


def test_histograms_are_of_further_contexts_where_there_are_any(storage: Storage) -> None:
    plan = plan_of(storage, further_contexts=20)
    made = Finished(storage, plan)
    made.train(plan.trials[0])
    few = {"longest_overlap_histogram": {"9": 1}}
    many = {"longest_overlap_histogram": {"5": 3, "6": 1}, "original_longest_overlap_histogram": {"2": 4}}
    for spec in plan.measurements:
        series = {}
        if spec.who == "trained" and isinstance(spec, TextScores):
            series = many if spec.planned.further else few
        made.measure(spec, series=series)
    (panel,) = _panels(_figure(made.record(), storage, "overlap_histogram"))
    original, trained = panel.lines
    assert (original.look.label, trained.look.label) == ("original model", "hyperfitted")
    assert original.y == (0, 0, 1, 0) and trained.y == (0, 0, 0, 0, 0, 0.75, 0.25, 0)


def test_ttr_by_position_is_the_mean_over_seeds_and_not_of_the_truth(full: Kept) -> None:
    figure = _figure(full.record, full.storage, "ttr_by_position")
    panel = _panels(figure)[0]
    line = next(line for line in panel.lines if line.look.label == "trained on docstrings, greedy")
    assert line.x[0] == 96.0 and len(line.x) == 40
    assert line.y[:2] == pytest.approx((0.66, 0.661))
    assert not any("true" in look.label for look in figure.legend)


def test_calibration_of_the_original_beside_that_of_trials_once_for_all_decodings(full: Kept) -> None:
    figure = _figure(full.record, full.storage, "calibration")
    first, second = _panels(figure)
    assert (first.title, second.title) == ("on docstrings", "on topics")
    ideal, original, *trained = first.lines
    assert ideal.x == ideal.y == (0.0, 1.0)
    assert original.x == pytest.approx((0.45, 29 / 30)) and original.y == pytest.approx(original.x)
    assert original.look.label == "original model, on docstrings: ECE 0.000"
    # Of 40 positions 33.5 are expected to be right by their confidence, and a fifth of that are.
    assert [line.look.label for line in trained] == [
        f"trained on {text}, on docstrings: ECE {0.8 * 33.5 / 40:.3f}" for text in DOMAINS
    ]
    assert trained[0].y == pytest.approx((0.09, 29 / 150))
    assert trained[0].bounds[1] == pytest.approx((29 / 150, 29 / 150))
    assert len(figure.legend) == 7


def test_calibration_leaves_out_what_lies_along_training(storage: Storage) -> None:
    made = begin(storage, data_type_plan(storage, keep_every=10.0))
    measure_all(made)
    (panel,) = _panels(_figure(ended(made), storage, "calibration"))
    assert [line.look.label for line in panel.lines] == [
        "perfect calibration",
        "original model: ECE 0.000",
        "hyperfitted: ECE 0.670",
    ]


def test_every_kind_of_figure_says_what_is_missing_where_nothing_is_there(storage: Storage) -> None:
    wanted = tuple({"kind": kind, "x": "samples", "y": "ttr_last_96"} for kind in FIGURES)
    record = msgspec.structs.replace(Finished(storage, plan_of(storage)).begun(), figures=wanted)
    drawn = figures(record, storage)
    assert [figure.kind for figure in drawn] == list(FIGURES)
    assert all(figure.missing and not figure.panels for figure in drawn)


def test_an_unknown_kind_is_refused_with_the_nearest(storage: Storage) -> None:
    record = Finished(storage, plan_of(storage)).begun()
    with pytest.raises(RayfitError, match="did you mean 'bars'"):
        _figure(record, storage, "bar")


def test_figures_are_of_the_texts_and_not_of_prompts(with_prompts: Kept, tmp_path: Path) -> None:
    record = with_prompts.record
    assert {row.domain for row in record.rows} == {"docstrings", "mine"}
    rows = tuple(row for row in record.rows if row.domain != "mine")
    alone = msgspec.structs.replace(record, rows=rows, prompts=None)
    assert figures(record, with_prompts.storage) == figures(alone, with_prompts.storage)

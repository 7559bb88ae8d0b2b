"""The table of columns: everything is in it, and what is added there is seen everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rayfit import columns
from rayfit.columns import (
    COLUMNS,
    Column,
    axes,
    check_columns,
    column,
    names,
    of_score,
    published,
    value_text,
)
from rayfit.config import option_type
from rayfit.errors import RayfitError
from rayfit.plan.declaration import Sweep
from rayfit.records.storage import Storage
from rayfit.report.html import render_report
from rayfit.report.markdown import render_markdown
from rayfit.report.paper import paper_numbers
from rayfit.report.table import render_table
from rayfit.scores import SCORES, Score
from rayfit.track.parent import note
from tests.finished import Finished
from tests.rows import row
from tests.unit.plan.examples import plan_of
from tests.unit.report.sweeps import with_rows

# As the lists of columns were before there was one table.
DECLARED = (
    *("model", "train_text", "arm", "adapter", "samples", "epochs", "updates", "update", "batch_size"),
    *("learning_rate", "stop_at_train_loss", "repeat", "domain", "decoding"),
)
SEEDS = ("seed", "order_seed", "training_seed")
ABOUT = (
    *("who", "trial_id", "baseline_decoding", "status", "reason"),
    *("trainable_parameters", "hyperfitted", "early_stopped", "train_loss_floor"),
    *("minutes", "overhead_seconds"),
)
CORE = (
    *("train_loss", "train_accuracy", "validation_loss", "entropy_nats", "ttr_last_96"),
    *("longest_overlap_mean", "original_longest_overlap_mean"),
)
AXES = (
    *("model", "dataset", "samples", "batch_size", "num_updates", "epochs", "learning_rate", "adapter"),
    *("seeds", "sample_seeds", "order_seeds", "training_seeds"),
)


def test_every_column_that_a_list_had_is_in_the_table() -> None:
    assert tuple(columns.telling_columns()) == DECLARED
    assert tuple(columns.seed_columns()) == SEEDS
    assert set(columns.columns_of_rows()) == {*DECLARED, *SEEDS, *ABOUT, *CORE}
    assert tuple(names(lambda each: each.role == "measured" and bool(each.always))) == CORE
    assert set(SCORES) == set(names(lambda each: each.role == "measured"))
    assert sorted(axes()) == sorted(AXES)
    assert columns.columns_of_evaluations() == ["domain", "decoding"]
    assert names(lambda each: each.has_sections) == ["model", "domain"]


def test_parameters_of_mlflow_have_their_own_names() -> None:
    told = {name: column(name).parameter for name in columns.parameter_columns()}
    assert told["updates"] == "num_updates" and told["seed"] == "sample_seed"
    assert {name for name, parameter in told.items() if name != parameter} == {"updates", "seed"}
    # what is kept along training is no fact of a trial, and an arm is a tag
    assert not {"update", "arm", "domain", "decoding"} & told.keys()


def test_every_axis_is_an_option_that_takes_several_values() -> None:
    assert all(option_type(axis)[1] for axis in axes())


def test_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(RayfitError, match="did you mean 'batch_size'"):
        column("batchsize")
    with pytest.raises(RayfitError, match=r"sweep: plot: .*did you mean 'ttr_last_96'"):
        check_columns("samples", "ttr_last")
    for words in ("arm", "decoding", "preferred_128"):
        with pytest.raises(RayfitError, match=f"got '{words}'"):
            check_columns(words)
    check_columns("samples", "ttr_last_96", "minutes")


def test_figures_of_a_sweep_name_scores_that_there_are() -> None:
    scales = {scale: {"samples": (8,), "num_updates": (4,)} for scale in ("ci", "laptop", "paper")}
    sweep: dict[str, Any] = {"kind": "tried", "question": "?", "source": "", "varies": (), "scales": scales}
    Sweep(**sweep, figures=({"kind": "bars", "y": ("rep_4", "ttr_last_96")},))
    with pytest.raises(RayfitError, match=r"sweep tried: figures, y: .*did you mean 'rep_4'"):
        Sweep(**sweep, figures=({"kind": "bars", "y": "rep4"},))


def test_every_quantity_of_the_paper_is_shown_under_some_name() -> None:
    for number in paper_numbers():
        assert published(number.quantity).title
    assert published("preferred_128").title == "preferred, 128 tokens"
    assert published("mmlu_accuracy_lost").title == "mmlu accuracy lost"
    assert column("mauve") is published("mauve")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("samples", 2000, "2,000"),
        ("learning_rate", 1e-6, "1e-06"),
        ("epochs", 6.25, "6.25"),
        ("trainable_parameters", 1_066_112, "1.07M"),
        ("trainable_parameters", 99_999, "99,999"),
        ("minutes", 123.44, "123.4"),
        ("decoding", "greedy:num_new_tokens=224,block=W1", "greedy, blocked (W1)"),
        ("train_loss", 1.23456, "1.235"),
        ("validation_loss", 8.1234, "8.12"),
        ("validation_loss", 0.81234, "0.812"),
        ("ttr_last_96", 0.61249, "0.612"),
        ("longest_overlap_mean", 7.04, "7.0"),
        ("perplexity_texts", 2413.2, "2,413"),
        ("longest_overlap_max", 47, "47"),
        ("matched_temperature", 0.6512, "0.651"),
        ("ttr_last_96", None, ""),
    ],
)
def test_values_as_columns_write_them(name: str, value: object, text: str) -> None:
    assert column(name).text(value) == text


def test_values_in_labels() -> None:
    assert column("batch_size").words(8) == "batch 8"
    assert column("domain").words("news") == "on news"
    assert column("decoding").words("greedy:num_new_tokens=224", with_length=True) == "greedy, 224 tokens"
    assert column("batch_size").words(None) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2000, "2,000"),
        (20.0, "20"),
        (0.003, "0.003"),
        (1e-6, "1e-06"),
        ("news", "news"),
        (True, "True"),
        (0.15, "0.15"),
    ],
)
def test_values_in_words(value: object, text: str) -> None:
    assert value_text(value) == text


WARMUP = Column(
    name="warm_up",
    title="warm-up updates",
    short="warm-up",
    role="declared",
    tells=True,
    phrase="warm-up {}",
    about="updates before the full rate",
)
SURPRISE = of_score(
    Score("surprise", "share of tokens", "lower", "a test", "made up", title="the surprise", always="first")
)


@pytest.mark.parametrize("added", [WARMUP, SURPRISE], ids=["column", "score"])
def test_one_entry_reaches_every_table(
    added: Column, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal, Markdown, the report and MLflow's note draw one board, and that asks this table alone."""
    storage = Storage(tmp_path)
    rows = [
        row("trained", trial_id=f"t{place}", samples=8 + place, ttr_last_96=0.5, **{added.name: number})
        for place, number in enumerate((0.25, 0.75))
    ]
    figures = ({"kind": "bars", "y": "ttr_last_96"},)
    record = with_rows(Finished(storage, plan_of(storage)).begun(), rows, figures=figures)

    def drawn() -> dict[str, str]:
        return {
            "terminal": render_table(record),
            "Markdown": render_markdown(record),
            "report": render_report(record, storage),
            "note": note(record),
        }

    numbers = [added.text(0.25), added.text(0.75)]
    assert not any(added.title in text or added.heading in text for text in drawn().values())
    monkeypatch.setitem(COLUMNS, added.name, added)
    for place, text in drawn().items():
        title = added.heading if place == "terminal" else added.title
        assert title in text and all(number in text for number in numbers), place

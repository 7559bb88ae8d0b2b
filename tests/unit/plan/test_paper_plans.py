"""Every sweep at scale paper: the trials and updates that the paper's text implies."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rayfit.columns import names
from rayfit.config import Options
from rayfit.plan.plan import Plan
from rayfit.plan.planning import make_plan
from rayfit.plan.show import render_plan
from rayfit.records.storage import Storage
from rayfit.report.board import board, wanted_columns
from rayfit.sweep.tasks import script_name
from tests.finished import Finished
from tests.rows import row
from tests.unit.fresh import ROOT
from tests.unit.plan.examples import plan_of

KINDS = sorted(path.stem for path in (ROOT / "sweeps").glob("[!_]*.py"))
DOMAINS = ["fiction", "wikipedia", "bbc-news"]


def _plan(kind: str, tmp_path: Path, **options: Any) -> Plan:
    sweep = importlib.import_module(f"sweeps.{kind}").SWEEP
    assert sweep.kind == kind
    return make_plan(sweep, Options(scale="paper", **options), Storage(tmp_path / "runs"))


def _one(values: Any) -> Any:
    (value,) = set(values)
    return value


def test_there_is_a_sweep_for_every_experiment() -> None:
    expected = "data_quantity data_type decoding instruct model_size recipe shuffle_seed training_curve"
    assert expected.split() == KINDS
    assert script_name(str(ROOT / "sweeps" / "recipe.py")) == "sweeps/recipe.py"


@pytest.mark.parametrize("kind", KINDS)
def test_300_contexts_and_128_validation_rows_per_domain(kind: str, tmp_path: Path) -> None:
    plan = _plan(kind, tmp_path)
    domains = [domain.name for domain in plan.domains_of(plan.trials[0])]
    assert domains == DOMAINS
    assert plan.evaluation.num_contexts * len(domains) == 300
    assert plan.evaluation.num_validation == 128
    assert (plan.options.context_length, plan.options.sequence_length) == (32, 256)


@pytest.mark.parametrize(
    "kind", ["training_curve", "model_size", "data_type", "shuffle_seed", "instruct", "decoding"]
)
def test_the_paper_s_recipe(kind: str, tmp_path: Path) -> None:
    trials = _plan(kind, tmp_path).trials
    assert _one(trial.selection.samples for trial in trials) == 2000
    assert _one(trial.recipe.num_updates for trial in trials) == 5000
    assert _one(trial.epochs for trial in trials) == 20
    assert _one(trial.recipe.learning_rate for trial in trials) == 1e-6
    assert _one(trial.recipe.batch_size for trial in trials) == 8
    recipe = trials[0].recipe
    assert (recipe.optimizer, recipe.weight_decay, recipe.gradient_clipping, recipe.dropout) == (
        "adam",
        0,
        0,
        0,
    )


def test_quantity_holds_5000_updates_and_separates_samples_from_epochs(tmp_path: Path) -> None:
    trials = _plan("data_quantity", tmp_path).trials
    told: dict[str, list[tuple[int, int]]] = {}
    for trial in trials:
        told.setdefault(trial.arm, []).append((trial.selection.samples, trial.recipe.num_updates))
    grid = [8, 16, 32, 64, 128, 250, 500, 1000, 2000]
    assert told["constant updates"] == [(samples, 5000) for samples in grid]
    assert told["constant epochs"] == [(samples, 20 * samples // 8) for samples in grid]
    assert told["single pass"] == [(2000, 250)]
    assert told["its twin on few rows"] == [(128, 250)]


def test_the_curve_keeps_the_weights_of_every_epoch(tmp_path: Path) -> None:
    plan = _plan("training_curve", tmp_path)
    assert plan.trials[0].kept_updates(plan.products.keep_every) == tuple(range(250, 5000, 250))


def test_sizes_have_their_workers_and_three_decodings(tmp_path: Path) -> None:
    plan = _plan("model_size", tmp_path, use_gpu=True)
    assert {name: (each.num_workers, each.zero_stage) for name, each in plan.placements.items()} == {
        "tinyllama-1.1b-intermediate-step-1431k-3t": (1, 1),
        "deepseek-llm-7b-base": (2, 3),
        "llama-3.1-8b": (2, 3),
        "llama-3.1-70b": (8, 3),
    }
    assert [decoding.kind for decoding in plan.decodings] == ["greedy", "nucleus", "greedy"]
    assert _one(decoding.num_new_tokens for decoding in plan.decodings) == 224
    assert plan.options.further_contexts == 1000
    forced = _plan("model_size", tmp_path, num_workers=2, zero_stage=2)
    assert {(each.num_workers, each.zero_stage) for each in forced.placements.values()} == {(2, 2)}


def test_data_type_is_three_by_three_with_three_seeds(tmp_path: Path) -> None:
    plan = _plan("data_type", tmp_path)
    assert len(plan.trials) == 3 * 3
    assert [domain.name for domain in plan.domains] == DOMAINS
    cells = {(trial.domain.name, domain.name) for trial in plan.trials for domain in plan.domains_of(trial)}
    assert len(cells) == 9


def test_shuffles_share_their_samples(tmp_path: Path) -> None:
    trials = {trial.arm: trial for trial in _plan("shuffle_seed", tmp_path).trials}
    first = trials["first order"]
    assert trials["same order again"].repeat == 1
    assert trials["same order again"].selection == first.selection
    assert trials["two exchanged"].selection.exchange == (0, 1)
    shuffled, other = trials["all shuffled"].selection, trials["another seed"].selection
    assert shuffled.sample_seed == first.selection.sample_seed != other.sample_seed
    assert len({first.selection.order_seed, shuffled.order_seed}) == 2
    assert other.order_seed != first.selection.order_seed


def test_instruct_pairs(tmp_path: Path) -> None:
    names = [trial.model.name for trial in _plan("instruct", tmp_path).trials]
    assert len(names) == 8 and len(set(names)) == 8


def test_the_recipe_s_arms(tmp_path: Path) -> None:
    trials = _plan("recipe", tmp_path).trials
    arms: dict[str, list[Any]] = {}
    for trial in trials:
        arms.setdefault(trial.arm, []).append(trial)
    assert len(arms["all weights"]) == 4 * 3 * 4
    for name, adapter in (("LoRA", "lora"), ("LoRA in last blocks", "lora-last")):
        assert {trial.recipe.learning_rate for trial in arms[name]} == {1e-4, 1e-3}
        assert _one(trial.recipe.num_updates for trial in arms[name]) == 5000
        assert _one(trial.recipe.adapter.text for trial in arms[name]) == adapter
    to_loss = [trial for name, own in arms.items() if "equal loss" in name for trial in own]
    assert len(to_loss) == 3
    assert _one(trial.recipe.stop_at_train_loss for trial in to_loss) == 0.1


def test_decodings_of_the_paper_and_of_its_critics(tmp_path: Path) -> None:
    plan = _plan("decoding", tmp_path)
    kinds = [decoding.kind for decoding in plan.decodings]
    assert {"greedy", "nucleus", "temperature", "min_p", "matched"} == set(kinds)
    assert plan.matched_decodings and all(decoding.kind != "matched" for decoding in plan.decodings_of(None))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_printed_says_how_much_is_generated(kind: str, tmp_path: Path) -> None:
    plan = _plan(kind, tmp_path)
    text = render_plan(plan, Storage(tmp_path / "runs"))
    assert "100 contexts per text (300 in all)" in text
    # Of each model two decodings of the original and three of the trial, on three texts, 100 and 1,000 contexts each.
    further = kind == "model_size"
    assert ("and up to 1,000 further ones of each text" in text) is further
    if further:
        assert "; 120 generations of 66,000 texts" in text
    gated = {model.name for model in plan.models if model.name.startswith("llama")}
    noted = {line.split(": ")[1] for line in text.splitlines() if line.startswith("note: llama")}
    assert noted == gated


WANTED = {
    "training_curve": "train_loss validation_loss train_accuracy entropy_nats ttr_last_96 perplexity_texts",
    "model_size": "ttr_first_96 ttr_last_96 self_bleu_mean dataset_bleu_mean perplexity_texts",
    "data_type": "ttr_first_96 ttr_last_96 rep_3 longest_overlap_mean perplexity_texts entropy_nats",
    "shuffle_seed": "top_1_agreement",
    "instruct": "perplexity_texts ttr_first_96 ttr_last_96 top_1_mass top_3_mass",
    "recipe": "trainable_parameters train_loss",
    "decoding": "matched_temperature calibration_error",
    "data_quantity": "ttr_last_96 train_loss",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_s_table_has_what_the_experiment_is_about(kind: str, tmp_path: Path) -> None:
    sweep = _plan(kind, tmp_path).sweep
    storage = Storage(tmp_path / "small")
    record = msgspec.structs.replace(
        Finished(storage, plan_of(storage)).begun(),
        sweep_kind=kind,
        scores=tuple(sweep.scores),
        figures=tuple(dict(figure) for figure in sweep.figures),
    )
    measured = dict.fromkeys(names(lambda each: each.role == "measured"), 0.5)
    rows = [
        row("trained", trial_id=str(place), trainable_parameters=1000 * (place + 1), **measured)
        for place in range(2)
    ]
    table = board(rows, wanted_columns(record))
    assert set(WANTED[kind].split()) <= {column.name for column in (*table.declared, *table.scores)}

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayfit.config import Options
from rayfit.errors import RayfitError
from rayfit.plan.declaration import Sweep
from rayfit.plan.plan import Plan
from rayfit.plan.planning import make_plan
from rayfit.plan.precision import cpu_precision
from rayfit.plan.trials import curve_updates
from rayfit.records.storage import Storage
from tests.unit.plan.examples import SWEEP, plan_of, write_model


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def _plan(storage: Storage, **options: Any) -> Plan:
    return make_plan(SWEEP, Options(**options), storage)


class TestDefaults:
    def test_the_embedded_default_is_the_laptop_s(self, storage: Storage) -> None:
        plan = _plan(storage)
        assert [trial.selection.samples for trial in plan.trials] == [8, 32, 128]
        assert {(trial.recipe.num_updates, trial.recipe.learning_rate) for trial in plan.trials} == {
            (400, 3e-3)
        }
        assert {(trial.recipe.precision, trial.recipe.batch_size) for trial in plan.trials} == {
            (cpu_precision().name, 8)
        }
        assert [trial.epochs for trial in plan.trials] == [400, 100, 25]
        assert (
            plan.evaluation.num_validation,
            plan.evaluation.num_contexts,
            plan.evaluation.eval_precision,
        ) == (64, 100, "fp32")
        assert (plan.domains[0].settings.span_characters, plan.domains[0].settings.sequence_length) == (
            1000,
            256,
        )

    def test_ci_is_small(self, storage: Storage) -> None:
        plan = _plan(storage, scale="ci")
        assert max(trial.selection.samples for trial in plan.trials) <= 32
        assert {trial.recipe.num_updates for trial in plan.trials} == {192}

    def test_a_real_model_gets_the_paper_s_recipe(self, storage: Storage) -> None:
        plan = _plan(storage, model="someone/model", dataset="pydoc")
        assert plan.options.scale == "paper"
        assert {(trial.recipe.num_updates, trial.recipe.learning_rate) for trial in plan.trials} == {
            (5000, 1e-6)
        }
        assert (plan.evaluation.num_validation, plan.evaluation.num_contexts) == (128, 100)

    def test_the_paper_s_recipe_is_adam_without_decay_clipping_and_dropout(self, storage: Storage) -> None:
        recipe = plan_of(storage).trials[0].recipe.declared()
        assert recipe["betas"] == [0.9, 0.999] and recipe["epsilon"] == 1e-8
        assert recipe["weight_decay"] == recipe["gradient_clipping"] == recipe["dropout"] == 0

    def test_what_the_command_line_says_wins(self, storage: Storage, tmp_path: Path) -> None:
        model = write_model(tmp_path / "model")
        plan = _plan(
            storage,
            model=str(model),
            dataset="pydoc",
            samples=(16,),
            num_updates=640,
            contexts=5,
            validation_rows=6,
        )
        (trial,) = plan.trials
        assert (trial.selection.samples, trial.recipe.num_updates) == (16, 640)
        assert (plan.evaluation.num_contexts, plan.evaluation.num_validation) == (5, 6)
        # and what it does not say follows from the model and the scale
        assert trial.recipe.learning_rate == 1e-6 and plan.options.scale == "laptop"


def test_trials_are_all_combinations_in_the_order_given(storage: Storage) -> None:
    plan = _plan(storage, samples=(32, 8), seeds=(1, 0))
    found = [(trial.selection.samples, trial.selection.sample_seed) for trial in plan.trials]
    assert found == [(32, 1), (32, 0), (8, 1), (8, 0)]
    assert all(trial.selection.sample_seed == trial.selection.order_seed for trial in plan.trials)


def test_an_axis_that_the_sweep_does_not_vary_takes_one_value(storage: Storage) -> None:
    with pytest.raises(
        RayfitError, match=r"--learning-rate: the sweep data_quantity varies --samples, --seeds"
    ):
        _plan(storage, learning_rate=(1e-3, 2e-3))


def test_decodings_that_are_the_same_under_two_names_are_refused(storage: Storage) -> None:
    with pytest.raises(RayfitError, match=r"--decodings: the same decoding is given more than once"):
        _plan(storage, decodings=("nucleus", "nucleus:top_p=0.9"))


def test_an_unknown_decoding_is_refused_in_the_plan(storage: Storage) -> None:
    with pytest.raises(RayfitError, match=r"got 'gredy'; did you mean 'greedy'\?"):
        _plan(storage, decodings=("gredy",))


def test_text_that_the_embedded_model_was_pretrained_on_cannot_be_held_out(storage: Storage) -> None:
    with pytest.raises(
        RayfitError, match=r"--held-out-share: expected at most 0.2, .*pydoc-1m never saw.* got 0.3"
    ):
        _plan(storage, held_out_share=0.3)
    assert _plan(storage, held_out_share=0.1).domains[0].settings.held_out_share == 0.1
    assert (
        _plan(storage, model="someone/model", dataset="pydoc", held_out_share=0.3)
        .domains[0]
        .settings.held_out_share
        == 0.3
    )


def test_planning_leaves_nothing_on_disk(storage: Storage) -> None:
    _plan(storage)
    assert not storage.root.exists()


@given(st.integers(1, 6000), st.integers(1, 7000))
def test_the_curve_has_the_first_the_last_and_every_kth_update(num_updates: int, every: int) -> None:
    updates = curve_updates(num_updates, 8, every)
    assert updates[0] == 0 and updates[-1] == num_updates
    assert updates == sorted(set(updates))
    assert all(update % every == 0 for update in updates[:-1])
    assert max(b - a for a, b in pairwise(updates)) <= every


@given(st.integers(300, 100_000))
def test_the_curve_has_about_twenty_points_by_default(num_updates: int) -> None:
    assert 11 <= len(curve_updates(num_updates, 8, None)) <= 21


@given(st.integers(1, 10_000), st.integers(1, 64))
def test_the_curve_costs_at_most_a_tenth_of_the_updates(num_updates: int, batch_size: int) -> None:
    points = len(curve_updates(num_updates, batch_size, None))
    # An update is three passes over each of its rows, a point one over 16 rows of each text; two points there must be.
    assert points == 2 or points * 2 * 16 <= 0.1 * num_updates * 3 * batch_size + 1e-6


@pytest.mark.parametrize(
    ("num_updates", "points"), [(400, 21), (5000, 21), (192, 14), (128, 9), (7, 2), (1, 2)]
)
def test_points_of_the_curve_for_usual_numbers_of_updates(num_updates: int, points: int) -> None:
    assert len(curve_updates(num_updates, 8, None)) == points


class TestDeclaration:
    GOOD: dict[str, Any] = {  # noqa: RUF012 - arguments of a frozen class
        "kind": "example",
        "question": "Does it?",
        "source": "section 1",
        "varies": ("samples",),
        "scales": {scale: {"samples": (8,), "num_updates": 10} for scale in ("ci", "laptop", "paper")},
    }

    def test_what_is_held_at_every_scale_and_what_a_scale_gives(self, storage: Storage) -> None:
        scales = {**self.GOOD["scales"], "ci": {"samples": (4,), "num_updates": 5}}
        sweep = Sweep(**{**self.GOOD, "scales": scales}, holds={"learning_rate": (5e-4,), "contexts": 7})
        ci, laptop = (make_plan(sweep, Options(scale=scale), storage) for scale in ("ci", "laptop"))
        assert (ci.trials[0].recipe.num_updates, laptop.trials[0].recipe.num_updates) == (5, 10)
        assert ci.evaluation.num_contexts == laptop.evaluation.num_contexts == 7
        assert laptop.trials[0].recipe.learning_rate == 5e-4
        given = make_plan(sweep, Options(scale="ci", contexts=8), storage)
        assert given.evaluation.num_contexts == 8

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"varies": ("sample",)}, "varies: expected one of .*got 'sample'; did you mean 'samples'"),
            (
                {"scales": {"ci": {}, "laptop": {}}},
                "scales has no 'paper'; every sweep runs at ci, laptop, paper",
            ),
            ({"scales": {**GOOD["scales"], "labtop": {}}}, "got 'labtop'; did you mean 'laptop'"),
            ({"scales": {**GOOD["scales"], "ci": {"num_update": 3}}}, "did you mean 'num_updates'"),
            ({"holds": {"sampels": (8,)}}, "got 'sampels'; did you mean 'samples'"),
            (
                {"holds": {"sequence_length": 4}},
                "got 'sequence_length'",
            ),  # has a default of its own, which would win
        ],
    )
    def test_a_slip_in_a_declaration_is_refused_at_once(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(RayfitError, match=message):
            Sweep(**{**self.GOOD, **changes})

    def test_a_sweep_that_does_not_say_how_many_is_refused(self, storage: Storage) -> None:
        scales = {scale: {"num_updates": 10} for scale in ("ci", "laptop", "paper")}
        with pytest.raises(RayfitError, match="--samples"):
            make_plan(Sweep(**{**self.GOOD, "scales": scales}), Options(), storage)

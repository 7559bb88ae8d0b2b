"""From options and arms to trials."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rayfit.config import Options
from rayfit.errors import RayfitError
from rayfit.plan.declaration import AtScale, Sweep
from rayfit.plan.plan import Plan
from rayfit.plan.planning import make_plan
from rayfit.plan.show import render_plan
from rayfit.records.storage import Storage

GRID: dict[str, Any] = {"samples": (8, 32), "num_updates": 100}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def _sweep(**changes: Any) -> Sweep:
    given: dict[str, Any] = {
        "kind": "tried",
        "question": "Which?",
        "source": "a test",
        "varies": ("model", "dataset", "samples", "batch_size", "epochs", "adapter", "seeds"),
        "scales": {"ci": GRID, "laptop": GRID, "paper": GRID},
    }
    return Sweep(**{**given, **changes})


def _plan(storage: Storage, sweep: Sweep | None = None, **options: Any) -> Plan:
    return make_plan(sweep or _sweep(), Options(scale="ci", **options), storage)


def _told(plan: Plan) -> list[tuple[str, int, int, int]]:
    return [
        (trial.arm, trial.selection.samples, trial.recipe.num_updates, trial.recipe.batch_size)
        for trial in plan.trials
    ]


def test_every_combination_is_a_trial(storage: Storage) -> None:
    plan = _plan(storage, model=("pydoc-0.5m", "pydoc-1m"), dataset=("docstrings", "code"), seeds=(0, 1))
    found = {
        (trial.model.name, trial.domain.name, trial.selection.samples, trial.selection.sample_seed)
        for trial in plan.trials
    }
    assert len(found) == len(plan.trials) == 2 * 2 * 2 * 2
    assert len({trial.id for trial in plan.trials}) == 16


@pytest.mark.parametrize(
    ("samples", "batch_size", "epochs", "updates"),
    [
        (32, 8, 25.0, 100),
        (8, 8, 25.0, 25),
        (10, 8, 1.0, 2),
        (10, 8, 4.0, 5),
        (2000, 8, 20.0, 5000),
        (2, 8, 0.1, 1),
    ],
)
def test_epochs_are_updates(
    storage: Storage, samples: int, batch_size: int, epochs: float, updates: int
) -> None:
    (trial,) = _plan(storage, samples=samples, epochs=epochs, batch_size=batch_size).trials
    assert trial.recipe.num_updates == updates
    assert trial.epochs >= epochs


def test_epochs_at_the_command_line_replace_declared_updates(storage: Storage) -> None:
    assert _told(_plan(storage, epochs=(2.0, 4.0), samples=8)) == [
        ("hyperfitted", 8, 2, 8),
        ("hyperfitted", 8, 4, 8),
    ]
    with pytest.raises(RayfitError, match="--num-updates and --epochs: each decides the other"):
        Options(num_updates=3, epochs=1.0)


ARMS = _sweep(
    arms={
        "grid": {},
        "long": {"epochs": AtScale(ci=25, laptop=50, paper=100)},
        "wide": {"samples": (64,), "batch_size": 16},
        "again": {"repeat": 1, "order_offset": 1000, "exchange": (0, 7)},
    }
)


class TestArms:
    def test_each_is_the_grid_with_its_own_changes(self, storage: Storage) -> None:
        assert _told(_plan(storage, ARMS)) == [
            ("grid", 8, 100, 8),
            ("grid", 32, 100, 8),
            ("long", 8, 25, 8),
            ("long", 32, 100, 8),
            ("wide", 64, 100, 16),
            ("again", 8, 100, 8),
            ("again", 32, 100, 8),
        ]
        again = _plan(storage, ARMS).trials[-1]
        assert (again.repeat, again.selection.order_seed, again.selection.exchange) == (1, 1000, (0, 7))

    def test_the_same_training_in_two_arms_is_trained_once(self, storage: Storage) -> None:
        plan = _plan(storage, ARMS)
        assert plan.trials[1].id == plan.trials[3].id
        assert len(plan.unique_trials) == len(plan.trials) - 1

    def test_the_command_line_wins_over_what_arms_say(self, storage: Storage) -> None:
        assert {arm for arm, *_ in _told(_plan(storage, ARMS, samples=16))} == {"grid", "long", "again"}
        assert {arm for arm, *_ in _told(_plan(storage, ARMS, num_updates=9))} == {"grid", "wide", "again"}

    def test_they_can_be_named(self, storage: Storage) -> None:
        assert _told(_plan(storage, ARMS, arms="wide", samples=16)) == [("wide", 64, 100, 16)]
        with pytest.raises(RayfitError, match=r"--arms: .*'wild'; did you mean 'wide'"):
            _plan(storage, ARMS, arms="wild")

    def test_none_that_is_left_is_an_error(self, storage: Storage) -> None:
        sweep = _sweep(arms={"wide": {"samples": 64}})
        with pytest.raises(
            RayfitError, match="every arm of tried says one of samples itself; name one with --arms: wide"
        ):
            _plan(storage, sweep, samples=3)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"sampels": 3}, "did you mean 'samples'"),
            ({"samples": 3.5}, "samples must be int"),
            ({"scale": "ci"}, "got 'scale'"),
        ],
    )
    def test_a_slip_is_refused_at_once(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(RayfitError, match=message):
            _sweep(arms={"grid": changes})

    def test_a_name_that_could_not_be_given_is_refused(self) -> None:
        with pytest.raises(RayfitError, match="arm 'a, b': --arms takes several names with commas"):
            _sweep(arms={"a, b": {}})

    def test_of_several_values_those_that_are_given_are_taken(self, storage: Storage) -> None:
        sweep = _sweep(arms={"rates": {"learning_rate": (1e-3, 1e-2)}})
        for given, taken in (
            ((1e-2,), {1e-2}),
            ((5.0,), {1e-3, 1e-2}),
            (None, {1e-3, 1e-2}),
        ):
            trials = _plan(storage, sweep, arms=("rates",), samples=8, learning_rate=given).trials
            assert {trial.recipe.learning_rate for trial in trials} == taken

    @pytest.mark.parametrize("exchange", [(0, 8), (3, 3), (-1, 2)])
    def test_positions_that_cannot_change_places(self, storage: Storage, exchange: tuple[int, int]) -> None:
        sweep = _sweep(arms={"swapped": {"exchange": exchange}})
        with pytest.raises(RayfitError, match="two different samples from 0 to 7"):
            _plan(storage, sweep)


class TestSeeds:
    @pytest.mark.parametrize(
        ("options", "pairs"),
        [
            ({}, [(0, 0)]),
            ({"seeds": (0, 3)}, [(0, 0), (3, 3)]),
            ({"sample_seeds": (1, 2)}, [(1, 0), (2, 0)]),
            ({"order_seeds": (1, 2), "seeds": 5}, [(5, 1), (5, 2)]),
            ({"sample_seeds": (1, 2), "order_seeds": (3, 4)}, [(1, 3), (1, 4), (2, 3), (2, 4)]),
        ],
    )
    def test_samples_and_order(
        self, storage: Storage, options: dict[str, Any], pairs: list[tuple[int, int]]
    ) -> None:
        sweep = _sweep(varies=("seeds", "sample_seeds", "order_seeds"))
        plan = _plan(storage, sweep, samples=8, **options)
        assert [(each.selection.sample_seed, each.selection.order_seed) for each in plan.trials] == pairs

    def test_training_draws_nothing_where_all_weights_are_trained(self, storage: Storage) -> None:
        with pytest.raises(
            RayfitError, match=r"--training-seeds: .* draws no random number .* only with --adapter"
        ):
            _plan(storage, training_seeds=1)

    def test_adapters_have_a_training_seed(self, storage: Storage) -> None:
        trials = [_plan(storage, samples=8, adapter="lora", training_seeds=seed).trials[0] for seed in (0, 1)]
        default = _plan(storage, samples=8, adapter="lora").trials[0]
        assert trials[0].id == default.id != trials[1].id


class TestStopping:
    def test_a_loss_that_cannot_be_reached_is_refused(self, storage: Storage) -> None:
        with pytest.raises(RayfitError, match="--stop-at-train-loss: expected more than"):
            _plan(storage, stop_at_train_loss=0.001)

    def test_it_is_part_of_the_id(self, storage: Storage) -> None:
        stopping, plain = _plan(storage, stop_at_train_loss=0.5), _plan(storage)
        assert stopping.trials[0].id != plain.trials[0].id

    def test_weights_cannot_be_kept_at_updates_that_may_not_come(self, storage: Storage) -> None:
        with pytest.raises(RayfitError, match="may not reach"):
            _plan(storage, stop_at_train_loss=0.5, keep_every=1.0)


@pytest.mark.parametrize("keep_every", [0.3, 1.0, 2.5, 1000.0])
@pytest.mark.parametrize("samples", [3, 8, 30, 100])
def test_kept_weights_are_those_at_the_first_update_past_every_so_many_epochs(
    storage: Storage, samples: int, keep_every: float
) -> None:
    (trial,) = _plan(storage, samples=samples).trials
    last = trial.recipe.num_updates
    expected, due = [], keep_every
    for update in range(1, last):
        if update * 8 / samples >= due - 1e-9:
            expected.append(update)
            while due <= update * 8 / samples + 1e-9:
                due += keep_every
    assert list(trial.kept_updates(keep_every)) == expected
    assert trial.kept_updates(None) == ()


def test_which_weights_are_kept_is_in_no_id(storage: Storage) -> None:
    one, other = _plan(storage), _plan(storage, keep_every=1.0)
    assert [trial.id for trial in one.trials] == [trial.id for trial in other.trials]
    assert one.sweep_id != other.sweep_id


def test_two_texts_of_one_name_are_refused(storage: Storage, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "books.txt").write_text("a long text " * 500)
    with pytest.raises(RayfitError, match=r"--dataset: .* are both called books"):
        _plan(storage, dataset=(str(tmp_path / "a" / "books.txt"), str(tmp_path / "b" / "books.txt")))


def test_a_trial_s_key_tells_pending_trials_apart(storage: Storage) -> None:
    plan = _plan(storage, model="someone/model", dataset="pydoc", samples=(8, 32))
    assert plan.pending
    assert len({trial.key for trial in plan.trials}) == len(plan.unique_trials) == 2
    assert dataclasses.replace(plan.trials[0], arm="other").key == plan.trials[0].key


def test_what_replicates_seeds_replicates_each_of_them(storage: Storage) -> None:
    found = _plan(storage, samples=8, sample_seeds=(0, 1), order_seeds=(3, 4)).trials
    seeds = [(trial.selection.sample_seed, trial.selection.order_seed) for trial in found]
    assert seeds == [(0, 3), (0, 4), (1, 3), (1, 4)]
    trained = _plan(storage, samples=8, adapter="lora", training_seeds=(1, 2)).trials
    assert [trial.recipe.training_seed for trial in trained] == [1, 2]


def test_a_text_that_is_not_there_is_refused_by_the_option_that_names_it(storage: Storage) -> None:
    for option, flag in (("dataset", "--dataset"), ("eval_datasets", "--eval-datasets")):
        with pytest.raises(
            RayfitError, match=f"^{flag}: there is no preset and no file called 'cod'; did you mean"
        ):
            _plan(storage, samples=8, **{option: ("cod",)})


class TestOverruled:
    """What is given and does not reach an arm is said."""

    ARMS: ClassVar[dict[str, Any]] = {
        "plain": {},
        "few": {"samples": 8},
        "some": {"learning_rate": (1e-3, 2e-3)},
        "long": {"epochs": 5.0},
    }

    def _notes(self, storage: Storage, **given: Any) -> tuple[str, ...]:
        sweep = _sweep(arms=self.ARMS, varies=("samples", "learning_rate"))
        return _plan(storage, sweep, arms=tuple(self.ARMS), **given).overruled

    def test_a_value_that_an_arm_says_itself(self, storage: Storage) -> None:
        notes = self._notes(storage, samples=(8, 32))
        assert "--samples 32 does not reach the arm 'few', which says --samples 8 itself" in notes
        assert not any("'plain'" in note for note in notes)

    def test_values_that_narrow_an_arm_reach_it(self, storage: Storage) -> None:
        assert not any("'some'" in note for note in self._notes(storage, learning_rate=(1e-3,)))
        (note,) = [note for note in self._notes(storage, learning_rate=(5e-4,)) if "'some'" in note]
        assert note.startswith("--learning-rate 0.0005 does not reach") and "0.001,0.002 itself" in note

    def test_either_length_decides_the_other(self, storage: Storage) -> None:
        (note,) = [note for note in self._notes(storage, num_updates=(40,)) if "'long'" in note]
        assert note == "--num-updates 40 does not reach the arm 'long', which says --epochs 5.0 itself"

    def test_the_plan_shows_it(self, storage: Storage) -> None:
        sweep = _sweep(arms=self.ARMS, varies=("samples", "learning_rate"))
        plan = _plan(storage, sweep, arms=("few",), samples=(64,))
        assert "note: --samples 64 does not reach the arm 'few'" in render_plan(plan, storage)

"""A training that was interrupted, wherever and by whomever, ends with the bits of one that was not."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rayfit.plan.deepspeed import deepspeed_config
from rayfit.records.states import all_states
from rayfit.records.storage import Storage
from tests.states import CASES, Case, numbers, train
from tests.tiny import random_rows, save_tiny_llama
from tests.workers import run_workers

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def calm_alone(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> list[Any]:
    """What one worker makes of every case when nothing happens."""
    return run_workers(train, 1, model_path, tmp_path_factory.mktemp("calm"), CASES, None, "attempt-a-0")[0]


@pytest.mark.parametrize("world", [1, 2])
def test_an_interrupted_training_goes_on_in_new_processes_with_the_same_bits(
    tmp_path: Path, model_path: Path, calm_alone: list[Any], world: int
) -> None:
    calm = calm_alone
    if world > 1:
        calm = run_workers(train, world, model_path, tmp_path / "calm", CASES, None, "attempt-a-0")[0]
    root = tmp_path / "interrupted"
    first = run_workers(train, world, model_path, root, CASES, 5, "attempt-a-1")
    for rank in first:
        assert {result[0] for result in rank} == {"interrupted after update 5, whose state is kept"}
    second = run_workers(train, world, model_path, root, CASES, None, "attempt-b-2")
    for number, case in enumerate(CASES):
        digest, points, stretches, kept, _ = second[0][number]
        assert digest == calm[number][0], f"stage {case[0]} {case[1]} {case[2]} with {world} workers"
        assert numbers(points) == numbers(calm[number][1])
        assert points[:3] == first[0][number][1], "points keep their times"
        assert [stretch.after for stretch in stretches] == [0, 5]
        assert kept[2].path == "attempt-a-1/weights-2", "what an earlier try has kept is not made again"
        assert kept[2].weights_sha256 == calm[number][3][2].weights_sha256
        assert calm[number][2] == ()
        assert all(earlier.seconds <= later.seconds for earlier, later in itertools.pairwise(points))
    assert all(rank[number][0] == second[0][number][0] for rank in second for number in range(len(CASES)))


# Every number of workers and every stage writes a state, and every other reads it.


def write_states(model_path: Path, root: Path, world: int, stages: tuple[int, ...]) -> None:
    cases: list[Case] = [(stage, "fp32", {}) for stage in stages]
    train(model_path, root / str(world), cases, 3, "attempt-a-1")


def read_states(
    model_path: Path, root: Path, target: Path, worlds: tuple[int, ...], stages: tuple[int, ...]
) -> list[tuple[str, float]]:
    """Load every state into an engine of each stage here, and save what that has; the writer's name and a loss."""
    import torch.distributed as dist

    from rayfit.train.engine import build_engine
    from rayfit.train.measure import measure
    from rayfit.train.reset import restore, take_snapshot
    from rayfit.train.state import load_state, take_state, write_state

    rank, world = dist.get_rank(), dist.get_world_size()
    found = []
    for stage in stages:
        config = deepspeed_config(zero_stage=stage, precision="fp32", batch_size=8, num_workers=world)
        engine = build_engine(model_path, config)
        snapshot = take_snapshot(engine)
        for writer in worlds:
            for number, state in _states(root / str(writer), stages):
                restore(engine, snapshot, seed=0)
                assert load_state(engine, [state.folder / part.file for part in state.record.parts], 3) == ""
                name = f"{writer} workers at stage {number} to {world} at stage {stage}"
                loss = measure(engine, random_rows(6, 24, seed=7), batch_rows=2).loss
                write_state(take_state(engine), target / name / f"{rank}.safetensors")
                found.append((name, loss))
    return found


def _states(root: Path, stages: tuple[int, ...]) -> list[tuple[int, Any]]:
    storage = Storage(root)
    return [(stage, all_states(storage, f"case-{number}")[0]) for number, stage in enumerate(stages)]


def _whole(files: list[Path]) -> dict[str, torch.Tensor]:
    """All masters and moments of a state, put together from its parts."""
    parts: dict[str, list[tuple[int, torch.Tensor]]] = {}
    for file in files:
        for key, tensor in load_file(file).items():
            if not key.startswith("generators"):
                what, _, rest = key.partition("[")
                place, _, name = rest.partition("] ")
                parts.setdefault(f"{what} {name}", []).append((int(place.split(":")[0]), tensor))
    return {
        key: torch.cat([tensor for _, tensor in sorted(found, key=lambda x: x[0])])
        for key, found in parts.items()
    }


@pytest.mark.parametrize(
    ("worlds", "stages"),
    [((1, 3), (0, 1, 3)), pytest.param((1, 2, 3), (0, 1, 2, 3), marks=pytest.mark.faults)],
    ids=["some", "all"],
)
def test_a_state_is_read_by_any_number_of_workers_at_any_stage(
    tmp_path: Path, model_path: Path, worlds: tuple[int, ...], stages: tuple[int, ...]
) -> None:
    for world in worlds:
        run_workers(write_states, world, model_path, tmp_path / "written", world, stages)
    written = {
        f"{world} workers at stage {stage}": state
        for world in worlds
        for stage, state in _states(tmp_path / "written" / str(world), stages)
    }
    expected = {
        name: _whole([state.folder / part.file for part in state.record.parts])
        for name, state in written.items()
    }
    losses: dict[str, set[float]] = {}
    for world in worlds:
        target = tmp_path / "read" / str(world)
        ranks = run_workers(read_states, world, model_path, tmp_path / "written", target, worlds, stages)
        assert len(ranks[0]) == len(worlds) * len(stages) ** 2
        for name, loss in ranks[0]:
            writer = name.partition(" to ")[0]
            got = _whole(sorted((target / name).iterdir()))
            assert got.keys() == expected[writer].keys()
            for key, tensor in got.items():
                assert torch.equal(tensor, expected[writer][key]), f"{key} of {name}"
            losses.setdefault(writer, set()).add(loss)
    for writer, found in losses.items():
        assert max(found) - min(found) < 1e-6, f"compute weights after a state of {writer} differ"
    assert len({min(found) for found in losses.values()}) > 1, "placements round differently"

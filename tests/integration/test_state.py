"""A training that was interrupted, wherever and by whomever, ends with the bits of one that was not."""

from __future__ import annotations

import itertools
import logging
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rayfit.errors import TrialInterrupted
from rayfit.plan.adapters import Adapter
from rayfit.plan.deepspeed import deepspeed_config
from rayfit.records.states import MANIFEST, StateOf, all_states, kept_points
from rayfit.records.storage import Storage
from rayfit.records.trial import Placed, Point, Stretch
from tests.patience import wait_for
from tests.tiny import random_rows, save_tiny_llama
from tests.workers import run_workers

pytestmark = pytest.mark.integration

UPDATES, KEEP = 11, (2,)
# Stage, precision, and what else.
CASES: list[tuple[int, str, dict[str, Any]]] = [
    *((stage, precision, {}) for precision in ("fp32", "bf16") for stage in (0, 1, 2, 3)),
    *((stage, "bf16", {"micro_batch": 3, "offload": "cpu"}) for stage in (2, 3)),
    (1, "bf16", {"use_gpu": True}),  # its Adam is one kernel
    (1, "bf16", {"adapter": Adapter(kind="lora", rank=4, alpha=8)}),
    (3, "fp32", {"adapter": Adapter(kind="lora", rank=4, alpha=8)}),
]
ONE = CASES[1:2]


class Told:
    """What a keeper told the queue."""

    def __init__(self) -> None:
        self.whole: list[int] = []
        self.trouble: list[str] = []

    def __call__(self, update: int, trouble: str) -> None:
        if trouble:
            self.trouble.append(trouble)
        else:
            self.whole.append(update)


def keeper_of(
    storage: Path, trial: str, *, stop_at: int | None, told: Callable[[int, str], None], **changes: Any
) -> Any:
    """A keeper as a worker of a group has it; `stop_at`: notice is given after that update."""
    from rayfit.train.keeping import Keeping, StateKeeper

    asked: list[int] = []

    def is_noticed() -> bool:
        asked.append(1)
        return stop_at is not None and len(asked) >= stop_at

    keeping = Keeping(
        storage=storage,
        of=StateOf(trial=trial, base_weights=None, rows="rows", num_validation=3, export_dtype="fp32"),
        keep=KEEP,
        edition=1,
        launch="first",
        anew=False,
        token="aa",
        stretch=Stretch(
            after=0,
            placement=Placed(
                num_workers=1, zero_stage=1, use_gpu=False, trials_per_group=0, zero_stage_run=1, note=""
            ),
            device="cpu",
            worker_group="group",
        ),
        seconds=None,
        every=None,
    )
    return StateKeeper(replace(keeping, **changes), is_noticed=is_noticed, tell=told)


def _task(model_path: Path, folder: Path, settings: dict[str, Any]) -> Any:
    from rayfit.train.loop import TrainTask
    from rayfit.train.schedule import Schedule

    return TrainTask(
        schedule=Schedule(
            batch_size=8,
            num_updates=UPDATES,
            learning_rate=1e-3,
            order_seed=3,
            model_path=model_path,
            export_dtype="fp32",
            keep=KEEP,
            micro_batch=settings.get("micro_batch"),
        ),
        train_ids=random_rows(12, 24, seed=3),
        validation_ids=random_rows(3, 24, seed=9),
        measured_updates=(0, 2, 4, 8, UPDATES),
        checkpoint_path=folder / "checkpoint",
    )


def train(
    model_path: Path,
    root: Path,
    cases: list[tuple[int, str, dict[str, Any]]],
    stop_at: int | None,
    attempt: str,
    every: int | None = None,
    **changes: Any,
) -> list[Any]:
    """Train every case under a keeper, in one process group: digest, points and stretches, or why it was interrupted."""
    import torch.distributed as dist

    from rayfit.train import keeping, loop
    from rayfit.train.engine import build_engine
    from rayfit.train.reset import take_snapshot

    keeping.LOOK_SECONDS, keeping.SHARE_OF_STATES = 0.0, 1.0  # each update is looked at
    results = []
    for number, (stage, precision, settings) in enumerate(cases):
        config = deepspeed_config(
            zero_stage=stage,
            precision=precision,
            batch_size=8,
            num_workers=dist.get_world_size(),
            **{"use_gpu": False, **{key: value for key, value in settings.items() if key != "adapter"}},
        )
        engine = build_engine(model_path, config, settings.get("adapter"))
        snapshot, told = take_snapshot(engine), Told()
        trial = f"case-{number}"
        folder = root / "trials" / trial / attempt
        keeper = keeper_of(root, trial, stop_at=stop_at, told=told, every=every, **changes)
        points: list[Point] = []
        try:
            task = _task(model_path, folder, settings)
            done = loop.train_trial(engine, snapshot, task, points.append, keeper)
            results.append((done.weights_sha256, points, done.stretches, done.kept, told.whole))
            parts = [getattr(done.spent, name) for name in done.spent.__struct_fields__]
            assert min(parts) >= 0 and (not points or 0 <= sum(parts) - points[-1].seconds < 60)
        except TrialInterrupted as error:
            results.append((str(error), points, (), {}, told.whole))
    return results


def _numbers(points: list[Point]) -> list[tuple[Any, ...]]:
    return [(p.update, p.epoch, p.train_loss, p.validation_loss, p.gradient_norm) for p in points]


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
        assert _numbers(points) == _numbers(calm[number][1])
        assert points[:3] == first[0][number][1], "points keep their times"
        assert [stretch.after for stretch in stretches] == [0, 5]
        assert kept[2].path == "attempt-a-1/weights-2", "what an earlier try has kept is not made again"
        assert kept[2].weights_sha256 == calm[number][3][2].weights_sha256
        assert calm[number][2] == ()
        assert all(earlier.seconds <= later.seconds for earlier, later in itertools.pairwise(points))
    assert all(rank[number][0] == second[0][number][0] for rank in second for number in range(len(CASES)))


# Every number of workers and every stage writes a state, and every other reads it.


def write_states(model_path: Path, root: Path, world: int, stages: tuple[int, ...]) -> None:
    cases: list[tuple[int, str, dict[str, Any]]] = [(stage, "fp32", {}) for stage in stages]
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


# What becomes of states that are not whole.


def go_on(model_path: Path, roots: list[Path]) -> list[tuple[Any, list[str]]]:
    """Train on from what lies in each folder, one after another in one engine; results and warnings."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("rayfit.states")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    results = []
    for root in roots:
        said.clear()
        (result,) = train(model_path, root, ONE, None, "attempt-b-2")
        results.append((result, list(said)))
    return results


def _cut(file: Path) -> str:
    file.write_bytes(file.read_bytes()[:-1])
    return f"{file.name} has {file.stat().st_size} bytes, not {file.stat().st_size + 1}"


def _alter(file: Path) -> str:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return f"{file.name} has another content"


def _remove(file: Path) -> str:
    file.unlink()
    return f"{file.name} is gone"


def test_the_newest_state_that_is_whole_is_used_and_what_is_wrong_with_others_is_named(
    tmp_path: Path, model_path: Path, calm_alone: list[Any]
) -> None:
    calm, first = calm_alone[1], tmp_path / "first"
    ((_, points, _, _, whole),) = run_workers(train, 1, model_path, first, ONE, 9, "attempt-a-1", 3)[0]
    assert whole == [3, 6, 9] and points[-1].update == 8
    assert list(kept_points(Storage(first), "case-0").values()) == points
    kept = [state.record.update for state in all_states(Storage(first), "case-0")]
    assert kept == [9, 6], "two are kept"
    damages = {"cut": _cut, "altered": _alter, "gone": _remove}
    roots, words = [], []
    for name, damage in damages.items():
        root = tmp_path / name
        shutil.copytree(first, root)
        words.append(
            damage(next(iter(all_states(Storage(root), "case-0"))).folder / "rank-0-of-1.safetensors")
        )
        roots.append(root)
    for name in ("no manifest", "cut manifest", "none"):
        root = tmp_path / name
        shutil.copytree(first, root)
        newest, older = all_states(Storage(root), "case-0")
        if name == "cut manifest":
            (newest.folder / MANIFEST).write_text((newest.folder / MANIFEST).read_text()[:-20])
        else:
            (newest.folder / MANIFEST).unlink()
        if name == "none":
            _alter(older.folder / "rank-0-of-1.safetensors")
        roots.append(root)
    words += ["going on after update 6", f"{MANIFEST} was cut short", "has another content"]
    results = run_workers(go_on, 1, model_path, roots)[0]
    for root, word, (result, said) in zip(roots, words, results, strict=True):
        assert result[0] == calm[0], root.name
        assert any(word in line for line in said), (root.name, word, said)
        begun = [stretch.after for stretch in result[2]]
        assert begun == ([] if root.name == "none" else [0, 6]), root.name
        assert _numbers(result[1]) == _numbers(calm[1])
        if begun:
            assert result[1][: len(points)] == points, "what was measured before keeps its time"


def test_a_full_disk_costs_states_and_no_training_and_the_export_waits_for_room(
    tmp_path: Path, model_path: Path, calm_alone: list[Any]
) -> None:
    small, waits = tmp_path / "small", tmp_path / "waits"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "small", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        with ThreadPoolExecutor(1) as beside:
            training = beside.submit(run_workers, train_on_a_small_disk, 1, model_path, small, waits)
            wait_for(lambda: waits.exists() or training.done(), "an export that waits", lambda: 0.0)
            assert not training.done(), training.result()
            subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
            digest, whole, trouble = training.result()[0]
        exported = weights_of(small / "attempt" / "checkpoint")
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert digest == calm_alone[1][0] == exported and whole == []
    assert "the state after update 4 cannot be written" in trouble[0]
    assert "there is no room for what was trained" in trouble[-1]


def weights_of(folder: Path) -> str:
    """The digest of exported weights, loaded as anyone would."""
    from transformers import AutoModelForCausalLM

    from rayfit.train.directory import weights_digest

    return weights_digest(dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters()))


def train_on_a_small_disk(model_path: Path, root: Path, waits: Path) -> tuple[str, list[int], list[str]]:
    """Train where there is no room for states nor weights; `waits` is there once that is waited for."""
    from rayfit.train import room
    from rayfit.train.engine import build_engine
    from rayfit.train.loop import train_trial
    from rayfit.train.reset import take_snapshot

    room.AGAIN_SECONDS = 0.1
    told = Told()

    def tell(update: int, trouble: str) -> None:
        told(update, trouble)
        if "no room for what was trained" in trouble:
            waits.touch()

    config = deepspeed_config(zero_stage=1, precision="fp32", batch_size=8, num_workers=1)
    engine = build_engine(model_path, config)
    keeper = keeper_of(root, "case-0", stop_at=None, told=tell, every=4)
    task = replace(_task(model_path, root / "attempt", {}), measured_updates=(0, UPDATES))
    task = replace(task, schedule=replace(task.schedule, keep=()))
    result = train_trial(engine, take_snapshot(engine), task, lambda _: None, keeper)
    return result.weights_sha256, told.whole, told.trouble


def train_where_rank_1_cannot_write(model_path: Path, root: Path) -> tuple[str, list[int], list[str]]:
    """Two workers, one of which has no room for its part of any state but that after update 9."""
    import errno

    import torch.distributed as dist

    from rayfit.train import keeping, writing
    from rayfit.train.engine import build_engine
    from rayfit.train.loop import train_trial
    from rayfit.train.reset import take_snapshot

    written = writing._written

    def full(taken: Any, path: Path) -> Any:
        if dist.get_rank() == 1 and not path.parent.name.startswith("000000009"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(taken, path)

    writing._written = full
    keeping.LOOK_SECONDS = 0.0
    config = deepspeed_config(zero_stage=1, precision="fp32", batch_size=8, num_workers=2)
    engine, told = build_engine(model_path, config), Told()
    keeper = keeper_of(root, "case-0", stop_at=None, told=told, every=3)
    task = _task(model_path, root / "trials" / "case-0" / "attempt-a-1", {})
    result = train_trial(engine, take_snapshot(engine), task, lambda _: None, keeper)
    return result.weights_sha256, told.whole, told.trouble


def test_a_worker_that_cannot_write_its_part_costs_the_state_alone(tmp_path: Path, model_path: Path) -> None:
    first, second = run_workers(train_where_rank_1_cannot_write, 2, model_path, tmp_path)
    assert first[0] == second[0] and first[1] == [9]
    assert any("was not written by every worker" in trouble for trouble in first[2])
    assert [state.record.update for state in all_states(Storage(tmp_path), "case-0")] == [9]


def train_by_the_clock(model_path: Path, root: Path) -> list[Any]:
    return train(model_path, root, ONE, None, "attempt-a-1", seconds=0.0)


def test_states_are_kept_by_the_clock_too(tmp_path: Path, model_path: Path, calm_alone: list[Any]) -> None:
    ((digest, *_, whole),) = run_workers(train_by_the_clock, 1, model_path, tmp_path)[0]
    assert digest == calm_alone[1][0]
    assert whole == sorted(set(whole)) and whole[0] == 1, "as soon as the one before is written"


def train_anew(model_path: Path, root: Path) -> list[Any]:
    """As a launch with `--fresh`, which is interrupted too, and then as the launch goes on after a death."""
    changes = {"launch": "second", "anew": True}
    first = train(model_path, root, ONE, 5, "attempt-b-2", 2, **changes)
    kept = [state.record.update for state in all_states(Storage(root), "case-0")]
    return [first, kept, train(model_path, root, ONE, None, "attempt-b-3", 2, **changes)]


def test_states_of_an_earlier_launch_do_not_stand_in_the_way_of_a_training_anew(
    tmp_path: Path, model_path: Path, calm_alone: list[Any]
) -> None:
    run_workers(train, 1, model_path, tmp_path, ONE, 9, "attempt-a-1", 3)
    first, kept, second = run_workers(train_anew, 1, model_path, tmp_path)[0]
    assert first[0][0] == "interrupted after update 5, whose state is kept" and first[0][2] == ()
    assert kept == [5, 4], "and none of updates 6 and 9"
    digest, points, stretches, *_ = second[0]
    assert digest == calm_alone[1][0] and _numbers(points) == _numbers(calm_alone[1][1])
    assert [stretch.after for stretch in stretches] == [0, 5]

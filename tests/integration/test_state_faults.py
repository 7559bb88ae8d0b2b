"""What becomes of a training when its states are not whole, cannot be written, or are another's."""

from __future__ import annotations

import logging
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rayfit.plan.deepspeed import deepspeed_config
from rayfit.records.states import MANIFEST, all_states, kept_points
from rayfit.records.storage import Storage
from tests.patience import wait_for
from tests.states import ONE, UPDATES, Told, keeper_of, numbers, task_of, train
from tests.tiny import save_tiny_llama
from tests.workers import run_workers

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Any:
    """What comes out when nothing happens."""
    return run_workers(train, 1, model_path, tmp_path_factory.mktemp("calm"), ONE, None, "attempt-a-0")[0][0]


def go_on(model_path: Path, roots: list[Path]) -> list[tuple[Any, list[str]]]:
    """Train on from what lies in each folder, one after another in one engine; results and warnings."""
    said: list[str] = []

    class Keeps(logging.Handler):
        """What is logged, as text."""

        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    log = logging.getLogger("rayfit.states")
    log.addHandler(Keeps())
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
    tmp_path: Path, model_path: Path, calm: Any
) -> None:
    first = tmp_path / "first"
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
        assert numbers(result[1]) == numbers(calm[1])
        if begun:
            assert result[1][: len(points)] == points, "what was measured before keeps its time"


def test_a_full_disk_costs_states_and_no_training_and_the_export_waits_for_room(
    tmp_path: Path, model_path: Path, calm: Any
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
    assert digest == calm[0] == exported and whole == []
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
    task = replace(task_of(model_path, root / "attempt", {}), measured_updates=(0, UPDATES))
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
    task = task_of(model_path, root / "trials" / "case-0" / "attempt-a-1", {})
    result = train_trial(engine, take_snapshot(engine), task, lambda _: None, keeper)
    return result.weights_sha256, told.whole, told.trouble


def test_a_worker_that_cannot_write_its_part_costs_the_state_alone(tmp_path: Path, model_path: Path) -> None:
    first, second = run_workers(train_where_rank_1_cannot_write, 2, model_path, tmp_path)
    assert first[0] == second[0] and first[1] == [9]
    assert any("was not written by every worker" in trouble for trouble in first[2])
    assert [state.record.update for state in all_states(Storage(tmp_path), "case-0")] == [9]


def train_what_others_hold(model_path: Path, root: Path) -> list[Any]:
    return train(model_path, root, ONE, None, "attempt-a-1", 3, may_write=lambda: False)


def test_workers_whose_trial_was_taken_over_write_no_state_and_remove_none(
    tmp_path: Path, model_path: Path
) -> None:
    run_workers(train, 1, model_path, tmp_path, ONE, 9, "attempt-a-1", 3)
    before = [state.record for state in all_states(Storage(tmp_path), "case-0")]
    ((*_, whole),) = run_workers(train_what_others_hold, 1, model_path, tmp_path)[0]
    assert whole == [] and [state.record for state in all_states(Storage(tmp_path), "case-0")] == before


def train_by_the_clock(model_path: Path, root: Path) -> list[Any]:
    return train(model_path, root, ONE, None, "attempt-a-1", seconds=0.0)


def test_states_are_kept_by_the_clock_too(tmp_path: Path, model_path: Path, calm: Any) -> None:
    ((digest, *_, whole),) = run_workers(train_by_the_clock, 1, model_path, tmp_path)[0]
    assert digest == calm[0]
    assert whole == sorted(set(whole)) and whole[0] == 1, "as soon as the one before is written"


def train_anew(model_path: Path, root: Path) -> list[Any]:
    """As a launch with `--fresh`, which is interrupted too, and then as the launch goes on after a death."""
    changes = {"launch": "second", "anew": True}
    first = train(model_path, root, ONE, 5, "attempt-b-2", 2, **changes)
    kept = [state.record.update for state in all_states(Storage(root), "case-0")]
    return [first, kept, train(model_path, root, ONE, None, "attempt-b-3", 2, **changes)]


def test_states_of_an_earlier_launch_do_not_stand_in_the_way_of_a_training_anew(
    tmp_path: Path, model_path: Path, calm: Any
) -> None:
    run_workers(train, 1, model_path, tmp_path, ONE, 9, "attempt-a-1", 3)
    first, kept, second = run_workers(train_anew, 1, model_path, tmp_path)[0]
    assert first[0][0] == "interrupted after update 5, whose state is kept" and first[0][2] == ()
    assert kept == [5, 4], "and none of updates 6 and 9"
    digest, points, stretches, *_ = second[0]
    assert digest == calm[0] and numbers(points) == numbers(calm[1])
    assert [stretch.after for stretch in stretches] == [0, 5]

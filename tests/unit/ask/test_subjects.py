"""Models and trials found by what a person types, and what is said where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rayfit.ask.request import Request, Subject
from rayfit.ask.subjects import subjects_of
from rayfit.ask.trials import find_trial
from rayfit.decoding import Decoding
from rayfit.errors import RayfitError
from rayfit.plan.sources import model_files
from rayfit.records.storage import Storage
from tests.unit.ask.conftest import Models, put_made_model

LOCAL = "local-n8-0123456789ab"


def found(storage: Storage, *named: tuple[str, str]) -> list[Subject]:
    return subjects_of(Request(prompts=("x",), named=named, decoding=Decoding(), storage=storage))


def refusal(storage: Storage, *named: tuple[str, str]) -> str:
    with pytest.raises(RayfitError) as caught:
        found(storage, *named)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("text", [LOCAL, "local-n8", "0123456789ab"])
def test_a_trial_is_found_by_its_id_and_by_either_end_of_it(storage: Storage, text: str) -> None:
    assert find_trial(storage, text, "--trial").id == LOCAL


def test_a_trial_alone_comes_after_its_original_model(storage: Storage, models: Models) -> None:
    before, after = found(storage, ("trial", LOCAL))
    assert before.path == models.original and before.trial is None
    assert after.path.resolve() == models.trained and after.trial is not None
    assert (before.title, after.title) == ("before: original, the original", f"after: {LOCAL}")


def test_a_made_original_is_in_the_storage_or_said_to_be_missing(storage: Storage, models: Models) -> None:
    message = refusal(storage, ("trial", "made"))
    assert "pydoc-0.5m, from which made-n8-00112233aabb started, is not in" in message
    assert "--model DIRECTORY --trial made-n8-00112233aabb" in message
    folder = put_made_model(storage, models.original)
    assert found(storage, ("trial", "made"))[0].path == folder


def test_a_local_original_is_known_by_its_content(storage: Storage, models: Models, tmp_path: Path) -> None:
    # written again in the same bytes it is the same model, and in others it is not
    kept = {path: (path.read_bytes(), path.stat()) for path in model_files(models.original)}
    config = models.original / "config.json"
    try:
        for path in kept:
            os.utime(path, ns=(1, 1))
        assert found(storage, ("trial", LOCAL))[0].path == models.original
        config.write_bytes(config.read_bytes().replace(b"silu", b"gelu"))
        assert "is in no directory that this storage remembers" in refusal(storage, ("trial", LOCAL))
    finally:
        for path, (content, stat) in kept.items():
            path.write_bytes(content)
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_models_and_trials_stand_in_the_order_given(storage: Storage, models: Models) -> None:
    folder = put_made_model(storage, models.original)
    both = found(storage, ("trial", LOCAL), ("model", "pydoc-0.5m"))
    assert [subject.title for subject in both] == [LOCAL, "pydoc-0.5m"]
    assert both[1].path == folder
    twice = found(storage, ("model", str(models.trained)), ("model", str(models.original)))
    assert [subject.path for subject in twice] == [models.trained, models.original]
    two_trials = found(storage, ("trial", "local-n8"), ("trial", "local-n9"))
    assert [subject.title for subject in two_trials] == [LOCAL, "local-n9-ba9876543210"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("local", ["'local' fits 2 trials: local-n8-0123456789ab, local-n9-ba9876543210"]),
        ("local-n8-0123456789ac", ["no trial 'local-n8-0123456789ac'", f"did you mean '{LOCAL}'"]),
        ("n9", ["ids that hold it: local-n9-ba9876543210"]),
        ("zzz", ["`rayfit list` shows all"]),
        ("", ["no trial ''"]),
        ("failed", ["failed-n8-ffffffffffff failed and has no checkpoint: the loss was NaN"]),
        ("half", ["half-n8-eeeeeeeeeeee has not finished", "launch its sweep again"]),
    ],
)
def test_a_trial_that_cannot_be_meant(storage: Storage, text: str, parts: list[str]) -> None:
    message = refusal(storage, ("trial", text))
    assert message.startswith("--trial: ")
    for part in parts:
        assert part in message


def test_a_checkpoint_that_is_gone(storage: Storage) -> None:
    (checkpoint,) = storage.folder("trials", LOCAL).glob("attempt-*/checkpoint")
    checkpoint.unlink()
    assert "is no longer in" in refusal(storage, ("trial", LOCAL))


def test_a_storage_that_is_not_there_or_empty(tmp_path: Path) -> None:
    assert "--storage: there is no folder" in refusal(Storage(tmp_path / "nowhere"), ("trial", "x"))
    assert "which holds none" in refusal(Storage(tmp_path), ("trial", "x"))


def test_models_that_cannot_be_meant(storage: Storage, models: Models, tmp_path: Path) -> None:
    message = refusal(storage, ("model", "pydoc-0.5m"))
    assert "pydoc-0.5m is not made in" in message
    assert f"python sweeps/data_quantity.py --model pydoc-0.5m --scale ci --storage {storage.root}" in message
    storage.write("models", "pydoc-0.5m-000000000000", {"id": "pydoc-0.5m-000000000000"})
    assert "models/pydoc-0.5m-000000000000 was made by another Python" in refusal(
        storage, ("model", "pydoc-0.5m")
    )
    assert "did you mean 'pydoc-0.5m'" in refusal(storage, ("model", "pydoc-0.5"))
    assert "there is no directory" in refusal(storage, ("model", str(tmp_path / "none")))
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in refusal(storage, ("model", str(tmp_path / "empty")))
    trial = storage.folder("trials", LOCAL)
    assert f"for a trial give --trial {LOCAL}" in refusal(storage, ("model", str(trial)))
    assert "expected --model PATH or --trial ID" in refusal(storage)
    assert "at most 2 models" in refusal(storage, *[("model", str(models.original))] * 3)

"""A trial found by what a person types of its id, its checkpoint, and the model it started from."""

from __future__ import annotations

import sys
from pathlib import Path

from rayfit.console import Console
from rayfit.errors import RayfitError, nearest
from rayfit.identity import make_id
from rayfit.plan.sources import ModelSource, known_files, model_files
from rayfit.prepare.given_models import hub_model, local_model
from rayfit.records.storage import Storage
from rayfit.records.trial import TrialRecord
from rayfit.records.trials import product_path, read_failure

_MOST_LISTED = 4


def find_trial(storage: Storage, text: str, key: str) -> TrialRecord:
    """The record of the finished trial whose id is `text`, or begins or ends with it.

    Raises RayfitError, beginning with `key`, for none (with the nearest id), for several, and for one that failed or
    has not finished.
    """
    if not storage.root.is_dir():
        raise RayfitError(f"--storage: there is no folder {storage.root}; sweeps make it (default: ./runs)")
    names = sorted(path.name for path in (storage.root / "trials").glob("[!.]*") if path.is_dir())
    fitting = [name for name in names if name == text] or [
        name for name in names if text and (name.startswith(text) or name.endswith(text))
    ]
    if len(fitting) > 1:
        raise RayfitError(f"{key}: {text!r} fits {len(fitting)} trials: {_listed(fitting)}")
    if not fitting:
        neither = "there is no file and" if key == "--block" else "there is"
        raise RayfitError(f"{key}: {neither} no trial {text!r} in {storage.root}{_hint(text, names)}")
    record = storage.trial(fitting[0])
    if record is not None:
        return record
    failure = read_failure(storage, fitting[0])
    if failure is not None:
        raise RayfitError(f"{key}: {fitting[0]} failed and has no checkpoint: {failure.error}")
    raise RayfitError(f"{key}: {fitting[0]} has not finished; launch its sweep again to finish it")


def checkpoint_of(storage: Storage, record: TrialRecord) -> Path:
    """The directory of a trial's checkpoint, in fp32 where it was kept in several precisions."""
    found = sorted(
        (each for each in record.products if each.kind == "checkpoint"),
        key=lambda each: each.name,
        reverse=True,
    )
    if not found:
        raise RayfitError(f"--trial: {record.id} has kept no checkpoint")
    path = product_path(storage, record, found[0])
    if not (path / "config.json").is_file():
        raise RayfitError(f"--trial: the checkpoint of {record.id} is no longer in {path}")
    return path


def original_of(storage: Storage, record: TrialRecord) -> Path:
    """Return the directory of the model from which a trial started, with the same weights.

    A made model is in the storage; a local directory is known by the hash of its files; a hub model is in the local hub
    cache, or fetched again at its commit. Raises RayfitError where it is not found.
    """
    declared, name = record.declared["model"], record.model.name
    if record.model.kind == "made":
        identifier = make_id(name, declared)
        if storage.read("models", identifier) is not None:
            return storage.folder("models", identifier)
        why = f"is not in {storage.folder('models', identifier)}"
    elif record.model.kind == "local":
        found = known_files(storage).folder_of(declared["files_sha256"], model_files)
        if found is not None:
            return local_model(found, name, storage, Console(sys.stderr))
        why = "is in no directory that this storage remembers, or its files have changed"
    else:
        source = ModelSource(
            name=name, kind="hub", declared=declared, hub_id=declared["hub_id"], revision=declared["commit"]
        )
        return hub_model(source, storage, Console(sys.stderr))[0]
    raise RayfitError(
        f"--trial: {name}, from which {record.id} started, {why}; name the other side yourself: "
        f"--model DIRECTORY --trial {record.id}"
    )


def _hint(text: str, names: list[str]) -> str:
    close = nearest(text, names)
    within = [name for name in names if text and text in name]
    if not close and within:
        return f"; ids that hold it: {_listed(within)}"
    return close or ("; `rayfit list` shows all" if names else ", which holds none")


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")

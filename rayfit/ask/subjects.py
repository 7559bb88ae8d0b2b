"""The models that answer a request: directories found by path, preset, hub id or trial, before any of them is loaded."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from rayfit.ask.request import Request, Subject
from rayfit.ask.trials import checkpoint_of, find_trial, original_of
from rayfit.config import Options
from rayfit.console import Console
from rayfit.errors import RayfitError
from rayfit.plan.sources import resolve_model
from rayfit.prepare.given_models import hub_model, local_model
from rayfit.records.storage import RECORD, Storage

MOST_SUBJECTS = 2


def subjects_of(request: Request) -> list[Subject]:
    """The models of a request, in the order given; a single trial comes after its original model.

    Raises RayfitError for no model or more than two, and for one that is not there.
    """
    if not request.named:
        raise RayfitError("generate: expected --model PATH or --trial ID; got neither")
    if len(request.named) > MOST_SUBJECTS:
        raise RayfitError(
            f"generate: at most {MOST_SUBJECTS} models stand beside each other; got {len(request.named)}"
        )
    subjects = [
        _trial(request.storage, text) if kind == "trial" else _model(request.storage, text)
        for kind, text in request.named
    ]
    if len(subjects) == 1 and subjects[0].trial is not None:
        after = subjects[0]
        assert after.trial is not None
        before = Subject(
            f"before: {after.trial.model.name}, the original", original_of(request.storage, after.trial)
        )
        return [before, replace(after, title=f"after: {after.title}")]
    return subjects


def _trial(storage: Storage, text: str) -> Subject:
    record = find_trial(storage, text, "--trial")
    return Subject(record.id, checkpoint_of(storage, record), record)


def _model(storage: Storage, given: str) -> Subject:
    path = Path(given).expanduser()
    if (path / RECORD).is_file() and not (path / "config.json").is_file():
        raise RayfitError(
            f"--model: {path} is no model but a record's folder; for a trial give --trial {path.name}"
        )
    source = resolve_model(given, Options().revision, storage)
    if source.kind == "local":
        assert source.path is not None
        return Subject(given, local_model(source.path, source.name, storage, Console(sys.stderr)))
    if source.kind == "hub":
        return Subject(given, hub_model(source, storage, Console(sys.stderr))[0])
    if storage.read("models", source.made_id) is not None:
        return Subject(given, storage.folder("models", source.made_id))
    others = [identifier for identifier in storage.ids("models") if identifier.startswith(f"{given}-")]
    older = (
        f" (models/{others[-1]} was made by another Python or rayfit: give that folder to use it)"
        if others
        else ""
    )
    raise RayfitError(
        f"--model: {given} is not made in {storage.root} yet{older}; every sweep makes it first: "
        f"python sweeps/data_quantity.py --model {given} --scale ci --storage {storage.root}"
    )

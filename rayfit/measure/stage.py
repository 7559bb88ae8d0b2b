"""What every kind of measurement has in common: how it is run, recorded, and known to be current."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from rayfit.devices import device_name
from rayfit.errors import RayfitError
from rayfit.identity import digest, file_digest
from rayfit.measure.bench import Bench, weights_of
from rayfit.plan.measurements import Measurement
from rayfit.records.codec import encode
from rayfit.records.measurement import MeasurementRecord, Setting
from rayfit.records.provenance import git_commit, library_versions, now
from rayfit.records.storage import Storage, write_parquet
from rayfit.records.values import Entry
from rayfit.scores import Score


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What running a measurement gives: scores by name, series, frames to keep as files, what else to tell of it.

    `seconds`: what was spent on its parts before, where it has any.
    """

    scores: Mapping[str, Entry] = field(default_factory=dict)
    series: Mapping[str, Any] = field(default_factory=dict)
    frames: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    about: Mapping[str, Setting] = field(default_factory=dict)
    seconds: float = 0.0


def _none(_: Any) -> Iterable[Measurement]:
    return ()


def _always(_: Any, __: Bench) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A kind of measurement: what a sweep has of it, and how one is run, in a process that may hold a model.

    `kind` is that of its specs, and the name of its folder in the storage. `specs`: from a plan to its measurements, for
    a kind that a sweep adds (`Sweep.measures`); those of every sweep are the plan's own. `run` raises RayfitError for
    what the user can mend. A long one has parts, each done by itself before `run` puts them together: `num_parts` says
    how many, `run_part` keeps what it made in its `part_file`. `on_device`: whether `run` loads a model, as every
    `run_part` does; where it does not, no GPU is held for it. `scores` explains scores that no other kind has. `does`: a
    word for what is shown of it.
    """

    kind: str
    run: Callable[[Any, Bench], Measured]
    specs: Callable[[Any], Iterable[Measurement]] = _none
    num_parts: Callable[[Any, Bench], int] | None = None
    run_part: Callable[[Any, Bench, int], None] | None = None
    on_device: Callable[[Any, Bench], bool] = _always
    scores: tuple[Score, ...] = ()
    does: str = "measuring"


def measure(stage: Stage, spec: Measurement, bench: Bench) -> MeasurementRecord:
    """Run a measurement and publish its record, files first; files of an earlier record go.

    Raises RayfitError where the driver that planned it is of another rayfit, whose numbers may be others.
    """
    # The id came here with the spec; a copy computes it anew, from this process's versions.
    if replace(spec).id != spec.id:
        raise RayfitError(
            f"{spec.id} is of another rayfit than this worker's: install the driver's on all nodes of the cluster"
        )
    begin, storage = time.monotonic(), bench.storage
    before = storage.measurement(spec.kind, spec.id)
    inputs = _inputs(spec, storage)
    weights_sha256, edition = bench.weights_of(spec.subject)
    done = stage.run(spec, bench)
    folder = storage.folder(spec.kind, spec.id)
    files = {name: f"{name}-{secrets.token_hex(4)}.parquet" for name in done.frames}
    for name, frame in done.frames.items():
        write_parquet(folder / files[name], frame)
    planned = spec.planned
    record = MeasurementRecord(
        id=planned.id,
        kind=planned.kind,
        version=spec.version,
        who=planned.who,
        model=planned.model,
        trial_id=planned.trial_id,
        update=planned.update,
        domain=planned.domain,
        decoding=planned.decoding,
        matched_to=planned.matched_to,
        weights_sha256=weights_sha256,
        edition=edition,
        inputs={key: content for key, content in inputs.items() if content is not None},
        made_with=dict(spec.made_with),
        about={
            "export_dtype": spec.settings.export_dtype,
            "eval_precision": spec.settings.eval_precision,
            "device": device_name(bench.device),
            **done.about,
        },
        scores=dict(done.scores),
        series=dict(done.series),
        files=files,
        content=_content(folder, files, done.scores),
        seconds=round(done.seconds + time.monotonic() - begin, 3),
        finished_at=now(),
        versions=library_versions(),
        git_commit=git_commit(),
    )
    storage.write(spec.kind, spec.id, record)
    _remove_old(folder, before)
    return record


def is_current(spec: Measurement, storage: Storage, record: MeasurementRecord | None = None) -> bool:
    """True when a measurement is recorded, of the weights and from the inputs that are there now.

    `record`: where it was read already.
    """
    record = record or storage.measurement(spec.kind, spec.id)
    if record is None or dict(spec.made_with) != record.made_with:
        return False
    if (record.weights_sha256, record.edition) != weights_of(spec.subject, storage):
        return False
    there = _inputs(spec, storage)
    if there != record.inputs:
        return False
    return all(
        is_current(each, storage) for each in (*spec.inputs, *spec.follows) if there[each.id] is not None
    )


def _inputs(spec: Measurement, storage: Storage) -> dict[str, str | None]:
    """By id what the inputs and what is followed contain now; None for what is not there."""
    found = {}
    for each in (*spec.inputs, *spec.follows):
        record = storage.measurement(each.kind, each.id)
        found[each.id] = None if record is None else record.content
    return found


def _content(folder: Path, files: Mapping[str, str], scores: Mapping[str, Entry]) -> str:
    """A digest of the files, or of the scores where there are none."""
    if files:
        return digest({name: file_digest(folder / file) for name, file in files.items()})
    return digest({name: encode(entry) for name, entry in scores.items()})


def _remove_old(folder: Path, before: MeasurementRecord | None) -> None:
    """Remove the files of the record before, and all parts. Other files may be another driver's, which writes its own."""
    for file in () if before is None else before.files.values():
        (folder / file).unlink(missing_ok=True)
    for parts in folder.glob("parts-*"):
        shutil.rmtree(parts, ignore_errors=True)

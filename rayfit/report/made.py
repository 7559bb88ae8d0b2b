"""How a sweep was made: commands, options, seeds, fingerprints, versions, commits, and times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rayfit.columns import value_text
from rayfit.records.measurement import MeasurementRecord
from rayfit.records.storage import Storage
from rayfit.records.sweep import Launch, SweepRecord
from rayfit.records.trial import TrialRecord

# Where a sweep lies and is tracked says nothing about its numbers.
_NOT_SHOWN = ("plan", "fresh", "storage", "tracking_uri")
_PARTS = {
    "preparing": "preparing",
    "ray": "waiting for Ray",
    "first_group": "first workers",
    "first_update": "first measurement",
    "training": "training",
    "measuring": "measuring after it",
    "report": "report",
    "mlflow": "MLflow",
}
# Where a measurement that reads contexts says which they are.
_CONTEXTS = "contexts_fingerprint"


@dataclass(frozen=True)
class MadeLaunch:
    """One launch in words; `took` is empty where it never ended, `commit` where none is known.

    `parts`: how long each of its parts took, as far as they are known.
    """

    command: str
    started: str
    took: str
    ran: int
    reused: int
    commit: str
    parts: str


@dataclass(frozen=True)
class MadeTrial:
    """One finished trial: its seeds, how long it trained and measured, when it ended, the digest of its weights."""

    id: str
    sample_seed: int
    order_seed: int
    train: str
    measure: str
    finished: str
    weights: str


@dataclass(frozen=True)
class Made:
    """What the report's last section shows; pairs are a name and what it has."""

    launches: tuple[MadeLaunch, ...]
    options: tuple[tuple[str, str], ...]
    fingerprints: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    commits: tuple[str, ...]
    kernels: str
    trials: tuple[MadeTrial, ...]
    times: tuple[tuple[str, str], ...]


def how_it_was_made(record: SweepRecord, storage: Storage) -> Made:
    """All that made a sweep's numbers, from the records of its trials and measurements that are there by now."""
    trials = [trial for key in record.trials if (trial := storage.trial(key)) is not None]
    measurements = [
        found
        for each in record.measurements
        if (found := storage.measurement(each.kind, each.id)) is not None
    ]
    made: list[TrialRecord | MeasurementRecord] = [*trials, *measurements]
    return Made(
        launches=tuple(map(_launch, record.launches)),
        options=tuple(
            (name.replace("_", " "), _option(value))
            for name, value in sorted(record.options.items())
            if name not in _NOT_SHOWN and value not in (None, [], "")
        ),
        fingerprints=_fingerprints(trials, measurements),
        versions=_versions(made),
        commits=tuple(sorted({each.git_commit for each in made if each.git_commit})),
        kernels=_kernels(trials),
        trials=tuple(map(_trial, trials)),
        times=(*_times(trials, measurements), *_worker_hours(trials)),
    )


def _launch(launch: Launch) -> MadeLaunch:
    return MadeLaunch(
        command=launch.command,
        started=_moment(launch.started_at),
        took=_between(launch.started_at, launch.finished_at),
        ran=launch.ran,
        reused=launch.reused,
        commit=launch.git_commit or "",
        parts=", ".join(
            f"{words} {duration(seconds)}"
            for name, words in _PARTS.items()
            if (seconds := getattr(launch.seconds, name)) is not None
        ),
    )


def _option(value: Any) -> str:
    return ", ".join(map(value_text, value)) if isinstance(value, list) else value_text(value)


def _fingerprints(
    trials: Iterable[TrialRecord], measurements: Iterable[MeasurementRecord]
) -> tuple[tuple[str, str], ...]:
    found: dict[tuple[str, str], None] = {}
    for trial in trials:
        if trial.model.weights_sha256:
            found[f"weights of {trial.model.name}", trial.model.weights_sha256] = None
        found[f"training rows {trial.rows.id}", trial.rows.fingerprint] = None
    for each in measurements:
        if _CONTEXTS in each.about:
            found[f"contexts of {each.domain}", str(each.about[_CONTEXTS])] = None
    return tuple(found)


def _versions(made: Iterable[TrialRecord | MeasurementRecord]) -> tuple[tuple[str, str], ...]:
    """Versions by library; where records were made with several, all of them."""
    found: dict[str, dict[str, None]] = {}
    for record in made:
        for name, version in record.versions.items():
            found.setdefault(name, {})[version] = None
    return tuple((name, ", ".join(versions)) for name, versions in sorted(found.items()))


_KERNELS = {True: "asked for", False: "not asked for", None: "on a CPU, whose kernels are"}


def _kernels(trials: Iterable[TrialRecord]) -> str:
    """Whether the trials were trained with deterministic kernels alone; empty where there are none."""
    said = [trial.deterministic_kernels for trial in trials]
    return "; ".join(f"{said.count(each)} {_KERNELS[each]}" for each in _KERNELS if each in said)


def _trial(trial: TrialRecord) -> MadeTrial:
    return MadeTrial(
        id=trial.id,
        sample_seed=trial.sample_seed,
        order_seed=trial.order_seed,
        train=duration(trial.seconds.train),
        measure=duration(trial.seconds.measure),
        finished=_moment(trial.finished_at),
        weights=trial.weights_sha256,
    )


def _times(trials: Sequence[TrialRecord], measurements: Iterable[MeasurementRecord]) -> list[tuple[str, str]]:
    """Wall time of training, then of each kind of measurement, as it comes first."""
    seconds = {"training": [trial.seconds.total for trial in trials]} if trials else {}
    for each in measurements:
        seconds.setdefault(each.kind, []).append(each.seconds)
    return [(f"{what}, {len(own)} in all", duration(sum(own))) for what, own in seconds.items()]


def _worker_hours(trials: Iterable[TrialRecord]) -> list[tuple[str, str]]:
    """Time of trials times the workers that each ran on, by device: what a price per hour is multiplied with."""
    seconds: dict[str, float] = {}
    for trial in trials:
        own = trial.placement.num_workers * trial.seconds.total
        seconds[trial.device] = seconds.get(trial.device, 0.0) + own
    return [
        (f"worker-hours of training on {device}", f"{total / 3600:.3g}") for device, total in seconds.items()
    ]


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(93.4), duration(7500)
    ('1 min 33 s', '2 h 5 min')
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _moment(time: str) -> str:
    return f"{time[:10]} {time[11:16]} UTC"


def _between(start: str, end: str | None) -> str:
    if end is None:
        return ""
    return duration((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())

"""How a sweep was made: commands, options, seeds, fingerprints, versions, commits, and times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from rayfit.columns import value_text
from rayfit.records.storage import Storage

# Where a sweep lies and is tracked says nothing about its numbers.
_NOT_SHOWN = ("plan", "fresh", "storage", "tracking_uri")


def how_it_was_made(record: Mapping[str, Any], storage: Storage) -> dict[str, Any]:
    """What the report's last section shows, as plain values; what is not known is left out."""
    trials = [found for key in record.get("trials", []) if (found := storage.read("trials", key)) is not None]
    evaluations = [
        found
        for entry in record.get("evaluations", [])
        if (found := storage.read("evaluations", entry["evaluation_id"])) is not None
    ]
    return {
        "launches": [_launch(launch) for launch in record.get("launches", [])],
        "options": [
            (name.replace("_", " "), _option(value))
            for name, value in sorted(record.get("options", {}).items())
            if name not in _NOT_SHOWN and value not in (None, [], "")
        ],
        "fingerprints": _fingerprints(trials, evaluations),
        "versions": _versions([*trials, *evaluations]),
        "commits": sorted({made["git_commit"] for made in (*trials, *evaluations) if made.get("git_commit")}),
        "kernels": _kernels(trials),
        "trials": [_trial(trial) for trial in trials],
        "times": [*_times(trials, evaluations), *_worker_hours(trials)],
    }


def _launch(launch: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "command": launch.get("command", ""),
        "started": _moment(launch.get("started_at")),
        "took": _between(launch.get("started_at"), launch.get("finished_at")),
        "ran": launch.get("ran"),
        "reused": launch.get("reused"),
        "commit": launch.get("git_commit") or "",
    }


def _option(value: Any) -> str:
    return ", ".join(map(value_text, value)) if isinstance(value, list) else value_text(value)


def _fingerprints(
    trials: Iterable[Mapping[str, Any]], evaluations: Iterable[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    found: dict[tuple[str, str], None] = {}
    for trial in trials:
        model = trial.get("model", {})
        if model.get("weights_sha256"):
            found[f"weights of {model['name']}", model["weights_sha256"]] = None
        if trial.get("rows", {}).get("fingerprint"):
            found[f"training rows {trial['rows']['id']}", trial["rows"]["fingerprint"]] = None
    for evaluation in evaluations:
        if evaluation.get("contexts_fingerprint"):
            found[f"contexts of {evaluation['domain']}", evaluation["contexts_fingerprint"]] = None
    return list(found)


def _versions(made: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Versions by library; where records were made with several, all of them."""
    found: dict[str, dict[str, None]] = {}
    for record in made:
        for name, version in record.get("versions", {}).items():
            found.setdefault(name, {})[version] = None
    return [(name, ", ".join(versions)) for name, versions in sorted(found.items())]


_KERNELS = {True: "asked for", False: "not asked for", None: "on a CPU, whose kernels are"}


def _kernels(trials: Iterable[Mapping[str, Any]]) -> str:
    """Whether the trials were trained with deterministic kernels alone; empty where none of them says."""
    said = [trial["deterministic_kernels"] for trial in trials if "deterministic_kernels" in trial]
    return "; ".join(f"{said.count(each)} {_KERNELS[each]}" for each in _KERNELS if each in said)


def _trial(trial: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": trial["id"],
        "weights": trial.get("weights_sha256") or "",
        "seconds": trial.get("seconds", {}),
        "overhead": trial.get("overhead_seconds"),
        "device": trial.get("device", ""),
        "sample_seed": trial.get("sample_seed"),
        "order_seed": trial.get("order_seed"),
        "finished": _moment(trial.get("finished_at")),
    }


def _times(
    trials: Iterable[Mapping[str, Any]], evaluations: Iterable[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    times = []
    for what, made in (("training", list(trials)), ("evaluation", list(evaluations))):
        seconds = [
            entry["seconds"]["total"] for entry in made if entry.get("seconds", {}).get("total") is not None
        ]
        if seconds:
            times.append((f"{what}, {len(seconds)} in all", duration(sum(seconds))))
    return times


def _worker_hours(trials: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Time of trials times the workers that each ran on, by device: what a price per hour is multiplied with.

    Trials that do not say how many workers they had are left out.
    """
    seconds: dict[str, float] = {}
    for trial in trials:
        workers, total = (
            trial.get("placement", {}).get("num_workers"),
            trial.get("seconds", {}).get("total"),
        )
        if workers is not None and total is not None:
            device = trial.get("device") or "an unknown device"
            seconds[device] = seconds.get(device, 0.0) + workers * total
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


def _moment(time: str | None) -> str:
    return "" if not time else f"{time[:10]} {time[11:16]} UTC"


def _between(start: str | None, end: str | None) -> str:
    if not start or not end:
        return ""
    return duration((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())

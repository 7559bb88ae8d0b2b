"""The `rayfit` command: finding records, showing them, filling MLflow again, listing presets."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

from rayfit.errors import RayfitError, nearest
from rayfit.presets import DATASETS, MADE_MODELS
from rayfit.records.storage import KINDS, Storage
from rayfit.records.trials import failed_ids, read_failure


def run(arguments: Sequence[str]) -> int:
    """One `rayfit` command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="rayfit", description="Find, show and track what sweeps have made.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _command(commands, "list", "what the storage holds: trials, evaluations, sweeps", _list).add_argument(
        "kind", nargs="?", default="trials", choices=[*KINDS, "all"]
    )
    _command(commands, "show", "one record by its id, or by the beginning or end of it", _show).add_argument(
        "id"
    )
    sync = _command(commands, "sync", "fill MLflow from the records, again or elsewhere", _sync)
    sync.add_argument("sweep", nargs="?", help="a sweep's id (default: all sweeps)")
    sync.add_argument("--tracking-uri", help="MLflow tracking URI (default: the storage's SQLite file)")
    report = _command(commands, "report", "write report.html of sweeps again, from the records", _report)
    report.add_argument("sweep", nargs="?", help="a sweep's id (default: all sweeps)")
    _command(commands, "models", "model presets", _models, storage=False)
    _command(commands, "datasets", "dataset presets", _datasets, storage=False)
    parsed = parser.parse_args(arguments)
    action: Callable[[argparse.Namespace], int] = parsed.action
    return action(parsed)


def _command(
    commands: Any, name: str, about: str, action: Any, *, storage: bool = True
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    parser.set_defaults(action=action)
    if storage:
        parser.add_argument("--storage", default="runs", help="folder of all records (default: runs)")
    return parser


def _opened(parsed: argparse.Namespace) -> Storage:
    storage = Storage(parsed.storage)
    if not storage.root.is_dir():
        raise RayfitError(f"--storage: there is no folder {storage.root}; sweeps make it (default: ./runs)")
    return storage


def _list(parsed: argparse.Namespace) -> int:
    storage = _opened(parsed)
    for kind in KINDS if parsed.kind == "all" else (parsed.kind,):
        for identifier in storage.ids(kind):
            record = storage.read(kind, identifier)
            assert record is not None
            print(f"{kind[:-1] if kind != 'rows' else kind}  {identifier}  {_summary(kind, record)}".rstrip())
    if parsed.kind in ("trials", "all"):
        for identifier in failed_ids(storage):
            failure = read_failure(storage, identifier)
            print(f"trial  {identifier}  FAILED: {failure['error'] if failure else ''}")
    return 0


def _summary(kind: str, record: dict[str, Any]) -> str:
    if kind == "trials":
        outcome = "" if record["hyperfitted"] else "  not hyperfitted"
        return f"{record['finished_at'][:19]}  train loss {record['final']['train_loss']:.3f}{outcome}"
    if kind == "evaluations":
        return f"{record['finished_at'][:19]}  TTR {record['scores']['ttr_last_96']['value']:.3f}"
    if kind == "sweeps":
        return f"{len(record['trials'])} trials, {len(record['launches'])} launches"
    return ""


def _show(parsed: argparse.Namespace) -> int:
    storage = _opened(parsed)
    found = storage.find(parsed.id)
    if not found:
        failure = read_failure(storage, parsed.id)
        if failure is None:
            raise RayfitError(
                f"no record is called {parsed.id!r} in {storage.root}{storage.nearest_id(parsed.id)}"
            )
        print(json.dumps(failure, indent=1))
        return 0
    if len(found) > 1:
        raise RayfitError(
            f"{parsed.id!r} fits several records: {', '.join(identifier for _, identifier in found)}"
        )
    kind, identifier = found[0]
    record = storage.read(kind, identifier)
    assert record is not None
    print(json.dumps(record, indent=1, sort_keys=True))
    print(f"\nlies in    {storage.folder(kind, identifier)}")
    command = record.get("command") or _command_of_evaluation(storage, record)
    if command:
        print(f"made by    {command} --storage {storage.root}")
    return 0


def _command_of_evaluation(storage: Storage, record: dict[str, Any]) -> str:
    """Evaluations are made by the command of the trial they belong to, with their own decoding."""
    if record.get("launches"):
        return str(record["launches"][-1]["command"])
    trial = storage.read("trials", record["trial_id"]) if record.get("trial_id") else None
    return "" if trial is None else str(trial["command"])


def _sync(parsed: argparse.Namespace) -> int:
    storage = _opened(parsed)
    from rayfit.track.connection import connect, default_tracking_uri, ui_command
    from rayfit.track.sync import sync_sweep

    wanted = _wanted_sweeps(storage, parsed.sweep)
    uri = parsed.tracking_uri or default_tracking_uri(storage)
    client = connect(uri, storage)
    for identifier in wanted:
        record = storage.read("sweeps", identifier)
        assert record is not None
        report = sync_sweep(storage, record, client, finished=True)
        print(
            f"{identifier}: {report.created} runs created, {report.updated} updated, {report.unchanged} unchanged"
        )
    print(f"open with: {ui_command(uri)}")
    return 0


def _wanted_sweeps(storage: Storage, sweep: str | None) -> list[str]:
    """One sweep by its id, or all of them."""
    known = storage.ids("sweeps")
    if sweep and sweep not in known:
        raise RayfitError(f"no sweep is called {sweep!r}{nearest(sweep, known)}")
    return [sweep] if sweep else known


def _report(parsed: argparse.Namespace) -> int:
    storage = _opened(parsed)
    from rayfit.report.html import write_report

    for identifier in _wanted_sweeps(storage, parsed.sweep):
        record = storage.read("sweeps", identifier)
        assert record is not None
        print(write_report(record, storage))
    return 0


def _models(_: argparse.Namespace) -> int:
    for name, preset in MADE_MODELS.items():
        print(
            f"{name:12}  {preset.num_parameters:>9,} parameters  made here from Python's documentation, no network needed"
        )
    print("or a local Hugging Face directory, or a hub id such as TinyLlama/TinyLlama_v1.1")
    return 0


def _datasets(_: argparse.Namespace) -> int:
    for name, preset in DATASETS.items():
        settings = ", ".join(
            f"{key} {value}" for key, value in dataclasses.asdict(preset).items() if key != "about"
        )
        print(f"{name:12}  {preset.about} ({settings})")
    print("or a local .parquet, .jsonl, .csv or .txt file, or a folder of .txt files")
    return 0

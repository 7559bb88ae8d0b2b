"""The `rayfit` command: finding records, showing them, generating, filling MLflow again, listing presets."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from rayfit.ask import command as ask
from rayfit.errors import RayfitError, nearest, unknown
from rayfit.findings.current import current
from rayfit.listing import datasets_listing, models_listing
from rayfit.plan import command as sizing
from rayfit.records.cleaning import Leftover, leftovers, remove
from rayfit.records.codec import dumps, encode
from rayfit.records.commands import command_of
from rayfit.records.leases import held_by, sweep_lease
from rayfit.records.storage import PREPARED, SWEEPS, TRIALS, Storage
from rayfit.records.sweep import SweepRecord
from rayfit.records.trials import failed_ids, read_failure


def run(arguments: Sequence[str]) -> int:
    """One `rayfit` command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="rayfit", description="Find, show and track what sweeps have made.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _command(commands, "list", "what the storage holds: trials, evaluations, sweeps", _list).add_argument(
        "kind", nargs="?", default=TRIALS, help="trials (the default), sweeps, generations, all, and so on"
    )
    _command(commands, "show", "one record by its id, or by the beginning or end of it", _show).add_argument(
        "id"
    )
    sync = _command(commands, "sync", "fill MLflow from the records, again or elsewhere", _sync)
    sync.add_argument("sweep", nargs="?", help="a sweep's id (default: all sweeps)")
    sync.add_argument("--tracking-uri", help="MLflow tracking URI (default: the storage's SQLite file)")
    report = _command(
        commands, "report", "write the report.html of sweeps again, from their records", _report
    )
    report.add_argument("sweep", nargs="?", help="a sweep's id (default: all sweeps)")
    report.add_argument(
        "--markdown", action="store_true", help="print questions, commands and tables instead"
    )
    clean = _command(
        commands, "clean", "what killed processes have left in the storage, and its size", _clean
    )
    clean.add_argument("--delete", action="store_true", help="remove it")
    ask.add_arguments(_command(commands, "generate", ask.ABOUT, ask.run))
    sizing.add_arguments(_command(commands, "plan", sizing.ABOUT, sizing.run))
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
    storage.check_version()
    return storage


def _list(parsed: argparse.Namespace) -> int:
    storage = _opened(parsed)
    kinds = list(dict.fromkeys((*PREPARED, TRIALS, *_measured_kinds(storage), SWEEPS)))
    if parsed.kind not in (*kinds, "all"):
        raise unknown("rayfit list", parsed.kind, (*kinds, "all"))
    for kind in kinds if parsed.kind == "all" else (parsed.kind,):
        for identifier in storage.ids(kind):
            print(f"{kind}  {identifier}  {_summary(storage, kind, identifier)}".rstrip())
    if parsed.kind in (TRIALS, "all"):
        for identifier in failed_ids(storage):
            failure = read_failure(storage, identifier)
            print(f"{TRIALS}  {identifier}  FAILED: {failure.error if failure else ''}")
    return 0


def _measured_kinds(storage: Storage) -> list[str]:
    """The kinds of measurements that every sweep has, and others that are there."""
    from rayfit.measure.stages import STAGES

    return [*(stage.kind for stage in STAGES), *storage.measured_kinds]


def _summary(storage: Storage, kind: str, identifier: str) -> str:
    """What is asked first of a record, in a line."""
    if kind in PREPARED:
        return ""
    if kind == TRIALS:
        trial = storage.trial(identifier)
        assert trial is not None
        outcome = "" if trial.hyperfitted else "  not hyperfitted"
        return f"{trial.finished_at[:19]}  train loss {trial.final.train_loss:.3f}{outcome}"
    if kind == SWEEPS:
        sweep = storage.sweep(identifier)
        assert sweep is not None
        trials, done = len(sweep.trials), sum(storage.trial(key) is not None for key in sweep.trials)
        how = "" if sweep.is_over else ", runs or was killed"
        return f"{done} of {trials} trials, {len(sweep.launches)} launches{how}"
    record = storage.measurement(kind, identifier)
    assert record is not None
    found = record.scores.get("ttr_last_96")
    told = "" if found is None or found.value is None else f"  TTR {found.value:.3f}"
    return f"{record.finished_at[:19]}{told}"


def _show(parsed: argparse.Namespace) -> int:
    storage = _opened(parsed)
    found = storage.find(parsed.id)
    if not found:
        failure = read_failure(storage, parsed.id)
        if failure is None:
            raise RayfitError(
                f"no record is called {parsed.id!r} in {storage.root}{storage.nearest_id(parsed.id)}"
            )
        print(dumps(encode(failure)))
        return 0
    if len(found) > 1:
        raise RayfitError(
            f"{parsed.id!r} fits several records: {', '.join(identifier for _, identifier in found)}"
        )
    kind, identifier = found[0]
    record = storage.read(kind, identifier)
    assert record is not None
    print(dumps(record))
    print(f"\nlies in    {storage.folder(kind, identifier)}")
    if command := command_of(storage, kind, identifier):
        print(f"made by    {command}")
    return 0


def _sweeps(storage: Storage, asked: str | None) -> list[SweepRecord]:
    """The records of the sweep that is asked for, or of all, with their rows as they are now."""
    wanted = storage.ids(SWEEPS)
    if asked:
        if asked not in wanted:
            raise RayfitError(f"no sweep is called {asked!r}{nearest(asked, wanted)}")
        wanted = [asked]
    found = (storage.sweep(identifier) for identifier in wanted)
    return [current(record, storage) for record in found if record is not None]


def _report(parsed: argparse.Namespace) -> int:
    storage = _opened(parsed)
    from rayfit.report.html import write_report
    from rayfit.report.markdown import render_markdown

    for record in _sweeps(storage, parsed.sweep):
        print(render_markdown(record) if parsed.markdown else write_report(record, storage))
    return 0


def _first_launch(record: SweepRecord) -> str:
    return min((launch.started_at for launch in record.launches), default="")


def _sync(parsed: argparse.Namespace) -> int:
    storage = _opened(parsed)
    from rayfit.track.connection import connect, default_tracking_uri, ui_command
    from rayfit.track.sync import sync_sweep

    # The older first: a sweep links to the runs of an earlier one, which must be there by then.
    records = sorted(_sweeps(storage, parsed.sweep), key=_first_launch)
    uri = parsed.tracking_uri or default_tracking_uri(storage)
    client = connect(uri, storage)
    for record in records:
        is_over = held_by(storage, sweep_lease(record.id)) is None
        report = sync_sweep(storage, record, client, finished=is_over)
        print(
            f"{record.id}: {report.created} runs created, {report.updated} updated, {report.unchanged} unchanged"
        )
    print(f"open with: {ui_command(uri)}")
    return 0


def _clean(parsed: argparse.Namespace) -> int:
    storage = _opened(parsed)
    found = leftovers(storage)
    for each in found:
        print(f"{each.bytes / 2**30:9.3f} GiB  {each.path.relative_to(storage.root)}  ({each.what})")
    if not found:
        print(f"nothing is left over in {storage.root}")
    elif parsed.delete:
        print(f"removed {_total(remove(storage, found))}")
    else:
        print(f"{_total(found)} can go; --delete removes it")
    return 0


def _total(found: list[Leftover]) -> str:
    return f"{sum(each.bytes for each in found) / 2**30:.3f} GiB in {len(found)} places"


def _models(_: argparse.Namespace) -> int:
    print(models_listing())
    return 0


def _datasets(_: argparse.Namespace) -> int:
    print(datasets_listing())
    return 0

"""The driver of a sweep: prepares, starts what is needed, watches, joins the records, and tells MLflow last."""

from __future__ import annotations

import gc
import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from rayfit.columns import check_columns
from rayfit.config import Options
from rayfit.console import Console, Running
from rayfit.errors import HeldError, RayfitError
from rayfit.plan.cards import Card, cards_text, check_cards
from rayfit.plan.declaration import Sweep
from rayfit.plan.plan import Plan
from rayfit.plan.planning import make_plan
from rayfit.plan.products import is_finished
from rayfit.plan.show import exchange_notes, zero_stage_notes
from rayfit.prepare.made_models import base_weights
from rayfit.prepare.prepare import Prepared, absolute, prepare
from rayfit.records.leases import Holding, Lease, sweep_lease, take
from rayfit.records.provenance import now
from rayfit.records.storage import Storage
from rayfit.records.sweep import SweepRecord
from rayfit.sweep.cluster import StartingRay, check_cluster_options, check_cpus, joins_running_ray
from rayfit.sweep.conclude import conclude
from rayfit.sweep.conductor import Conductor
from rayfit.sweep.gpus import decided, look_at_cards
from rayfit.sweep.launch import Launch, unfinished
from rayfit.sweep.record import begun_record, ended_record, with_failures, write_record
from rayfit.sweep.stopwatch import Stopwatch
from rayfit.sweep.tasks import script_name
from rayfit.terminal import open_console
from rayfit.track.connection import default_tracking_uri, without_password
from rayfit.track.tracker import Tracker


def run_sweep(sweep: Sweep, given: Options, script: str, arguments: Sequence[str] = ()) -> int:
    """Run a sweep to its table; returns the process's exit status: 0, or 1 when anything FAILED, 130 on Ctrl-C.

    Raises RayfitError for what the user can mend, before anything is trained.
    """
    check_columns(*sweep.plot, *sweep.scores)
    check_cluster_options(given)
    options = absolute(given)
    storage = Storage(options.storage)
    try:
        storage.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RayfitError(f"--storage: {storage.root} cannot be made a folder: {error.strerror}") from error
    storage.check_version()
    console = open_console()
    launch: Launch | None = None
    record: SweepRecord | None = None
    track: Tracker | None = None
    started_at, stopwatch = now(), Stopwatch()
    log = storage.root / "logs" / "launches" / f"{started_at.replace(':', '')}.log"
    with _termination_as_interrupt(), ExitStack() as held, StartingRay(log) as starting_ray:
        try:
            track = Tracker(storage, options.tracking_uri or default_tracking_uri(storage))
            plan, options, cards = _planned(sweep, options, storage, starting_ray, console)
            is_left = _is_something_left(plan, storage)
            if is_left:
                starting_ray.begin(options)
            if is_left or plan.pending:
                track.connect()
            prepared = prepare(sweep, options, storage, console, cards)
            command = shlex.join(["python", script_name(script), *_without_secrets(arguments)])
            launch = _what_to_do(prepared, storage, script, command, console, started_at, stopwatch)
            _say_what_is_done(launch)
            _check_base(launch)
            is_idle = not (launch.trials or launch.measurements)
            if not is_idle:
                held.callback(_hold(launch).release)
            if not (is_idle and track.has_told(storage.sweep(launch.plan.sweep_id))):
                track.ready()
            record = with_failures(begun_record(launch), launch)
            write_record(record, storage)
            stopwatch.over("preparing")
            if not is_idle:
                track.start(record)
                console.watch([Running("starting", "Ray")])
                starting_ray.begin(options)
                environment = starting_ray.ready()
                stopwatch.over("ray")
                Conductor(launch, record, environment, track).run()
                _free_all_of_ray()
                starting_ray.end()
            return conclude(launch, record, track)
        except KeyboardInterrupt:
            console.close()
            console.show("")
            _say_what_is_kept(launch, record, track, storage, console)
            return 130
        finally:
            console.close()


def _planned(
    sweep: Sweep, given: Options, storage: Storage, starting_ray: StartingRay, console: Console
) -> tuple[Plan, Options, tuple[Card, ...]]:
    """The plan, with GPUs taken or not, and those that were looked at, if there is something left to do on them."""
    options = decided(given, starting_ray)
    check_cpus(options)
    if given.use_gpu is None and joins_running_ray() and not options.use_gpu:
        console.say("training is on CPUs: this Ray has no GPU now; --use-gpu waits for one")
    plan = make_plan(sweep, options, storage)
    if not options.use_gpu or not (plan.pending or _is_anything_left(plan, storage)):
        return plan, options, ()
    options, cards = _with_cards(given, options, starting_ray, console)
    plan = make_plan(sweep, options, storage, cards)
    if options.use_gpu:
        _check_number(plan, cards)
    return plan, options, cards


def _with_cards(
    given: Options, options: Options, starting_ray: StartingRay, console: Console
) -> tuple[Options, tuple[Card, ...]]:
    """The options and the GPUs, once these were looked at; on CPUs where they cannot be used and were not asked for."""
    if joins_running_ray():
        console.watch([Running("waiting", "for a GPU to look at")])
    try:
        cards = look_at_cards(options, starting_ray)
    except RayfitError as error:
        if given.use_gpu:
            raise
        console.say(f"training is on CPUs: {str(error).removeprefix('--use-gpu: ')}")
        options = replace(options, use_gpu=False)
        check_cpus(options)
        return options, ()
    check_cards(cards, precision=options.precision)
    if not cards:
        console.say("training is on GPUs, which are all busy now, so that none was looked at")
    elif joins_running_ray():
        console.say(f"training is on GPUs, as far as one node's first tells: {cards_text(cards)}")
    else:
        console.say(f"training is on this machine's GPUs: {cards_text(cards)}")
    return options, cards


def _check_number(plan: Plan, cards: tuple[Card, ...]) -> None:
    """On this machine there are no more GPUs than those that were looked at."""
    most = max(placement.num_workers for placement in plan.placements.values())
    if not joins_running_ray() and most > len(cards):
        raise RayfitError(
            f"--num-workers: {most} workers need {most} GPUs, and this machine has {len(cards)}; lower it, or give "
            "--use-gpu no"
        )


def _free_all_of_ray() -> None:
    """Free what is left of Ray's objects, and never again look for more.

    The report is drawn while Ray is ended in its thread, and an object of Ray's that is freed then ends this process.
    """
    gc.collect()
    gc.freeze()


def _say_what_is_kept(
    launch: Launch | None,
    record: SweepRecord | None,
    track: Tracker | None,
    storage: Storage,
    console: Console,
) -> None:
    """After Ctrl-C: the sweep's record gets its rows, and MLflow is told."""
    if launch is None or record is None or track is None:
        console.say(f"interrupted before training; what is made is kept in {storage.root}")
        return
    written = storage.sweep(record.id)
    if written is None or not written.is_over:
        written = ended_record(record, launch)
        write_record(written, storage)
    track.finish(written)
    trials = launch.plan.unique_trials
    done = sum(is_finished(launch.plan, trial, storage) for trial in trials)
    again = "goes on from there"
    if launch.plan.options.fresh:
        again = "starts all of them again, and goes on with what was being trained without --fresh"
    console.say(
        f"interrupted: {done} of {len(trials)} trials are finished and kept in {storage.root}; the same command {again}"
    )


def _without_secrets(arguments: Sequence[str]) -> list[str]:
    """The launch's words as they may be kept: a tracking server's password left out."""
    shown = list(arguments)
    for place, word in enumerate(shown):
        if word.startswith("--tracking-uri="):
            shown[place] = f"--tracking-uri={without_password(word.partition('=')[2])}"
        elif place and shown[place - 1] == "--tracking-uri":
            shown[place] = without_password(word)
    return shown


def _is_something_left(plan: Plan, storage: Storage) -> bool:
    """Whether it is known already that a trial must be trained; ids may be known only when all is prepared."""
    if plan.pending:
        return False
    return plan.options.fresh or any(not is_finished(plan, trial, storage) for trial in plan.unique_trials)


def _is_anything_left(plan: Plan, storage: Storage) -> bool:
    """The same of measurements too. Not while ids are pending."""
    return _is_something_left(plan, storage) or bool(unfinished(plan, storage, fresh=False, retrained=()))


def _what_to_do(
    prepared: Prepared,
    storage: Storage,
    script: str,
    command: str,
    console: Console,
    started_at: str,
    stopwatch: Stopwatch,
) -> Launch:
    plan = prepared.plan
    fresh = plan.options.fresh
    trials = [trial for trial in plan.unique_trials if fresh or not is_finished(plan, trial, storage)]
    again = {trial.id for trial in trials}
    left = unfinished(plan, storage, fresh=fresh, retrained=again)
    return Launch(prepared, storage, script, command, console, trials, left, started_at, stopwatch=stopwatch)


def _say_what_is_done(launch: Launch) -> None:
    total = len(launch.plan.unique_trials)
    running = len(launch.trials)
    plan = launch.plan
    for note in (*zero_stage_notes(plan), *plan.overruled, *exchange_notes(plan)):
        launch.console.say(note)
    launch.console.say(
        f"{total} trials: reused {total - running}, running {running}; {len(launch.measurements)} measurements"
    )


def _hold(launch: Launch) -> Holding:
    """Hold the sweep while this launch runs. Raises HeldError where another does."""
    holding = take(launch.storage, sweep_lease(launch.plan.sweep_id), launch.stamp)
    if isinstance(holding, Lease):
        raise HeldError(
            f"this sweep is run already, by {holding.holder}; wait for it or end it there (should it be gone, this "
            "will be known within a minute)"
        )
    return holding


def _check_base(launch: Launch) -> None:
    """A made model must be the one that finished trials of the same id started from."""
    plan, storage = launch.plan, launch.storage
    for trial in plan.unique_trials:
        base = base_weights(trial.model, storage)
        record = storage.trial(trial.id)
        if base is None or record is None or plan.options.fresh:
            continue
        if record.model.weights_sha256 != base:
            raise RayfitError(
                f"trial {trial.id} was trained from another {trial.model.name} than the one this storage holds now "
                f"({str(record.model.weights_sha256)[:12]}, not {base[:12]}); --fresh trains it again"
            )


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """SIGTERM, as a stopped job gets it, ends a sweep as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)

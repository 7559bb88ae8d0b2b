"""What a launch shows: lines elsewhere, a table on a terminal."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console as RichConsole

from rayfit import console
from rayfit.console import Console, MakingProgress, MakingStep, Running, clock
from rayfit.records.trial import Point
from rayfit.sweep import progress
from rayfit.sweep.progress import Overview, TrialProgress, seconds_left
from rayfit.sweep.queue import Status, TrialState
from rayfit.terminal import TerminalConsole, _table, can_redraw


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock_of(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    monkeypatch.setattr(console, "time", found)
    return found


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def _point(update: int, seconds: float) -> Point:
    return Point(
        update=update,
        epoch=0.0,
        train_loss=1.5,
        train_accuracy=0.5,
        batch_loss=None,
        validation_loss=4.0,
        validation_entropy_nats=1.0,
        gradient_norm=None,
        train_rows=8,
        seconds=seconds,
    )


def test_who_waits_for_the_gpu_is_said() -> None:
    shown: list[list[Running]] = []
    watched = SimpleNamespace(watch=lambda running, _: shown.append(running), say=print, note=print)
    on_gpu, scoring = (
        SimpleNamespace(on_device=on_device, stage=SimpleNamespace(does=does), key=does, begun=0.0)
        for on_device, does in ((True, "generating"), (False, "scoring"))
    )
    pool = SimpleNamespace(running=[on_gpu, scoring], num_ready=4, num_measured=0, seconds=0.0)
    launch = SimpleNamespace(console=watched, measurements=[])
    trial = SimpleNamespace(recipe=SimpleNamespace(num_updates=100))
    overview = Overview(launch, {"t": trial}, {"t": 1.0}, pool, at_once=1)  # type: ignore[arg-type]

    def words(state: TrialState, *, takes_turns: bool) -> list[tuple[str, str]]:
        overview.show({"t": state}, num_groups=1, takes_turns=takes_turns)
        return [(running.what, running.name) for running in shown[-1]]

    waits = TrialState("queued", 0, None, None, "")
    assert words(waits, takes_turns=True) == [
        ("waiting", "worker group, until what waits is measured"),
        ("generating", "generating"),
        ("scoring", "scoring"),
    ]
    assert words(_running(3), takes_turns=True) == [
        ("training", "t"),
        ("waiting", "5 measurements, until the worker group makes room"),
        ("scoring", "scoring"),
    ]
    assert ("generating", "generating") in words(_running(3), takes_turns=False)


def _running(update: int | None, seconds: float = 0.0, status: Status = "running") -> TrialState:
    point = None if update is None else _point(update, seconds)
    return TrialState(status=status, tries=1, last_point=point, seconds=None, error="")


def _ended(status: Status = "finished", seconds: float = 0.0) -> TrialState:
    total = seconds if status == "finished" else None
    return TrialState(status=status, tries=1, last_point=None, seconds=total, error="it broke")


def test_a_trial_that_stands_still_is_not_told_of_again(clock_of: Clock) -> None:
    stream = io.StringIO()
    trials = TrialProgress(Console(stream), {"a": 100})
    trials.update({"a": _running(None)})
    assert stream.getvalue() == ""
    for _ in range(100):  # 100 s without a new point
        trials.update({"a": _running(0)})
        clock_of.now += 1
    trials.update({"a": _running(50, 20.0)})
    clock_of.now += 5
    trials.update({"a": _running(60, 25.0)})  # new, but 5 s after the last line
    clock_of.now += 11
    trials.update({"a": _running(70, 30.0)})
    trials.update({"a": _ended()})
    trials.update({"a": _ended()})
    lines = stream.getvalue().splitlines()
    assert [re.search(r"update (\d+)/100|trained", line).group() for line in lines] == [
        *("update 0/100", "update 50/100", "update 70/100", "trained")
    ]
    assert lines[1].endswith("train loss 1.500  validation loss 4.00  20 s left")


def test_a_failure_is_a_line_with_its_reason() -> None:
    stream = io.StringIO()
    TrialProgress(Console(stream), {"a": 100}).update({"a": _ended("failed")})
    assert stream.getvalue().endswith("a  FAILED: it broke\n")


def test_making_is_told_every_ten_seconds_where_there_is_no_table(clock_of: Clock) -> None:
    stream = io.StringIO()
    making = MakingProgress(Console(stream), "pydoc-1m")
    for update in range(1, 31):
        clock_of.now += 1
        making(MakingStep(update, 30, 5.0 / update, 30.0 - update))
    lines = stream.getvalue().splitlines()
    assert [int(re.search(r"update (\d+)/30", line).group(1)) for line in lines] == [11, 22]
    assert lines[0].endswith("loss 0.45, 19 s left")


def _shown(running: list[Running], in_all: str = "", width: int = 120) -> list[str]:
    console = RichConsole(file=io.StringIO(), width=width, force_terminal=False)
    console.print(_table(running, in_all))
    return console.file.getvalue().splitlines()


def test_the_table_has_a_line_for_everything_that_runs() -> None:
    trial = Running("training", "pydoc-1m-pydoc-n128-u400", 120, 400, "train loss 0.972", 141.4)
    lines = _shown([trial, Running("generating", "trial-greedy#3", detail="for 0:05")], "1 of 7 trials")
    assert len(lines) == 3
    assert lines[0].strip() == "1 of 7 trials"
    for part in ("training", "120/400", "2:21 left", "pydoc-1m-pydoc-n128-u400", "train loss 0.972", "━"):
        assert part in lines[1]
    assert "generating" in lines[2] and "trial-greedy#3" in lines[2] and "/" not in lines[2]
    # a narrow terminal: nothing is wrapped, names and details are cut and the rest is not
    (line,) = _shown([trial], width=80)
    assert len(line.rstrip()) <= 80 and "…" in line
    assert all(part in line for part in ("training", "120/400", "2:21 left", "pydoc-1m-pydoc"))


def test_on_a_terminal_the_table_stands_below_the_lines_and_goes_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Tty()
    assert can_redraw(stream)
    console = TerminalConsole(stream)
    console.say("7 trials")
    console.watch([Running("training", "one", 1, 4)])
    console.note("one  update 1/4")
    console.say("one  trained")
    console.close()
    console.show("the table")
    shown = stream.getvalue()
    assert "7 trials" in shown and "one  trained" in shown and "one  update 1/4" not in shown
    assert "\x1b[?25l" in shown and shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), (
        "the cursor is back"
    )
    assert shown.endswith("the table\n")


def test_a_terminal_that_cannot_go_back_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert not can_redraw(Tty())


def test_brackets_in_a_line_are_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Tty()
    TerminalConsole(stream).show("[red] and a line that is longer than a terminal is wide " * 3)
    assert stream.getvalue().count("[red]") == 3 and stream.getvalue().count("\n") == 1


def _left(state: dict[str, TrialState], **changes: Any) -> float | None:
    options = {"per_measurement": None, "to_measure": 0, "at_once": 1, **changes}
    updates = dict.fromkeys(state, 100)
    return seconds_left(state, updates, dict.fromkeys(state, 100.0), **options)


def test_the_time_left_by_hand() -> None:
    assert _left({"a": _running(None), "b": _running(0)}) is None
    # 25 updates in 10 s: 75 more take 30 s, and 100 of the other trial 40 s
    assert _left({"a": _running(25, 10.0)}) == pytest.approx(30)
    queued = _running(None, status="queued")
    assert _left({"a": _running(25, 10.0), "b": queued}) == pytest.approx(70)
    assert _left({"a": _running(25, 10.0), "b": queued}, at_once=2) == pytest.approx(40), "b alone takes 40 s"
    assert _left({"a": _ended(seconds=40.0), "b": _running(50, 30.0)}) == pytest.approx(50 * 70 / 150)
    assert _left({"a": _ended("failed"), "b": _running(50, 10.0)}) == pytest.approx(10)
    assert _left({"a": _ended(seconds=40.0)}, to_measure=3) == 0
    assert _left({"a": _ended(seconds=40.0)}, to_measure=3, per_measurement=8.0, at_once=2) == pytest.approx(
        12
    )
    assert _left({}, to_measure=3) is None
    assert _left({}, to_measure=3, per_measurement=8.0) == pytest.approx(24)


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0, 59.6, 245, 3607)] == ["0:00", "1:00", "4:05", "1:00:07"]

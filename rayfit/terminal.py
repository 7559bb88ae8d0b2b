"""The table of what runs, redrawn in place on a terminal below the lines of what has happened."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console as RichConsole
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rayfit.console import Console, Running, clock

_BAR_WIDTH = 16
_WIDTHS = (10, _BAR_WIDTH, 8, 9)
_REDRAWN_PER_SECOND = 4


def can_redraw(stream: TextIO) -> bool:
    """True when the terminal behind a stream understands what it takes to go back up its lines."""
    return not RichConsole(file=stream).is_dumb_terminal


def open_console() -> Console:
    """A console on standard output: with a live table where that is a terminal that can redraw lines."""
    return TerminalConsole() if sys.stdout.isatty() and can_redraw(sys.stdout) else Console()


class TerminalConsole(Console):
    """A console whose last lines are a table: a bar per trial, evaluation and making, and the time left in all."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        # Given the stream, for Tune and Ray redirect sys.stdout to a file while the table is drawn.
        self._rich = RichConsole(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        self._live: Live | None = None

    def note(self, text: str) -> None:
        """Nothing: the table shows it."""

    def show(self, text: str) -> None:
        """Lines as they are, above the table."""
        self._rich.print(Text(text), soft_wrap=True)

    def watch(self, running: Sequence[Running], in_all: str = "") -> None:
        """Draw the table anew, or take it away when nothing runs."""
        if not running:
            if self._live is not None:
                self._live.stop()
                self._live = None
            return
        if self._live is None:
            self._live = Live(
                console=self._rich,
                refresh_per_second=_REDRAWN_PER_SECOND,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        self._live.update(_table(running, in_all))


def _table(running: Sequence[Running], in_all: str) -> Table:
    """One line each: what, how far, how long still; the name, which may be cut off, and details last."""
    lines = Table.grid(padding=(0, 1))
    for width in _WIDTHS:  # never narrower: names and details give way first
        lines.add_column(no_wrap=True, min_width=width)
    lines.add_column(no_wrap=True, overflow="ellipsis", ratio=3)
    lines.add_column(no_wrap=True, overflow="ellipsis", ratio=2)
    for each in running:
        known = each.total > 0
        lines.add_row(
            each.what,
            ProgressBar(total=each.total or None, completed=each.done, width=_BAR_WIDTH, pulse=not known),
            f"{each.done}/{each.total}" if known else "",
            "" if each.seconds_left is None else f"{clock(each.seconds_left)} left",
            each.name,
            each.detail,
        )
    if not in_all:
        return lines
    whole = Table.grid()
    whole.add_row(Text(in_all, style="bold"))  # first, since what a terminal has no room for is cut off below
    whole.add_row(lines)
    return whole

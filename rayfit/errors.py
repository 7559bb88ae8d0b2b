"""Errors for the people who use rayfit: where it went wrong, what was given, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RayfitError(ValueError):
    """Something the user can mend. Printed as one message without a traceback by every command."""


class TrialError(RayfitError):
    """A trial cannot be finished, for a reason that every worker of it saw together (a loss that is not finite)."""


class HeldError(RayfitError):
    """Somebody else does this very thing now; commands end with status 3."""


class TrialElsewhere(Exception):  # noqa: N818 - nothing went wrong
    """A trial that other workers train, of another launch; all workers here raise it alike. Its text says who."""


class TrialInterrupted(Exception):  # noqa: N818 - nothing went wrong
    """A training that ends between two updates because it was asked to; all its workers raise it alike."""

    def __init__(self, update: int, *, is_kept: bool) -> None:
        """`is_kept`: whether the state after `update` updates can be gone on from."""
        kept = "whose state is kept" if is_kept else "whose state could not be kept"
        super().__init__(f"interrupted after update {update}, {kept}")
        self.update, self.is_kept = update, is_kept


class WeightsError(RayfitError):
    """A model's files do not hold the weights that its configuration asks for: however often they are read."""


def first_line(reason: object) -> str:
    """The first line of another library's error that says anything, or the error's kind where none does."""
    return next((line.strip() for line in str(reason).splitlines() if line.strip()), type(reason).__name__)


def nearest(given: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the valid name closest to `given`, or an empty string when none is close."""
    close = difflib.get_close_matches(given, list(valid), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown(key: str, given: str, valid: Iterable[str]) -> RayfitError:
    """The error for a name that is not among the valid ones."""
    names = list(valid)
    listed = ", ".join(names)
    return RayfitError(f"{key}: expected one of {listed}; got {given!r}{nearest(given, names)}")

"""Where a launch spends its time."""

from __future__ import annotations

import time

import msgspec

from rayfit.records.sweep import LaunchSeconds


class Stopwatch:
    """Times the parts of a launch, which follow each other without gaps: each is over once, in the record's order."""

    def __init__(self) -> None:
        """Starts now."""
        self._last = time.monotonic()
        self._seconds: dict[str, float] = {}

    def over(self, part: str) -> None:
        """All since the last part's end was `part`, a field of `LaunchSeconds`; told again it changes nothing."""
        assert part in LaunchSeconds.__struct_fields__
        if part in self._seconds:
            return
        now = time.monotonic()
        self._seconds[part], self._last = round(now - self._last, 3), now

    @property
    def seconds(self) -> LaunchSeconds:
        """The parts that are over."""
        return msgspec.convert(self._seconds, LaunchSeconds)

"""A state being written by a thread of every rank, beside the training that it was taken from."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from rayfit.identity import file_digest
from rayfit.records.states import (
    StatePart,
    StateRecord,
    publish_state,
    read_part,
    remove_superseded,
    write_part,
)
from rayfit.train.state import write_state
from rayfit.train.together import from_rank_0

_POLL_SECONDS = 0.05
_PUBLISH_SECONDS = 60.0

log = logging.getLogger("rayfit.states")


class StateWriting:
    """Writes this rank's part; rank 0 waits for those of all, and makes the state exist.

    Every rank begins one alike. The threads themselves agree on nothing: they see each other's parts in the storage.
    """

    def __init__(
        self,
        folder: Path,
        update: int,
        taken: dict[str, torch.Tensor],
        record_of: Callable[[tuple[StatePart, ...]], StateRecord],
        *,
        tell: Callable[[int, str], None],
        may_write: Callable[[], bool],
    ) -> None:
        """`taken`: what `take_state` returned, which is emptied once it is written. `tell`, `may_write` as `StateKeeper`."""
        self.error = ""
        self._folder, self._update, self._taken, self._record_of = folder, update, taken, record_of
        self._tell, self._may_write = tell, may_write
        self._own_written, self._given_up, self._is_told = threading.Event(), threading.Event(), True
        self._rank, world = dist.get_rank(), dist.get_world_size()
        self._files = [f"rank-{each}-of-{world}.safetensors" for each in range(world)]
        self._thread = threading.Thread(target=self._run, name="state", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    def give_up(self) -> None:
        """Wait no longer for the parts of other ranks."""
        self._given_up.set()

    def end(self) -> None:
        """Give up and wait for the thread; nobody is told of it."""
        self._is_told = False
        self._given_up.set()
        self._thread.join()

    def wait(self, device: torch.device) -> bool:
        """Wait until the state is whole, or cannot be; whether it is, on every rank alike. All ranks call it."""
        self._own_written.wait()
        failed = torch.tensor(int(bool(self.error)), device=device)
        if dist.get_world_size() > 1:
            dist.all_reduce(failed)
        if failed.item():
            self.give_up()
        if self._rank == 0:
            self._thread.join(_PUBLISH_SECONDS)  # all parts are there now, and what is left takes no time
            self.give_up()
            self._thread.join()
        return bool(from_rank_0(lambda: not self.error))

    def _run(self) -> None:
        try:
            self._write_own()
            if self._rank == 0:
                self._publish()
        except Exception as error:  # noqa: BLE001 - a thread's boundary: whatever it is, there is no state
            self.error = f"the state after update {self._update} cannot be written: {error}"
            log.warning("%s", self.error)
            if self._rank == 0:
                if self._may_write():
                    remove_superseded(self._folder.parent)  # what is half written takes room
                self._tell(self._update, self.error)
        finally:
            self._own_written.set()

    def _write_own(self) -> None:
        begin = time.monotonic()
        part = _written(self._taken, self._folder / self._files[self._rank])
        self._taken.clear()
        write_part(self._folder, part)
        seconds = time.monotonic() - begin
        log.info(
            "the state after update %d, %.1f MB, written in %.2f s", self._update, part.bytes / 1e6, seconds
        )
        self._own_written.set()

    def _publish(self) -> None:
        parts = self._all_parts()
        if parts is None:
            self.error = f"the state after update {self._update} was not written by every worker"
            if self._is_told:
                self._tell(self._update, self.error)
        elif not self._may_write():
            self.error = "others have taken this trial over"
        else:
            publish_state(self._folder, self._record_of(parts))
            self._tell(self._update, "")

    def _all_parts(self) -> tuple[StatePart, ...] | None:
        """The parts of all ranks once they are written; None when it is given up."""
        parts: dict[str, StatePart] = {}
        while len(parts) < len(self._files):
            for file in self._files:
                if file not in parts and (part := read_part(self._folder, file)) is not None:
                    parts[file] = part
            if len(parts) < len(self._files) and self._given_up.wait(_POLL_SECONDS):
                return None
        return tuple(parts[file] for file in self._files)


def _written(taken: dict[str, torch.Tensor], path: Path) -> StatePart:
    """Write a rank's part whole, to the disk itself."""
    write_state(taken, path)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    return StatePart(file=path.name, bytes=path.stat().st_size, sha256=file_digest(path))

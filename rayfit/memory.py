"""What was found out of files, remembered by their paths, sizes and times: hashes, and what else takes long to find.

Memories are JSON files in a storage. A lost or broken one costs only finding it out again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rayfit.identity import digest, file_digest


class Memory:
    """A JSON file of lists by name, which several processes may read and add to at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, list[Any]]:
        """Everything that is remembered."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {name: entry for name, entry in found.items() if isinstance(entry, list)}

    def add(self, entries: dict[str, list[Any]]) -> None:
        """Remember these too."""
        # Read again: finding them out may have taken minutes, and another process may have remembered others meanwhile.
        everything = {**self.read(), **entries}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(f".{secrets.token_hex(4)}.tmp")
        temporary.write_text(json.dumps(everything, indent=1, sort_keys=True), encoding="utf-8")
        temporary.replace(self._path)


class KnownFacts:
    """What was found out of some files, and holds until one of them has another size or time."""

    def __init__(self, memory: Path) -> None:
        self._memory = Memory(memory)

    def of(self, what: str, files: Iterable[Path], find: Callable[[], Any], **made_with: str) -> Any:
        """What `find()` gives, as JSON holds it; called only where nothing is remembered of these files as they are.

        `what`: its name among all that is remembered. `made_with`: what else decides it, such as a library's version.
        What `find` raises is raised, and not remembered.
        """
        state = digest([made_with, [_seen(path) for path in files]])
        match self._memory.read().get(what):
            case [remembered, fact] if remembered == state:
                return fact
        fact = find()
        self._memory.add({what: [state, fact]})
        return fact


def _seen(path: Path) -> list[Any]:
    stat = path.stat()
    return [str(path), stat.st_size, stat.st_mtime_ns]


class KnownFiles:
    """sha256 of local files, remembered by path, size and modification time, so that a plan need not read them."""

    def __init__(self, memory: Path) -> None:
        self._memory = Memory(memory)

    def _read(self) -> dict[str, list[Any]]:
        return {path: entry for path, entry in self._memory.read().items() if len(entry) == 3}

    def known(self, files: list[Path]) -> str | None:
        """The joint digest of the files if every one of them was hashed before and has not changed; else None."""
        memory = self._read()
        found = []
        for path in files:
            entry = memory.get(str(path.resolve()))
            stat = path.stat()
            if entry is None or entry[:2] != [stat.st_size, stat.st_mtime_ns]:
                return None
            found.append([path.name, entry[2]])
        return digest(found)

    def folder_of(self, files_digest: str, list_files: Callable[[Path], list[Path]]) -> Path | None:
        """The remembered folder whose files, as `list_files` names them, have this joint digest now; None: there is none.

        Files that were written again in their old size are read; nothing is remembered.
        """
        memory = self._read()
        for folder in sorted({Path(path).parent for path in memory}):
            if not folder.is_dir():
                continue
            found = []
            for path in list_files(folder):
                size, changed_ns, known = memory.get(str(path.resolve()), (None, None, None))
                stat = path.stat()
                if stat.st_size != size:
                    break
                found.append([path.name, known if stat.st_mtime_ns == changed_ns else file_digest(path)])
            else:
                if digest(found) == files_digest:
                    return folder
        return None

    def hash(self, files: list[Path]) -> str:
        """The joint digest of the files' names and contents; reads them where one is not remembered, and remembers."""
        if (remembered := self.known(files)) is not None:
            return remembered
        fresh: dict[str, list[Any]] = {}
        for path in files:
            stat = path.stat()
            fresh[str(path.resolve())] = [stat.st_size, stat.st_mtime_ns, file_digest(path)]
        self._memory.add(fresh)
        return digest([[path.name, fresh[str(path.resolve())][2]] for path in files])

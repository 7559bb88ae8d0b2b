"""Ids: a readable slug and a hash of what is declared, the same on every machine that declares the same."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The numerics of a stage: raised by hand when the numbers a stage produces change for the same declaration.
# A raised score version makes scores again, and neither trains nor generates anything again.
EXTRACTION_VERSION = 1  # the documents of what is installed with Python
DOMAIN_VERSION = 1  # its parts, what their held-out spans are compared with, the instruction pairs
DATA_VERSION = 1
MAKE_VERSION = 1
CONVERT_VERSION = 1
TRAIN_VERSION = 1
PREDICT_VERSION = 1
COMPARE_VERSION = 1
GENERATE_VERSION = 1
SCORE_VERSION = 3

ID_DIGITS = 12


def canonical(declared: Any) -> str:
    """JSON with sorted keys and no spaces: equal declarations give equal text. Raises TypeError for other types."""
    return json.dumps(declared, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(declared: Any) -> str:
    """sha256 in hex of the canonical form of a declaration made of dict, list, str, int, float, bool and None."""
    return hashlib.sha256(canonical(declared).encode()).hexdigest()


def slug(text: str) -> str:
    """Lower-case letters, digits, dots and dashes of `text`, for the readable part of an id."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "x"


def make_id(readable: str, declared: Any) -> str:
    """`readable` as a slug, a dash, and the first 12 hex digits of the declaration's hash (48 bits)."""
    return f"{slug(readable)}-{digest(declared)[:ID_DIGITS]}"


def bytes_digest(*parts: bytes) -> str:
    """sha256 in hex over byte strings, each preceded by its length, so that borders count."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.hexdigest()


def file_digest(path: Path) -> str:
    """sha256 in hex of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class KnownFiles:
    """sha256 of local files, remembered by path, size and modification time, so that a plan need not read them.

    `memory` is a JSON file; a lost or broken one costs only reading the files again.
    """

    def __init__(self, memory: Path) -> None:
        self._memory = memory

    def _read(self) -> dict[str, list[Any]]:
        try:
            found = json.loads(self._memory.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {path: entry for path, entry in found.items() if isinstance(entry, list) and len(entry) == 3}

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
        # Read again: hashing may have taken minutes, and another process may have remembered other files meanwhile.
        memory = {**self._read(), **fresh}
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._memory.with_suffix(f".{secrets.token_hex(4)}.tmp")
        temporary.write_text(json.dumps(memory, indent=1, sort_keys=True), encoding="utf-8")
        temporary.replace(self._memory)
        return digest([[path.name, fresh[str(path.resolve())][2]] for path in files])

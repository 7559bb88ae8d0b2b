"""Records as files: JSON with sorted keys, read back into their types or refused by file and key."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from rayfit.errors import RayfitError

T = TypeVar("T")

_KEYS = (
    (r"Object missing required field `(.+?)`", "lacks the key"),
    (r"Object contains unknown field `(.+?)`", "has the unknown key"),
)


def encode(record: msgspec.Struct) -> Any:
    """A record as plain dicts, lists, texts and numbers; numbers of numpy are numbers."""
    return msgspec.to_builtins(record, enc_hook=_plain)


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"a record cannot hold a {type(value).__name__}")


def read_record(path: Path, kind: type[T], *, mend: str = "") -> T | None:
    """The record in a file, or None where there is none.

    Raises RayfitError, with the file, for one that was cut short, and for a key that is missing, unknown or of another
    type, which it names. `mend`: what to do then, where it is not to remove the folder and to launch again.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    mend = mend or f"remove the folder {path.parent} and launch its sweep again, which makes what is missing"
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise RayfitError(
            f"{path} {_in_words(str(error))}; it was not written by this rayfit, or by hand: {mend}"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RayfitError(f"{path} was cut short or is no JSON ({error}): {mend}") from error


def _in_words(message: str) -> str:
    """The library's message as a predicate of the file."""
    what, _, where = message.partition(" - at ")
    place = where.strip("`").removeprefix("$").removeprefix(".")
    for pattern, verb in _KEYS:
        if found := re.search(pattern, what):
            return f"{verb} {'.'.join(filter(None, [place, found[1]]))!r}"
    return (
        f"has a wrong value at {place!r}: {what[:1].lower()}{what[1:]}" if place else f"is no record: {what}"
    )


def dumps(content: Any) -> str:
    """JSON text for people: indented, keys sorted. Raises ValueError for a number that is not finite."""
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False)

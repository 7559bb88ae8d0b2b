"""Ids: a readable slug and a hash of what is declared, the same on every machine that declares the same."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

# The numerics of a stage: raised by hand when the numbers a stage produces change for the same declaration.
# A raised score version makes scores again, and neither trains nor generates anything again.
EXTRACTION_VERSION = 1  # the documents of what is installed with Python
DOMAIN_VERSION = 1  # its parts, what their held-out spans are compared with, the instruction pairs
DATA_VERSION = 1
MAKE_VERSION = 1
CONVERT_VERSION = 1
TRAIN_VERSION = 2
PREDICT_VERSION = 2
COMPARE_VERSION = 2
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

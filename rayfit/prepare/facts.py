"""The memory of a storage: what was found out of files that lie elsewhere, and takes seconds to find out again."""

from __future__ import annotations

from rayfit.memory import KnownFacts
from rayfit.records.storage import Storage

KNOWN_FACTS = "known-facts.json"


def known_facts(storage: Storage) -> KnownFacts:
    """What is remembered in a storage of the files of others."""
    return KnownFacts(storage.root / KNOWN_FACTS)

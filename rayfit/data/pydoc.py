"""The embedded corpus: Python's own documentation, as installed with the interpreter that runs."""

from __future__ import annotations

import importlib
from functools import lru_cache

from rayfit.data.documents import Document
from rayfit.data.stdlib import module_docstrings

MIN_CHARACTERS = 100


@lru_cache(maxsize=1)  # parsing takes seconds
def documents() -> tuple[Document, ...]:
    """Every language topic, and every standard-library module's docstrings joined by blank lines, sorted by name.

    Modules with fewer than 100 characters of docstrings are left out. Nothing but `pydoc_data.topics` is imported:
    modules are parsed, never run.
    """
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    found = [Document(f"topics/{name}", text) for name, text in topics.items()]
    for path, text in module_docstrings():
        if len(text) >= MIN_CHARACTERS:
            found.append(Document(docstrings_name(path), text))
    return tuple(sorted(found, key=lambda document: document.name))


def docstrings_name(module_path: str) -> str:
    """The name of a module's docstrings as a document; its hash decides on which side the whole module stands."""
    return f"docstrings/{module_path}"

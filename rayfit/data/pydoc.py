"""The embedded corpus: Python's own documentation, as installed with the interpreter that runs."""

from __future__ import annotations

import ast
import importlib
import platform
import sysconfig
from pathlib import Path
from typing import Any

from rayfit.data.documents import Document

EXTRACTION_VERSION = 1

# idlelib is an application with few docstrings worth reading; tests are not documentation.
_SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "test", "tests", "idlelib", "__pycache__"})
_MIN_CHARACTERS = 100


def declared() -> dict[str, Any]:
    """What names this corpus without reading it: the interpreter's version and the version of the extraction."""
    return {"pydoc": platform.python_version(), "extraction": EXTRACTION_VERSION}


def documents() -> list[Document]:
    """Every language topic, and every standard-library module's docstrings joined by blank lines, sorted by name.

    Modules with fewer than 100 characters of docstrings are left out. Nothing but `pydoc_data.topics` is imported:
    modules are parsed, never run.
    """
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    found = [Document(f"topics/{name}", text) for name, text in topics.items()]
    library = Path(sysconfig.get_path("stdlib"))
    for path in library.rglob("*.py"):
        relative = path.relative_to(library)
        if _SKIPPED_FOLDERS.intersection(relative.parts):
            continue
        text = _docstrings(path)
        if len(text) >= _MIN_CHARACTERS:
            found.append(Document(f"docstrings/{relative.as_posix()}", text))
    return sorted(found, key=lambda document: document.name)


def _docstrings(path: Path) -> str:
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:  # a few files of the library are templates that are not meant to parse
        return ""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    strings = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, owners)]
    return "\n\n".join(string for string in strings if string)

"""The standard library's modules as text: parsed with the interpreter that runs, never imported or run."""

from __future__ import annotations

import ast
import io
import os
import sysconfig
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

# idlelib is an application with few docstrings worth reading; tests are not documentation.
_SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "test", "tests", "idlelib", "__pycache__"})

# Tables of characters and of language topics, and what the build wrote about its own machine.
_NO_SOURCE_FOLDERS = frozenset({"encodings", "pydoc_data"})
_NO_SOURCE_PREFIX = "_sysconfigdata"

_OWNERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_Described = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class SourceModule:
    """One module's source, taken apart. `path` is relative to the library, with forward slashes."""

    path: str
    code: str
    comments: str
    described: tuple[tuple[str, str], ...]  # (first line of the definition, its docstring), in order


def module_docstrings() -> Iterator[tuple[str, str]]:
    """(path, docstrings joined by blank lines) of every module, those without any included; order not promised."""
    for path, relative in module_files():
        tree = _parsed(path.read_bytes())
        yield relative, "" if tree is None else _docstrings(tree)


@lru_cache(maxsize=1)  # several domains are cut from it, and reading takes seconds
def source_modules() -> tuple[SourceModule, ...]:
    """Every module that is written as code, sorted by path: without character tables and build settings."""
    found = []
    for path, relative in module_files():
        parts = Path(relative).parts
        if _NO_SOURCE_FOLDERS.intersection(parts) or parts[-1].startswith(_NO_SOURCE_PREFIX):
            continue
        source = path.read_bytes()
        tree = _parsed(source)
        if tree is not None:
            found.append(take_apart(relative, source, tree))
    return tuple(sorted(found, key=lambda module: module.path))


def take_apart(path: str, source: bytes, tree: ast.Module) -> SourceModule:
    """Code without docstrings, comments and empty lines; the comments; the definitions that have a docstring."""
    tokens = list(tokenize.tokenize(io.BytesIO(source).readline))
    text = source.decode(tokens[0].string)  # the first token is the file's encoding
    lines = io.StringIO(text, newline=None).read().split("\n")
    comments = []
    for token in tokens:
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
            comments.append((row, token.string))
    for statement in _docstring_statements(tree):
        assert statement.end_lineno is not None
        for row in range(statement.lineno, statement.end_lineno + 1):
            lines[row - 1] = ""
    code = "\n".join(line.rstrip() for line in lines if line.strip())
    return SourceModule(path, code, _joined_comments(comments), _described(tree))


def module_files() -> Iterator[tuple[Path, str]]:
    """(file, path relative to the library) of every module, order not promised; topics of the language are one."""
    library = Path(sysconfig.get_path("stdlib"))
    for folder, folders, files in os.walk(library):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
        for name in files:
            if name.endswith(".py"):
                path = Path(folder, name)
                yield path, path.relative_to(library).as_posix()


def _parsed(source: bytes) -> ast.Module | None:
    try:
        return ast.parse(source)
    except SyntaxError:  # a few files of the library are templates that are not meant to parse
        return None


def _docstrings(tree: ast.Module) -> str:
    strings = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, _OWNERS)]
    return "\n\n".join(string for string in strings if string)


def _docstring_statements(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, _OWNERS) and ast.get_docstring(node, clean=False) is not None:
            yield node.body[0]


def _joined_comments(comments: list[tuple[int, str]]) -> str:
    """Comments without their marks: those on consecutive lines belong together, a blank line stands between others."""
    lines: list[str] = []
    last_row = 0
    for row, comment in comments:
        if comment.startswith("#!"):  # the interpreter's path, not a remark
            continue
        if lines and row != last_row + 1:
            lines.append("")
        lines.append(comment.lstrip("#").removeprefix(" ").rstrip())
        last_row = row
    return "\n".join(lines)


def _described(tree: ast.Module) -> tuple[tuple[str, str], ...]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, _Described) and (docstring := ast.get_docstring(node)):
            found.append((_first_line(node), docstring))
    return tuple(found)


def _first_line(node: _Described) -> str:
    """`def name(arguments) -> result:` or `class Name(Base):`, on one line and in one layout."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(map(ast.unparse, node.bases))
        return f"class {node.name}({bases}):" if bases else f"class {node.name}:"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"def {node.name}({ast.unparse(node.args)}){returns}:"

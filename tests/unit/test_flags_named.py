"""Every option that an error, a help text or a note names is one that exists."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator

import pytest

from rayfit.cli import CONFIG
from rayfit.commands import run
from rayfit.config import Options, flag
from tests.unit.fresh import ROOT

_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")

# Of other programs' commands, which are printed for people to run or started by us.
_OF_OTHERS = {
    "--help",
    # mlflow
    *("--artifacts-destination", "--backend-store-uri", "--default-artifact-root", "--experiment-id"),
    *("--port", "--workers"),
    *("--repo-type",),  # hf download
    *("--porcelain", "--untracked-files"),  # git status
}


def _named() -> Iterator[tuple[str, str]]:
    """(place, flag) of every flag in a text of the source."""
    for file in sorted((ROOT / "rayfit").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for name in _FLAG.findall(node.value):
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", name


def test_every_flag_that_is_named_exists(capsys: pytest.CaptureFixture[str]) -> None:
    known = {flag(field.name) for field in dataclasses.fields(Options)} | {CONFIG} | _OF_OTHERS
    for command in ("list", "show", "sync", "report", "clean", "generate", "plan", "models", "datasets"):
        with pytest.raises(SystemExit):
            run([command, "--help"])
    known |= set(_FLAG.findall(capsys.readouterr().out))
    assert [(place, name) for place, name in _named() if name not in known] == []

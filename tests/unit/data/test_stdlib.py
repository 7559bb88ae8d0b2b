from __future__ import annotations

import ast

from rayfit.data.stdlib import SourceModule, take_apart

SOURCE = b'''#!/usr/bin/env python
# -*- coding: latin-1 -*-
"""What the module does."""

import os  # for paths
#: two lines
#   that belong together

NAME = "# not a comment \xe9"


class Box(dict, metaclass=type):
    "Holds things."

    async def open(self, *keys: str, force=False) -> list[str]:
        \'\'\'Open it.

        Twice.
        \'\'\'
        return [os.path.join(key) for key in keys]  # joined

    def shut(self):
        """Shut it."""
'''


def _taken_apart(source: bytes) -> SourceModule:
    return take_apart("box.py", source, ast.parse(source))


def test_code_has_neither_docstrings_nor_comments_nor_empty_lines() -> None:
    assert _taken_apart(SOURCE).code.split("\n") == [
        "import os",
        'NAME = "# not a comment é"',
        "class Box(dict, metaclass=type):",
        "    async def open(self, *keys: str, force=False) -> list[str]:",
        "        return [os.path.join(key) for key in keys]",
        "    def shut(self):",
    ]


def test_comments_on_consecutive_lines_belong_together() -> None:
    assert _taken_apart(SOURCE).comments.split("\n") == [
        "-*- coding: latin-1 -*-",
        "",
        "for paths",
        ": two lines",
        "  that belong together",
        "",
        "joined",
    ]


def test_definitions_with_a_docstring_are_described_by_their_first_line() -> None:
    assert _taken_apart(SOURCE).described == (
        ("class Box(dict):", "Holds things."),
        ("def open(self, *keys: str, force=False) -> list[str]:", "Open it.\n\nTwice."),
        ("def shut(self):", "Shut it."),
    )


def test_the_ends_of_lines_do_not_matter() -> None:
    assert _taken_apart(SOURCE.replace(b"\n", b"\r\n")) == _taken_apart(SOURCE)

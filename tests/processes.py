"""The processes of a launch, by what Ray calls them."""

from __future__ import annotations

from pathlib import Path


def children(pid: int) -> list[int]:
    """Direct children, of all its threads."""
    lists = [file.read_text().split() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for own in lists for child in own]


def descendants(pid: int, title: str) -> list[int]:
    """The processes that came from one and whose title begins so, such as `ray::Evaluator`."""
    found = []
    for child in children(pid):
        try:
            if Path(f"/proc/{child}/cmdline").read_text().startswith(title):
                found.append(child)
            found += descendants(child, title)
        except OSError:  # it has ended meanwhile
            continue
    return found

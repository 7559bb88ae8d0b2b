"""The README's table of rooms is the disk's."""

from __future__ import annotations

import re

from tests.unit.fresh import ROOT

OUTSIDE = ("sweeps", "cluster", "tests", "benchmarks", "docs")
_ROW = re.compile(r"^\|(?P<places>[^|]*)\|(?P<about>[^|]*)\|\s*$")
_PLACE = re.compile(r"`([\w./-]+)`")


def _is_used(folder_name: str) -> bool:
    folder = ROOT / folder_name
    return any(path.is_file() and "__pycache__" not in path.parts for path in folder.rglob("*"))


def rooms_on_disk() -> set[str]:
    """Folders of the package, and the folders beside it that hold anything."""
    package = [f"rayfit/{path.parent.name}" for path in (ROOT / "rayfit").glob("*/__init__.py")]
    return {f"{name}/" for name in (*package, *OUTSIDE) if _is_used(name)}


def rows_of_readme() -> dict[str, str]:
    """What the README's tables say about places of this repository, by place."""
    found: dict[str, str] = {}
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        if row := _ROW.match(line):
            for place in _PLACE.findall(row["places"]):
                if place.startswith("rayfit/") or place.rstrip("/") in OUTSIDE:
                    assert place not in found, f"README.md has two rows for {place}"
                    found[place] = row["about"].strip()
    return found


def test_every_room_has_a_row_and_every_row_a_room() -> None:
    folders = {place for place in rows_of_readme() if place.endswith("/")}
    assert rooms_on_disk() - folders == set(), "folders that README.md's table of rooms lacks"
    assert folders - rooms_on_disk() == set(), "rows of README.md's table of rooms that are no folder"


def test_every_file_that_has_a_row_is_there() -> None:
    files = [place for place in rows_of_readme() if not place.endswith("/")]
    assert [place for place in files if not (ROOT / place).is_file()] == []


def test_every_row_says_what_the_room_is_for() -> None:
    assert [place for place, about in rows_of_readme().items() if not about] == []

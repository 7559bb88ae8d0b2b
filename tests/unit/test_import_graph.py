"""No module imports itself through others, not even for types alone, and no room imports from one that comes after it."""

from __future__ import annotations

import ast

from tests.unit.fresh import ROOT

VOCABULARY = {
    "allocator",
    "columns",
    "config",
    "console",
    "decoding",
    "devices",
    "errors",
    "gpu_memory",
    "hub_presets",
    "identity",
    "memory",
    "presets",
    "scores",
    "shape",
    "terminal",
    "text_files",
}
# A room imports from those on the lines above its own, and from itself; vocabulary from vocabulary.
ORDER = (
    VOCABULARY,
    {"records"},
    {"plan"},
    {"data"},
    {"prepare", "score"},
    {"train", "generate"},
    {"measure"},
    {"findings"},
    {"report"},
    {"track"},
    {"sweep", "ask"},
    {"listing"},
    {"commands"},
    {"cli"},
    {"rayfit"},  # the package itself, which says what a sweep's script imports
)
# An embedded model is made, and pickled weights are converted, by code of the training room in a process of its own.
EXCEPTIONS = {
    ("rayfit.prepare.making", "rayfit.train"),
    ("rayfit.prepare.given_models", "rayfit.train"),
}


def _imports() -> dict[str, set[str]]:
    """Which modules of the package each of them imports, wherever in the file it does."""
    files = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for file in (ROOT / "rayfit").rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for name, file in files.items():
        wanted: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                wanted.add(node.module)
                wanted |= {f"{node.module}.{alias.name}" for alias in node.names}
        found[name] = (wanted & files.keys()) - {name}
    return found


def _circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other."""
    reached: dict[str, set[str]] = {}
    for start in imports:
        seen: set[str] = set()
        left = list(imports[start])
        while left:
            name = left.pop()
            if name not in seen:
                seen.add(name)
                left += imports[name]
        reached[start] = seen
    groups = {frozenset(other for other in reached[name] if name in reached[other]) for name in imports}
    return sorted(sorted(group) for group in groups if group)


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def _against_the_order(imports: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Imports (from, of) that are of another room, and of none on a line above."""
    line = {room: number for number, rooms in enumerate(ORDER) for room in rooms}
    return sorted(
        (name, other)
        for name, others in imports.items()
        for other in others
        if (room := _room(name)) != (wanted := _room(other))
        and not {room, wanted} <= VOCABULARY
        and line[wanted] >= line[room]
        and (name, f"rayfit.{wanted}") not in EXCEPTIONS
    )


def test_every_room_has_its_place_in_the_order() -> None:
    assert {_room(name) for name in _imports()} <= set().union(*ORDER)


def test_no_room_imports_from_one_that_comes_after_it() -> None:
    assert _against_the_order(_imports()) == []


def test_what_is_declared_knows_neither_the_data_nor_what_continues_it() -> None:
    found = _imports()
    declaring = [name for name in found if _room(name) in ("config", "plan")]
    assert "rayfit.plan.sources" in declaring
    assert not {
        (name, other) for name in declaring for other in found[name] if _room(other) in ("data", "generate")
    }


def test_the_test_would_see_an_import_against_the_order() -> None:
    imports = {
        "rayfit.plan.grid": {"rayfit.data.order", "rayfit.records.storage", "rayfit.plan.trials"},
        "rayfit.identity": {"rayfit.errors", "rayfit.records.storage"},
        "rayfit.train.loop": {"rayfit.generate", "rayfit.score.logits"},
        "rayfit.prepare.making": {"rayfit.train.make"},
        "rayfit.prepare.apart": {"rayfit.train.make"},
    }
    assert _against_the_order(imports) == [
        ("rayfit.identity", "rayfit.records.storage"),
        ("rayfit.plan.grid", "rayfit.data.order"),
        ("rayfit.prepare.apart", "rayfit.train.make"),
        ("rayfit.train.loop", "rayfit.generate"),
    ]


def test_no_import_comes_back_to_where_it_began() -> None:
    assert _circles(_imports()) == []


def test_the_test_would_see_a_circle() -> None:
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]

"""Every file in sweeps/ is a short declaration that plans at once, without the libraries that training needs."""

from __future__ import annotations

import ast
import re
import stat
from pathlib import Path

import pytest

from rayfit.config import SCALES
from tests.unit.fresh import HEAVY, ROOT, run_python

SCRIPTS = sorted((ROOT / "sweeps").glob("*.py"))
_ID = re.compile(r"^(?:.* )?\S+-[0-9a-f]{12} ", re.MULTILINE)
_TRIAL = re.compile(r"^.*\bpydoc-1m-\S+-[0-9a-f]{12} ", re.MULTILINE)


def _everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_there_are_sweeps() -> None:
    assert "data_quantity.py" in [script.name for script in SCRIPTS]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
class TestEverySweep:
    def test_it_is_a_declaration_of_at_most_40_lines(self, script: Path) -> None:
        source = script.read_text(encoding="utf-8")
        assert len(source.splitlines()) <= 40
        tree = ast.parse(source)
        assert ast.get_docstring(tree)
        logic = (ast.For, ast.While, ast.FunctionDef, ast.ClassDef, ast.Try)
        assert not [node for node in ast.walk(tree) if isinstance(node, logic)]

    def test_it_can_be_started_by_its_name(self, script: Path) -> None:
        assert script.read_text(encoding="utf-8").splitlines()[0] == "#!/usr/bin/env python3"
        assert script.stat().st_mode & stat.S_IXUSR

    @pytest.mark.parametrize("scale", SCALES)
    def test_it_plans_at_every_scale(self, script: Path, scale: str, tmp_path: Path) -> None:
        done = run_python(str(script), "--plan", "--scale", scale, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"scale {scale}" in done.stdout
        # The paper's models and texts are on the hub: their ids wait for a commit.
        assert "(id pending)" in done.stdout if scale == "paper" else _ID.search(done.stdout)
        assert _everything(tmp_path) == set()


SCRIPT = str(ROOT / "sweeps" / "data_quantity.py")


def _plan_with_modules(*arguments: str, cwd: Path) -> tuple[str, list[str]]:
    """What `--plan` prints, and the heavy libraries it imported, seen in the interpreter itself."""
    code = (
        f"import runpy, sys\nsys.argv = [{SCRIPT!r}, '--plan', *{list(arguments)!r}]\n"
        f"try:\n    runpy.run_path({SCRIPT!r}, run_name='__main__')\n"
        f"except SystemExit as ended:\n    assert ended.code == 0\n"
        f"print('HEAVY', *[name for name in {HEAVY} if name in sys.modules])"
    )
    done = run_python("-c", code, cwd=cwd)
    assert done.returncode == 0, done.stderr
    text, _, heavy = done.stdout.rpartition("HEAVY")
    return text, heavy.split()


def test_a_plan_prints_its_ids_imports_no_heavy_library_and_makes_nothing(tmp_path: Path) -> None:
    text, heavy = _plan_with_modules("--storage", "runs", cwd=tmp_path)
    assert heavy == []
    assert len(_TRIAL.findall(text)) == 8
    assert _everything(tmp_path) == set()


def test_a_plan_of_local_files_reads_none_of_them_and_makes_nothing(shared: Path, tmp_path: Path) -> None:
    local = (
        "--model",
        str(shared / "models" / "stories260K"),
        "--dataset",
        str(shared / "data" / "fiction.parquet"),
    )
    text, heavy = _plan_with_modules(*local, "--samples", "16,128", "--num-updates", "9", cwd=tmp_path)
    assert heavy == [] and text.count("(id pending)") == 2
    assert "260,032 parameters" in text
    assert _everything(tmp_path) == set()


def test_a_refused_value_is_one_line_and_status_2_and_makes_nothing(tmp_path: Path) -> None:
    done = run_python(SCRIPT, "--num-workers", "3", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        done.stdout == ""
        and done.stderr.startswith("error: --num-workers: ")
        and done.stderr.count("\n") == 1
    )
    assert _everything(tmp_path) == set()

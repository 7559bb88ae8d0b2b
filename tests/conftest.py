"""What several tests share: the environment of every test, and one storage with the small embedded model made in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from rayfit.prepare.facts import KNOWN_FACTS
from rayfit.records.storage import MARK

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two processes of torch with two threads each, on two cores, wait for each other most of the time.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
STARTING_RAY = (
    "test_benchmarks_on_ray",
    "test_every_sweep",
    "test_job",
    "test_own_measurement",
    "test_sweep",
    "test_smoke",
)


@pytest.hookimpl(optionalhook=True)
def pytest_configure(config: pytest.Config) -> None:
    """No test but those of GPUs may take one that happens to be here: a launch would, where nothing is said."""
    asked = [config.option.markexpr, *map(str, config.args)]
    here = Path(
        "/dev/nvidiactl"
    ).exists()  # where there is none, tests tell Ray of some, which it then must not miss
    if here and not any("gpu" in word and "not gpu" not in word for word in asked):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several processes, one runs the tests that start a Ray, so that no two of those run at once."""
    from xdist.scheduler import LoadScopeScheduling

    class RaysApart(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "rays" if Path(file).stem in STARTING_RAY else file

    return RaysApart(config, log)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real text and a real model that are no part of the project."""
    if not SHARED.is_dir():
        pytest.skip(f"needs real data and models in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage in which pydoc-0.5m is made, and the text that it is usually trained on is cut."""
    from rayfit.config import Options
    from rayfit.console import Console
    from rayfit.plan.planning import make_plan
    from rayfit.plan.sources import resolve_model
    from rayfit.prepare.made_models import made_model
    from rayfit.prepare.token_rows import CutTexts
    from rayfit.records.storage import Storage
    from tests.launching import quantity

    # Processes share it: one of them makes what is not there yet, and the others wait.
    folder = tmp_path_factory.getbasetemp()
    storage = Storage((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "made")
    made_model(resolve_model("pydoc-0.5m", "main", storage), storage, Console())
    options = Options(model=("pydoc-0.5m",), scale="ci", storage=str(storage.root))
    for domain in make_plan(quantity(), options, storage).domains:
        CutTexts(storage).make(domain)
    return storage.root


@pytest.fixture
def storage_root(made: Path, tmp_path: Path) -> Path:
    """A storage of the test's own, with the small embedded model and its text in it and nothing else."""
    return with_the_model(made, tmp_path / "runs", "texts", KNOWN_FACTS)


def with_the_model(made: Path, root: Path, *more: str) -> Path:
    """A storage with the small embedded model in it, and what else is named of the one in which it was made."""
    root.mkdir(exist_ok=True)
    for name in ("models", MARK, *more):
        copy = shutil.copytree if (made / name).is_dir() else shutil.copy
        copy(made / name, root / name)
    return root

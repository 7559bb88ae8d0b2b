"""Sweeps that several tests read: made once, and copied for each test that asks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rayfit.records.storage import Storage
from rayfit.records.sweep import SweepRecord
from tests.unit.report.sweeps import Kept, full_sweep, prompt_sweep


@pytest.fixture(scope="session")
def made_sweeps(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Kept]:
    """The sweep of a name, made when it is first asked for."""
    makers: dict[str, Callable[[Storage], SweepRecord]] = {"full": full_sweep, "prompts": prompt_sweep}
    made: dict[str, Kept] = {}

    def sweep(name: str) -> Kept:
        if name not in made:
            storage = Storage(tmp_path_factory.mktemp(name) / "runs")
            made[name] = Kept(makers[name](storage), storage)
        return made[name]

    return sweep


def _copy(kept: Kept, folder: Path) -> Kept:
    storage = Storage(folder / "runs")
    shutil.copytree(kept.storage.root, storage.root)
    return Kept(kept.record, storage)


@pytest.fixture
def full(made_sweeps: Callable[[str], Kept], tmp_path: Path) -> Kept:
    """A sweep with everything that a report can show, in a storage of the test's own."""
    return _copy(made_sweeps("full"), tmp_path)


@pytest.fixture
def with_prompts(made_sweeps: Callable[[str], Kept], tmp_path: Path) -> Kept:
    """A sweep with rows on prompts, in a storage of the test's own."""
    return _copy(made_sweeps("prompts"), tmp_path)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty storage."""
    return Storage(tmp_path / "runs")


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer with few merges, so that a rare character is several tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=280, initial_alphabet=alphabet, special_tokens=["<s>"], show_progress=False
    )
    tokenizer.train_from_iterator(["the fox and the owl and the fox"] * 20, trainer)
    path: Path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path

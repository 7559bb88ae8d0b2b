"""A storage with two small models that know some sentences a little, and trials that started from one of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import polars as pl
import pytest

from rayfit.config import Options
from rayfit.data.rows import tokenize_spans
from rayfit.plan.sources import known_files, model_files, resolve_model
from rayfit.presets import MadeModel
from rayfit.records.storage import Storage, write_parquet
from rayfit.records.trial import TrainedModel, TrainedRows, TrialFailure, TrialRecord
from rayfit.records.trials import product_path, write_failure
from tests.finished import Finished
from tests.unit.plan.examples import plan_of

SENTENCES = [
    "The cat sat on the mat and looked at the dog, which slept near the fire all day long.",
    "A list of numbers is given; the function returns the sum of the numbers in the list.",
    "When the rain began, the children ran home and told their mother about the green boat.",
    "Every morning the baker opens the door, counts the loaves, and waits for the first guest.",
]
WINDOW = 96
SIZES = MadeModel(
    hidden_size=32,
    intermediate_size=64,
    num_layers=1,
    num_heads=2,
    num_updates=120,
    vocabulary_size=320,
    context_window=WINDOW,
    batch_size=4,
    sequence_length=32,
    warmup_updates=5,
    learning_rate=1e-2,
)


@dataclass(frozen=True)
class Models:
    """Directories: `original`, `trained` with the same tokenizer, and `stranger` with another."""

    original: Path
    trained: Path
    stranger: Path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    from rayfit.train.make import make_model

    root = tmp_path_factory.mktemp("models")
    texts = SENTENCES * 4
    made = {
        "original": (SIZES, texts),
        "trained": (MadeModel(**{**SIZES.declared(), "seed": 1}), texts),
        "stranger": (
            MadeModel(**{**SIZES.declared(), "vocabulary_size": 300, "num_updates": 5}),
            texts[::-1],
        ),
    }
    for name, (sizes, some) in made.items():
        make_model(sizes, some, root / name, report=lambda _: None, num_threads=1, precision="fp32")
    return Models(**{name: root / name for name in made})


@pytest.fixture(scope="session")
def some_trial(tmp_path_factory: pytest.TempPathFactory) -> TrialRecord:
    """A record as the product makes it."""
    elsewhere = Storage(tmp_path_factory.mktemp("elsewhere"))
    made = Finished(elsewhere, plan_of(elsewhere))
    return made.train(made.plan.trials[0])


def write_trial(
    storage: Storage,
    made: TrialRecord,
    identifier: str,
    kind: Literal["made", "local"],
    name: str,
    declared: dict[str, Any],
    checkpoint: Path,
) -> None:
    """A finished trial of this model whose checkpoint is a link to a directory, trained on some rows."""
    record = msgspec.structs.replace(
        made,
        id=identifier,
        model=TrainedModel(name=name, kind=kind, parameters=1, weights_sha256=None),
        declared={**made.declared, "model": declared},
        rows=TrainedRows(id="some-rows", fingerprint="f"),
    )
    product = record.product("checkpoint-fp32")
    assert product is not None
    place = product_path(storage, record, product)
    place.parent.mkdir(parents=True)
    place.symlink_to(checkpoint, target_is_directory=True)
    storage.write("trials", identifier, record)


@pytest.fixture
def storage(models: Models, some_trial: TrialRecord, tmp_path: Path) -> Storage:
    """Trials `local-n8-...` and `local-n9-...` of a local model, `made-n8-...` of a made one, one failed, one unfinished."""
    from transformers import AutoTokenizer

    storage = Storage(tmp_path / "runs")
    digest = known_files(storage).hash(model_files(models.original))
    for identifier in ("local-n8-0123456789ab", "local-n9-ba9876543210"):
        declared = {"files_sha256": digest}
        write_trial(storage, some_trial, identifier, "local", "original", declared, models.trained)
    source = resolve_model("pydoc-0.5m", Options().revision, storage)
    assert source.declared is not None
    write_trial(
        storage, some_trial, "made-n8-00112233aabb", "made", source.name, source.declared, models.trained
    )
    failure = TrialFailure(
        id="failed-n8-ffffffffffff",
        error="the loss was NaN",
        failed_at="2026-01-01",
        readable="failed-n8",
        declared=None,
    )
    write_failure(storage, failure)
    (storage.folder("trials", "half-n8-eeeeeeeeeeee") / "attempt-1").mkdir(parents=True)
    tokenizer = AutoTokenizer.from_pretrained(models.original)
    spans = pl.DataFrame(
        [
            {"document": "some", "start": place, "end": place + 1, "text": text}
            for place, text in enumerate(SENTENCES)
        ]
    )
    rows = tokenize_spans(
        spans,
        lambda text: tokenizer(text, add_special_tokens=False)["input_ids"],
        bos_id=tokenizer.bos_token_id,
        sequence_length=24,
        tokenizer_name="original",
    )
    write_parquet(storage.folder("rows", "some-rows") / "rows.parquet", rows)
    return storage


def put_made_model(storage: Storage, directory: Path) -> Path:
    """Let the storage hold `directory` as its pydoc-0.5m."""
    made_id = resolve_model("pydoc-0.5m", Options().revision, storage).made_id
    folder = storage.folder("models", made_id)
    folder.mkdir(parents=True)
    for file in directory.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    storage.write("models", made_id, {"id": made_id})
    return folder

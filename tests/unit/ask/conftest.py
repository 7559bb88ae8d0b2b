"""A storage with two small models that know some sentences a little, and trials that started from one of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rayfit.config import Options
from rayfit.data.rows import tokenize_spans
from rayfit.plan.sources import known_files, model_files, resolve_model
from rayfit.presets import MadeModel
from rayfit.records.storage import Storage, write_parquet
from rayfit.records.trials import write_failure

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


def write_trial(
    storage: Storage, identifier: str, model: dict[str, Any], declared: dict[str, Any], checkpoint: Path
) -> None:
    """A finished trial whose checkpoint is a link to a directory, and its rows."""
    attempt = storage.folder("trials", identifier) / "attempt-1"
    attempt.mkdir(parents=True)
    (attempt / "checkpoint").symlink_to(checkpoint, target_is_directory=True)
    storage.write(
        "trials",
        identifier,
        {
            "id": identifier,
            "model": model,
            "declared": {"model": declared},
            "products": {
                "checkpoint-fp32": "attempt-1/checkpoint",
                "curve-every8": "attempt-1/curve.parquet",
            },
            "rows": {"id": "some-rows"},
        },
    )


@pytest.fixture
def storage(models: Models, tmp_path: Path) -> Storage:
    """Trials `local-n8-...` and `local-n9-...` of a local model, `made-n8-...` of a made one, one failed, one unfinished."""
    from transformers import AutoTokenizer

    storage = Storage(tmp_path / "runs")
    digest = known_files(storage).hash(model_files(models.original))
    local = ({"kind": "local", "name": "original"}, {"files_sha256": digest})
    for identifier in ("local-n8-0123456789ab", "local-n9-ba9876543210"):
        write_trial(storage, identifier, *local, models.trained)
    source = resolve_model("pydoc-0.5m", Options().revision, storage)
    assert source.declared is not None
    write_trial(
        storage,
        "made-n8-00112233aabb",
        {"kind": "made", "name": source.name},
        source.declared,
        models.trained,
    )
    write_failure(storage, "failed-n8-ffffffffffff", {"error": "the loss was NaN"})
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

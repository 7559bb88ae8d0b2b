from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rayfit.errors import RayfitError
from rayfit.records.frames import evaluations, generations
from rayfit.records.storage import Storage, write_parquet


def _entry(value: float | None, count: int, reason: str | None = None) -> dict[str, Any]:
    bound = None if value is None else value / 2
    return {"value": value, "low": bound, "high": bound, "count": count, "reason": reason}


def _write(
    storage: Storage, identifier: str, trial_id: str | None, scores: dict[str, Any], **columns: list[Any]
) -> None:
    texts = [[7, 8], [9]]
    frame = pl.DataFrame(
        {
            "context_id": ["doc:1000", "doc:0"],
            "domain": ["pydoc", "pydoc"],
            **{name: ["one", "two"] for name in ("context", "truth", "text")},
            "token_ids": pl.Series(texts, dtype=pl.List(pl.Int32)),
            **columns,
        }
    )
    folder = storage.folder("evaluations", identifier)
    write_parquet(folder / "generations-new.parquet", frame)
    write_parquet(folder / "generations-old.parquet", frame.head(1))
    record = {
        "id": identifier,
        "trial_id": trial_id,
        "model_name": "pydoc-1m",
        "decoding": "greedy",
        "domain": "pydoc",
        "generations": "generations-new.parquet",
        "scores": scores,
    }
    storage.write("evaluations", identifier, record)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    storage = Storage(tmp_path / "runs")
    _write(storage, "b-trial", "trial-1", {"ttr": _entry(0.5, 2), "entropy": _entry(2.0, 2)}, ttr=[0.5, 1.0])
    _write(storage, "a-original", None, {"overlap": _entry(None, 0, "no rows")}, rep=[0.0, None])
    unfinished = storage.folder("evaluations", "c-unfinished")
    write_parquet(unfinished / "generations-new.parquet", pl.DataFrame({"context_id": ["doc:0"]}))
    return storage.root


def test_generations_of_finished_evaluations_with_what_they_belong_to(root: Path) -> None:
    frame = generations(root)
    labels = frame.select(
        "evaluation_id", "trial_id", "model_name", "decoding", "domain", "context_id"
    ).rows()
    assert labels == [
        ("a-original", None, "pydoc-1m", "greedy", "pydoc", "doc:1000"),
        ("a-original", None, "pydoc-1m", "greedy", "pydoc", "doc:0"),
        ("b-trial", "trial-1", "pydoc-1m", "greedy", "pydoc", "doc:1000"),
        ("b-trial", "trial-1", "pydoc-1m", "greedy", "pydoc", "doc:0"),
    ]
    assert frame["token_ids"].to_list() == [[7, 8], [9]] * 2
    assert frame["text"].to_list() == ["one", "two"] * 2


def test_scores_that_an_evaluation_lacks_are_null(root: Path) -> None:
    frame = generations(root)
    assert frame["ttr"].to_list() == [None, None, 0.5, 1.0]
    assert frame["rep"].to_list() == [0.0, None, None, None]


def test_evaluations_have_a_row_per_score(root: Path) -> None:
    trial = ("b-trial", "trial-1", "pydoc-1m", "greedy", "pydoc")
    assert evaluations(root).rows() == [
        ("a-original", None, "pydoc-1m", "greedy", "pydoc", "overlap", None, None, None, 0, "no rows"),
        (*trial, "entropy", 2.0, 1.0, 1.0, 2, None),
        (*trial, "ttr", 0.5, 0.25, 0.25, 2, None),
    ]
    columns = "evaluation_id trial_id model_name decoding domain score value low high num_texts reason"
    assert evaluations(root).columns == columns.split()


@pytest.mark.parametrize("read", [generations, evaluations])
def test_a_storage_without_evaluations_has_the_same_columns(read: Any, root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty, full = read(str(tmp_path / "empty")), read(root)
    assert empty.height == 0
    assert {name: full.schema[name] for name in empty.columns} == dict(empty.schema)


@pytest.mark.parametrize("read", [generations, evaluations])
def test_a_folder_that_is_not_there_is_refused(read: Any, tmp_path: Path) -> None:
    with pytest.raises(RayfitError, match=r"storage: there is no folder .*nowhere"):
        read(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()

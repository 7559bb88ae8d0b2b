"""What is prepared already is not prepared again: no text is read, no tokenizer loaded, and yet all is checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rayfit.config import Options
from rayfit.console import Console
from rayfit.errors import RayfitError
from rayfit.prepare import made_models, model_check, token_rows
from rayfit.prepare.prepare import prepare
from rayfit.presets import MadeModel
from rayfit.records.storage import Storage
from tests.unit.plan.examples import BASE, SWEEP

TINY = MadeModel(
    hidden_size=16,
    intermediate_size=32,
    num_layers=1,
    num_heads=2,
    num_updates=1,
    vocabulary_size=300,
    context_window=96,
    batch_size=1,
    sequence_length=32,
    warmup_updates=1,
    learning_rate=1e-3,
)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


@pytest.fixture
def options(tmp_path: Path, storage: Storage) -> Options:
    from rayfit.train.make import make_model

    words = [f"word{place}" for place in range(97)]
    (tmp_path / "tiny").mkdir()
    make_model(TINY, [" ".join(words)] * 4, tmp_path / "tiny", report=print, num_threads=1, precision="fp32")
    (tmp_path / "texts").mkdir()
    for place in range(80):
        text = " ".join(f"word{place * word % 97}" for word in range(600))
        (tmp_path / "texts" / f"{place}.txt").write_text(text)
    prompts = tmp_path / "own.txt"
    prompts.write_text("a word\nsome more words")
    given: dict[str, Any] = {
        **BASE,
        "storage": str(storage.root),
        "model": (str(tmp_path / "tiny"),),
        "dataset": (str(tmp_path / "texts"),),
        "scale": "ci",
        "contexts": 4,
        "validation_rows": 4,
        "sequence_length": 32,
        "span_characters": 600,
        "context_length": 8,
        "num_new_tokens": 8,
        "prompts": str(prompts),
    }
    return Options(**given)


def _prepare(options: Options, storage: Storage) -> Any:
    storage.root.mkdir(exist_ok=True)
    return prepare(SWEEP, options, storage, Console())


def test_kept_rows_need_no_text_and_no_tokenizer(
    options: Options, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _prepare(options, storage)
    kept = {identifier: storage.rows(identifier) for identifier in storage.ids("rows")}
    assert kept

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("is there already")

    for name in ("read_spans", "known_tokenizer", "draw_samples", "draw_held_out"):
        monkeypatch.setattr(token_rows, name, refuse)
    monkeypatch.setattr(model_check, "check_model", refuse)
    again = _prepare(options, storage)
    assert again.model_paths == first.model_paths
    assert [trial.id for trial in again.plan.unique_trials] == [
        trial.id for trial in first.plan.unique_trials
    ]
    assert {identifier: storage.rows(identifier) for identifier in storage.ids("rows")} == kept


def test_kept_prompts_must_fit_all_the_same(options: Options, storage: Storage) -> None:
    _prepare(options, storage)
    with pytest.raises(RayfitError, match="tokens"):
        _prepare(replace(options, num_new_tokens=10_000), storage)


def test_too_little_text_is_said_for_the_rows_that_are_missing(options: Options, storage: Storage) -> None:
    _prepare(options, storage)
    with pytest.raises(RayfitError, match="text texts: samples: 100000 asked for"):
        _prepare(replace(options, samples=(8, 100_000)), storage)
    with pytest.raises(RayfitError, match="text texts: contexts and validation_rows: 100000"):
        _prepare(replace(options, contexts=100_000), storage)


def test_a_tokenizer_that_changed_is_checked_again(options: Options, storage: Storage) -> None:
    _prepare(options, storage)
    assert options.model is not None
    (Path(options.model[0]) / "tokenizer.json").write_text("{")
    with pytest.raises(RayfitError, match=r"the tokenizer of .* cannot be loaded"):
        _prepare(options, storage)


def test_the_corpus_is_parsed_once(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []
    monkeypatch.setattr(made_models, "_corpus_fingerprint", lambda: parsed.append(1) or "f" * 64)
    assert [made_models.corpus_fingerprint(storage) for _ in range(3)] == ["f" * 64] * 3
    assert len(parsed) == 1

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rayfit.errors import RayfitError
from rayfit.plan.hub import write_lock
from rayfit.plan.sources import (
    ModelSource,
    TextSource,
    absolute_name,
    model_files,
    resolve_model,
    resolve_text,
)
from rayfit.presets import DEFAULT_POOL
from rayfit.records.storage import Storage
from tests.unit.plan.examples import hash_model, write_model


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def _model(storage: Storage, name: object, revision: str = "main") -> ModelSource:
    return resolve_model(str(name), revision, storage)


def _text(storage: Storage, name: object, model: str = "pydoc-1m") -> TextSource:
    given = None if name is None else str(name)
    return resolve_text(given, "text", DEFAULT_POOL, _model(storage, model), storage)


def _refusal(call: Any, *arguments: Any) -> str:
    with pytest.raises(RayfitError) as caught:
        call(*arguments)
    return str(caught.value)


class TestModels:
    def test_a_preset_is_made_here_and_trained_at_its_own_rate(self, storage: Storage) -> None:
        model = _model(storage, "pydoc-1m")
        assert (model.kind, model.default_scale, model.default_learning_rate) == ("made", "laptop", 3e-3)
        assert model.made_id.startswith("pydoc-1m-")

    def test_a_misspelt_preset_is_refused_with_the_nearest(self, storage: Storage) -> None:
        message = _refusal(_model, storage, "pydok-1m")
        for part in ("--model", "'pydok-1m'", "did you mean 'pydoc-1m'?", "pydoc-0.5m", "hub id such as"):
            assert part in message

    @pytest.mark.parametrize("name", ["./missing", "/no/such/model", "~/no/such/model", "../a/b"])
    def test_a_missing_directory_is_refused_as_such(self, storage: Storage, name: str) -> None:
        assert "there is no directory" in _refusal(_model, storage, name)

    def test_a_local_directory_is_named_counted_and_not_read(self, storage: Storage, tmp_path: Path) -> None:
        model = _model(storage, write_model(tmp_path / "Tiny Model", shape=(5, 7)))
        assert (model.name, model.kind, model.num_parameters) == ("tiny-model", "local", 35)
        assert (model.default_scale, model.default_learning_rate) == ("laptop", 1e-6)
        assert model.declared is None  # pending

    def test_parameters_of_several_files_add_up(self, storage: Storage, tmp_path: Path) -> None:
        folder = write_model(tmp_path / "model")
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
        write_model(tmp_path / "other", shape=(10, 10)).joinpath("model.safetensors").rename(
            folder / "model-00002-of-00002.safetensors"
        )
        assert _model(storage, folder).num_parameters == 4 * 3 + 100

    def test_a_large_local_model_is_for_the_paper_s_scale(self, storage: Storage) -> None:
        model = ModelSource(name="x", kind="local", declared=None, num_parameters=1_100_000_000)
        assert model.default_scale == "paper"

    def test_a_directory_without_config_is_refused(self, storage: Storage, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        message = _refusal(_model, storage, tmp_path / "empty")
        assert str(tmp_path / "empty") in message and "no config.json" in message

    def test_pickled_weights_are_part_of_what_a_directory_is(self, storage: Storage, tmp_path: Path) -> None:
        folder = write_model(tmp_path / "model")
        weights = (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        (folder / "training_args.bin").write_bytes(b"of no interest")
        model = _model(storage, folder)
        assert (model.kind, model.declared, model.num_parameters) == ("local", None, None)
        assert weights in model_files(folder) and folder / "training_args.bin" not in model_files(folder)
        hash_model(storage, folder)
        before = _model(storage, folder).declared
        weights.write_bytes(b"others")
        hash_model(storage, folder)
        assert _model(storage, folder).declared != before

    def test_a_small_model_of_pickled_weights_is_small(self, storage: Storage, tmp_path: Path) -> None:
        folder = write_model(tmp_path / "model")
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        assert _model(storage, folder).default_scale == "laptop"
        os.truncate(folder / "pytorch_model.bin", 4 * 50_000_001)
        assert _model(storage, folder).default_scale == "paper"

    def test_a_directory_that_lacks_a_shard_is_refused(self, storage: Storage, tmp_path: Path) -> None:
        folder = write_model(tmp_path / "model")
        (folder / "model.safetensors").rename(folder / "model-00002-of-00003.safetensors")
        assert "lacks 2 of the shards of its weights" in _refusal(_model, storage, folder)

    def test_a_directory_without_weights_is_refused_with_the_reason(
        self, storage: Storage, tmp_path: Path
    ) -> None:
        folder = write_model(tmp_path / "model")
        (folder / "model.safetensors").rename(folder / "training_args.bin")
        message = _refusal(_model, storage, folder)
        assert "neither .safetensors files nor pytorch_model.bin" in message

    def test_a_broken_config_is_refused_by_name(self, storage: Storage, tmp_path: Path) -> None:
        folder = write_model(tmp_path / "model")
        (folder / "config.json").write_text("{")
        assert f"{folder / 'config.json'} is not JSON" in _refusal(_model, storage, folder)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\x10",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1044992\n",
            (200).to_bytes(8, "little") + b'{"weight": {"dtype"',
            (2).to_bytes(8, "little") + b"[]" + b"x" * 10,
            (13).to_bytes(8, "little") + b'{"weight": 3}' + b"x" * 10,
        ],
    )
    def test_a_file_that_is_no_safetensors_is_refused_by_name(
        self, storage: Storage, tmp_path: Path, content: bytes
    ) -> None:
        folder = write_model(tmp_path / "model")
        (folder / "model.safetensors").write_bytes(content)
        message = _refusal(_model, storage, folder)
        assert f"{folder / 'model.safetensors'} is not a safetensors file" in message and "LFS" in message

    def test_a_hub_id_waits_for_its_commit(self, storage: Storage) -> None:
        model = _model(storage, "TinyLlama/TinyLlama_v1.1", revision="v1")
        assert (model.kind, model.hub_id, model.revision) == ("hub", "TinyLlama/TinyLlama_v1.1", "v1")
        assert (model.name, model.declared, model.default_scale) == ("tinyllama-v1.1", None, "paper")

    @pytest.mark.parametrize("name", ["llama-3.1-8b", "meta-llama/Llama-3.1-8B"])
    def test_a_hub_preset_is_its_hub_id(self, storage: Storage, name: str) -> None:
        model = _model(storage, name)
        assert (model.name, model.kind, model.hub_id) == ("llama-3.1-8b", "hub", "meta-llama/Llama-3.1-8B")

    def test_an_id_the_hub_would_not_take_is_refused_in_the_plan(self, storage: Storage) -> None:
        assert "'a/b..c' is no hub id" in _refusal(_model, storage, "a/b..c")

    def test_an_instruct_model_declares_its_base(self, storage: Storage) -> None:
        base, instruct = _model(storage, "pydoc-1m"), _model(storage, "pydoc-1m-instruct")
        assert base.declared is not None and "base" not in base.declared
        assert instruct.declared is not None and instruct.declared["base"] == base.declared
        assert instruct.made_id.startswith("pydoc-1m-instruct-")


class TestTexts:
    def test_the_embedded_corpus_is_the_default_of_embedded_models_only(
        self, storage: Storage, tmp_path: Path
    ) -> None:
        text = _text(storage, None)
        assert (text.name, text.kind, text.default_span_characters) == ("pydoc", "pydoc", 1000)
        folder = write_model(tmp_path / "model")
        message = _refusal(_text, storage, None, str(folder))
        assert message.startswith("--dataset: is needed with --model") and str(folder) in message
        assert _text(storage, "pydoc", str(folder)).kind == "pydoc"

    def test_a_name_that_is_nothing_is_refused_with_what_is_valid(self, storage: Storage) -> None:
        message = _refusal(_text, storage, "pydok")
        for part in ("--dataset", "'pydok'", "did you mean 'pydoc'?", ".parquet, .jsonl, .csv or .txt"):
            assert part in message

    def test_an_unknown_kind_of_file_and_an_empty_folder_are_refused_in_the_plan(
        self, storage: Storage, tmp_path: Path
    ) -> None:
        (tmp_path / "book.pdf").write_bytes(b"%PDF")
        (tmp_path / "empty").mkdir()
        assert "expected one of .parquet" in _refusal(_text, storage, tmp_path / "book.pdf")
        assert "holds no .txt file" in _refusal(_text, storage, tmp_path / "empty")

    def test_a_local_file_is_named_by_its_stem_and_waits_to_be_read(
        self, storage: Storage, tmp_path: Path
    ) -> None:
        file = tmp_path / "My Books.txt"
        file.write_text("text")
        text = _text(storage, file)
        assert (text.name, text.kind, text.declared) == ("my-books", "local", None)
        assert text.path == file.resolve()

    @pytest.mark.parametrize("name", ["topics", "docstrings", "code", "comments"])
    def test_a_domain_of_the_embedded_corpus_has_its_own_declaration(
        self, storage: Storage, name: str
    ) -> None:
        text, whole = _text(storage, name), _text(storage, "pydoc")
        assert (text.name, text.kind, text.domain) == (name, "pydoc", name)
        assert text.declared != whole.declared and text.default_held_out_share == 0.2

    def test_a_column_can_stand_behind_a_table_s_name(self, storage: Storage, tmp_path: Path) -> None:
        (tmp_path / "table.csv").write_text("body\nx\n")
        (tmp_path / "book.txt").write_text("x")
        text = _text(storage, f"{tmp_path / 'table.csv'}:body")
        assert (text.name, text.kind, text.text_column) == ("table", "local", "body")
        assert "is no table" in _refusal(_text, storage, f"{tmp_path / 'book.txt'}:body")

    def test_a_hub_dataset_waits_for_its_commit(self, storage: Storage) -> None:
        text = _text(storage, "some/words:plain:test:body")
        assert (text.name, text.kind, text.declared) == ("words-plain", "hub", None)
        assert (text.text_column, text.pool) == ("body", DEFAULT_POOL)
        storage.root.mkdir()
        write_lock(storage, "datasets/some/words@main", "c0ffee")
        text = _text(storage, "some/words:plain:test:body")
        assert text.declared is not None
        assert (text.declared["commit"], text.declared["pool"]) == ("c0ffee", DEFAULT_POOL)

    def test_a_hub_preset_brings_its_settings(self, storage: Storage) -> None:
        text = _text(storage, "bbc-news")
        assert text.hub is not None and text.hub.column == text.text_column == "content"
        assert (text.name, text.default_held_out_share) == ("bbc-news", 0.2)


def test_resolving_leaves_nothing_on_disk(storage: Storage, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    _text(storage, "pydoc", str(folder))
    assert not storage.root.exists()
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_local_names_become_absolute_and_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "table.csv").write_text("body\nx\n")
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path)
    assert absolute_name("table.csv") == str(tmp_path / "table.csv")
    assert absolute_name("./table.csv:body") == f"{tmp_path / 'table.csv'}:body"
    # A preset wins over a folder of its name.
    for name in ("code", "missing.csv", "a/b:c:train:text", "pydoc-1m", "a/b"):
        assert absolute_name(name) == name

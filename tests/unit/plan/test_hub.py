from __future__ import annotations

from pathlib import Path

import pytest

from rayfit.errors import RayfitError
from rayfit.hub_presets import HubDataset
from rayfit.plan.hub import HUB_LOCK, check_hub_id, parse_hub_dataset, read_lock, write_lock
from rayfit.records.storage import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    (tmp_path / "runs").mkdir()
    return Storage(tmp_path / "runs")


@pytest.mark.parametrize("name", ["TinyLlama/TinyLlama_v1.1", "a/b", "some_one/x-1.0", f"a/{'b' * 96}"])
def test_hub_ids_are_known(name: str) -> None:
    assert check_hub_id("--model", name)


@pytest.mark.parametrize("name", ["pydok", "./a/b", "/a/b", "a/b/c", "a b/c", "a/ü", ""])
def test_other_names_are_no_hub_ids(name: str) -> None:
    assert not check_hub_id("--model", name)


@pytest.mark.parametrize("name", ["a/b..c", "a/b--c", "a-/b", "a/b-", "a/.b", "a/b.git", f"a/{'b' * 97}"])
def test_what_the_hub_would_not_take_is_refused_before_it_is_asked(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    with pytest.raises(HFValidationError):
        validate_repo_id(name)
    with pytest.raises(RayfitError, match=r"--model: .* is no hub id: expected OWNER/NAME"):
        check_hub_id("--model", name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b", HubDataset(hub_id="a/b", column="body")),
        ("a/b:c", HubDataset(hub_id="a/b", config="c", column="body")),
        ("a/b::test", HubDataset(hub_id="a/b", split="test", column="body")),
        ("a/b@v2:c:test:x", HubDataset(hub_id="a/b", revision="v2", config="c", split="test", column="x")),
        ("a/b:::x", HubDataset(hub_id="a/b", column="x")),
    ],
)
def test_a_dataset_s_name_has_parts(name: str, expected: HubDataset) -> None:
    assert parse_hub_dataset(name, "body") == expected


def test_names_that_are_no_datasets_of_the_hub() -> None:
    assert parse_hub_dataset("pydok", "text") is None
    assert parse_hub_dataset("a/b.parquet:text/c", "text") is not None  # a config may have any name
    with pytest.raises(RayfitError, match="expected OWNER/NAME"):
        parse_hub_dataset("a/b:c:d:e:f", "text")


def test_the_commit_names_a_dataset_and_the_branch_does_not() -> None:
    source = HubDataset(hub_id="a/b", revision="v2")
    assert source.declared("c0ffee", 10) == HubDataset(hub_id="a/b").declared("c0ffee", 10)
    assert source.declared("c0ffee", 10) != source.declared("c0ffee", 11)
    assert source.lock_key == "datasets/a/b@v2"


def test_commits_are_remembered_beside_each_other(storage: Storage) -> None:
    assert read_lock(storage) == {}
    write_lock(storage, "a/b@main", "1")
    write_lock(storage, "datasets/a/b@main", "2")
    assert read_lock(storage) == {"a/b@main": "1", "datasets/a/b@main": "2"}


@pytest.mark.parametrize("content", ["{", "[]", '{"a/b@main": 3}', "\x00"])
def test_a_broken_lock_file_is_refused_by_name(storage: Storage, content: str) -> None:
    (storage.root / HUB_LOCK).write_text(content)
    with pytest.raises(RayfitError, match=r"hub\.lock\.json: expected a JSON object"):
        read_lock(storage)

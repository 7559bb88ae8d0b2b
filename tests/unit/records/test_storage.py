from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rayfit.errors import RayfitError
from rayfit.records import storage as storage_module
from rayfit.records.storage import (
    MARK,
    RECORD,
    STORAGE_VERSION,
    Storage,
    read_json,
    write_json,
    write_parquet,
)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class TestAtomicWrites:
    def test_a_json_file_is_written_and_replaced(self, tmp_path: Path) -> None:
        file = tmp_path / "deep" / "er" / "record.json"
        for content in ({"a": 1}, {"a": [None, 2.5, "é"]}):
            write_json(file, content)
            assert read_json(file) == content == json.loads(file.read_text(encoding="utf-8"))
        assert _files(tmp_path) == ["deep/er/record.json"]

    @pytest.mark.parametrize(
        "content", [{"loss": float("nan")}, {"x": float("inf")}, {"x": {1}}, {"x": Path()}]
    )
    def test_what_is_not_json_leaves_the_old_content(self, tmp_path: Path, content: Any) -> None:
        file = tmp_path / "record.json"
        write_json(file, {"old": True})
        with pytest.raises((ValueError, TypeError)):
            write_json(file, content)
        assert read_json(file) == {"old": True}
        assert _files(tmp_path) == ["record.json"]

    def test_a_writer_that_fails_half_way_leaves_the_old_content_and_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "rows.parquet"
        write_parquet(file, pl.DataFrame({"a": [1]}))

        def half(frame: pl.DataFrame, target: Path) -> None:
            target.write_bytes(b"PAR1 half of it")
            raise OSError("no space left on device")

        monkeypatch.setattr(pl.DataFrame, "write_parquet", half)
        with pytest.raises(OSError, match="no space left"):
            write_parquet(file, pl.DataFrame({"a": [2]}))
        monkeypatch.undo()
        assert pl.read_parquet(file)["a"].to_list() == [1]
        assert _files(tmp_path) == ["rows.parquet"]

    def test_a_crash_before_the_rename_leaves_the_old_content(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "record.json"
        write_json(file, {"old": True})

        def crash(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(storage_module.os, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            write_json(file, {"new": True})
        assert read_json(file) == {"old": True}
        assert _files(tmp_path) == ["record.json"]

    def test_a_reader_never_sees_a_part(self, tmp_path: Path) -> None:
        file = tmp_path / "record.json"
        write_json(file, {"number": 0, "filling": "x" * 50_000})
        done = threading.Event()

        def write() -> None:
            for number in range(100):
                write_json(file, {"number": number, "filling": "x" * 50_000})
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        while not done.is_set():
            assert len(read_json(file)["filling"]) == 50_000
        writer.join()

    def test_a_missing_file_is_none_and_a_broken_one_is_not(self, tmp_path: Path) -> None:
        assert read_json(tmp_path / "missing.json") is None
        (tmp_path / "broken.json").write_text("{")
        with pytest.raises(ValueError, match="Expecting"):
            read_json(tmp_path / "broken.json")


class TestRecords:
    def test_only_the_marker_makes_an_id_finished(self, storage: Storage) -> None:
        folder = storage.folder("trials", "a-1")
        assert not folder.exists()
        folder.mkdir(parents=True)
        (folder / "checkpoint.safetensors").write_bytes(b"everything but the marker")
        (folder / f".{RECORD}.0123.tmp").write_text('{"id": "a-1"}')
        assert storage.read("trials", "a-1") is None
        assert storage.ids("trials") == [] and storage.find("a-1") == []
        storage.write("trials", "a-1", {"id": "a-1"})
        assert storage.read("trials", "a-1") == {"id": "a-1"}
        assert storage.ids("trials") == ["a-1"]

    def test_an_id_is_found_whole_or_by_its_beginning_or_end(self, storage: Storage) -> None:
        for kind, identifier in (("trials", "n8-abc"), ("trials", "n8-abc-more"), ("sweeps", "size-abd")):
            storage.write(kind, identifier, {})
        assert storage.find("n8-abc") == [("trials", "n8-abc")]  # though it begins another
        assert storage.find("n8") == [("trials", "n8-abc"), ("trials", "n8-abc-more")]
        assert storage.find("abd") == [("sweeps", "size-abd")]
        assert storage.find("xyz") == []
        assert storage.nearest_id("size-abc") == "; did you mean 'size-abd'?"

    def test_asking_makes_nothing(self, storage: Storage) -> None:
        assert storage.read("trials", "a") is None
        assert storage.ids("trials") == [] == storage.find("a")
        assert not storage.root.exists()

    @pytest.mark.parametrize("uri", ["s3://bucket/runs", "gs://bucket", "file:///tmp/runs"])
    def test_a_uri_is_refused_by_name(self, uri: str) -> None:
        with pytest.raises(RayfitError) as caught:
            Storage(uri)
        assert "--storage" in str(caught.value) and uri in str(caught.value)
        assert uri.split(":")[0] in str(caught.value)

    def test_a_relative_path_is_fixed_when_it_is_given(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        storage = Storage("runs")
        monkeypatch.chdir("/")
        assert storage.root == (tmp_path / "runs").resolve()


def _fill(value: str) -> Any:
    def fill(folder: Path) -> dict[str, Any]:
        (folder / "data.txt").write_text(value)
        return {"value": value}

    return fill


class TestMakeFolder:
    def test_a_folder_appears_whole_with_its_record(self, storage: Storage) -> None:
        seen: list[Any] = []

        def fill(folder: Path) -> dict[str, Any]:
            (folder / "data.txt").write_text("1")
            seen.append(
                (storage.read("rows", "x"), storage.ids("rows"), storage.folder("rows", "x").exists())
            )
            return {"value": "1"}

        assert storage.make_folder("rows", "x", fill) == {"value": "1"}
        assert seen == [(None, [], False)]
        assert _files(storage.root) == ["rows/x/data.txt", "rows/x/record.json", MARK]

    def test_one_that_was_left_without_a_record_is_replaced(self, storage: Storage) -> None:
        leftover = storage.folder("rows", "x")
        leftover.mkdir(parents=True)
        (leftover / "old.txt").write_text("unfinished")
        storage.make_folder("rows", "x", _fill("2"))
        assert _files(storage.root) == ["rows/x/data.txt", "rows/x/record.json", MARK]

    def test_a_failure_leaves_nothing(self, storage: Storage) -> None:
        def fill(folder: Path) -> dict[str, Any]:
            (folder / "data.txt").write_text("half")
            raise RuntimeError("no luck")

        with pytest.raises(RuntimeError, match="no luck"):
            storage.make_folder("rows", "x", fill)
        assert list((storage.root / "rows").iterdir()) == []

    def test_the_disk_s_error_is_not_swallowed(self, storage: Storage) -> None:
        def fill(folder: Path) -> dict[str, Any]:
            raise OSError("no space left on device")

        with pytest.raises(OSError, match="no space left"):
            storage.make_folder("rows", "x", fill)

    def test_a_folder_under_its_temporary_name_is_no_record(self, storage: Storage) -> None:
        # What a process leaves that is killed between its record and the rename.
        write_json(storage.root / "rows" / ".x.01234567.tmp" / RECORD, {"value": "unfinished"})
        assert storage.ids("rows") == [] and storage.find("x") == []
        assert storage.make_folder("rows", "x", _fill("3")) == {"value": "3"}

    def test_who_comes_second_gets_the_record_of_the_first(self, storage: Storage) -> None:
        first = storage.make_folder("rows", "x", _fill("first"))
        assert storage.make_folder("rows", "x", _fill("second")) == first == {"value": "first"}
        assert (storage.folder("rows", "x") / "data.txt").read_text() == "first"
        assert _files(storage.root) == ["rows/x/data.txt", "rows/x/record.json", MARK]

    def test_of_makers_at_the_same_time_one_wins_and_all_get_its_record(self, storage: Storage) -> None:
        barrier = threading.Barrier(4, timeout=60)

        def make(value: str) -> dict[str, Any]:
            def fill(folder: Path) -> dict[str, Any]:
                (folder / "data.txt").write_text(value)
                barrier.wait()  # nobody is done before everybody has begun
                return {"value": value}

            return storage.make_folder("rows", "x", fill)

        with ThreadPoolExecutor(4) as pool:
            records = list(pool.map(make, "abcd"))
        assert all(record == records[0] == storage.read("rows", "x") for record in records)
        assert (storage.folder("rows", "x") / "data.txt").read_text() == records[0]["value"]
        assert _files(storage.root) == ["rows/x/data.txt", "rows/x/record.json", MARK]


@pytest.mark.parametrize("below", ["", "runs", "a/b"])
def test_a_file_cannot_be_storage(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RayfitError, match=r"--storage: .* is a file"):
        Storage(tmp_path / "file" / below)


def test_a_storage_is_marked_by_what_is_written_first(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "runs")
    storage.check_version()
    assert not (tmp_path / "runs").exists(), "looking leaves nothing behind"
    storage.write("trials", "one", {"id": "one"})
    assert read_json(storage.root / MARK) == {"version": STORAGE_VERSION}
    Storage(tmp_path / "runs").check_version()


@pytest.mark.parametrize(("mark", "which"), [(None, "an earlier"), (STORAGE_VERSION + 1, "a later")])
def test_a_storage_of_another_version_is_refused_and_left_alone(
    tmp_path: Path, mark: int | None, which: str
) -> None:
    storage = Storage(tmp_path)
    write_json(tmp_path / "trials" / "one" / "record.json", {"id": "one"})
    if mark is not None:
        write_json(tmp_path / MARK, {"version": mark})
    for use in (
        storage.check_version,
        lambda: storage.write("trials", "two", {}) if mark is None else storage.check_version(),
        lambda: (
            storage.make_folder("rows", "two", lambda folder: {}) if mark is None else storage.check_version()
        ),
    ):
        with pytest.raises(RayfitError, match=f"was written by {which} rayfit .*give another --storage"):
            use()
    assert storage.ids("trials") == ["one"] and storage.ids("rows") == []

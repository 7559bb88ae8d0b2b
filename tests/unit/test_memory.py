"""What is remembered of files: their hashes, and what was found out of them."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

import pytest

from rayfit.identity import file_digest
from rayfit.memory import KnownFacts, KnownFiles


@pytest.fixture
def known(tmp_path: Path) -> KnownFiles:
    return KnownFiles(tmp_path / "runs" / "known-files.json")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "books.txt"
    path.write_bytes(b"some text")
    return path


class TestKnownFiles:
    def test_a_file_is_known_once_it_was_hashed_and_from_then_on_in_other_processes(
        self, known: KnownFiles, file: Path, tmp_path: Path
    ) -> None:
        assert known.known([file]) is None
        assert not (tmp_path / "runs").exists()  # asking leaves nothing behind
        joint = known.hash([file])
        assert (
            known.known([file]) == joint == KnownFiles(tmp_path / "runs" / "known-files.json").known([file])
        )
        assert file_digest(file) == hashlib.sha256(b"some text").hexdigest()

    def test_a_file_that_changed_is_not_known_and_has_another_digest(
        self, known: KnownFiles, file: Path
    ) -> None:
        before = known.hash([file])
        stat = file.stat()
        file.write_bytes(b"same size")
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
        assert known.known([file]) is None
        assert known.hash([file]) != before

    def test_content_and_name_count_and_the_folder_does_not(self, known: KnownFiles, file: Path) -> None:
        moved = file.parent / "elsewhere" / file.name
        renamed = file.parent / "renamed.txt"
        moved.parent.mkdir()
        for copy in (moved, renamed):
            copy.write_bytes(file.read_bytes())
        assert known.hash([moved]) == known.hash([file]) != known.hash([renamed])

    def test_several_files_are_known_only_when_all_are(self, known: KnownFiles, file: Path) -> None:
        other = file.parent / "other.txt"
        other.write_bytes(b"more")
        alone = known.hash([file])
        assert known.known([file, other]) is None
        assert known.hash([file, other]) not in (alone, known.hash([other]))

    def test_a_folder_is_found_by_what_its_files_hold_now(self, known: KnownFiles, tmp_path: Path) -> None:
        def files(folder: Path) -> list[Path]:
            return sorted(folder.iterdir())

        folders = [tmp_path / name for name in ("a", "b", "c")]
        for folder, content in zip(folders, (b"one", b"two", b"one"), strict=True):
            folder.mkdir()
            (folder / "weights").write_bytes(content)
        digests = [known.hash(files(folder)) for folder in folders]
        assert digests[0] == digests[2] != digests[1]
        assert known.folder_of(digests[1], files) == folders[1]
        assert known.folder_of(digests[0], files) == folders[0]
        stat = (folders[0] / "weights").stat()
        (folders[0] / "weights").write_bytes(b"two")  # of the same size, so only its content tells
        os.utime(folders[0] / "weights", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
        assert known.folder_of(digests[0], files) == folders[2]
        (folders[2] / "weights").write_bytes(b"longer")
        assert known.folder_of(digests[0], files) is None
        (folders[1] / "weights").unlink()
        folders[1].rmdir()
        assert known.folder_of(digests[1], files) == folders[0]

    @pytest.mark.parametrize(
        "content", ["", "{", "[1, 2]", "null", '{"x": 3}', '{"FILE": null}', '{"FILE": []}', "\x00\xff"]
    )
    def test_a_broken_memory_costs_only_reading_again(
        self, known: KnownFiles, file: Path, tmp_path: Path, content: str
    ) -> None:
        expected = known.hash([file])
        memory = tmp_path / "runs" / "known-files.json"
        memory.write_bytes(content.replace("FILE", str(file)).encode("latin-1"))
        assert known.known([file]) is None
        assert known.hash([file]) == expected == known.known([file])

    def test_processes_that_hash_at_the_same_time_do_not_harm_each_other(
        self, known: KnownFiles, tmp_path: Path
    ) -> None:
        files = [tmp_path / f"file-{number}.txt" for number in range(4)]
        for path in files:
            path.write_text(path.name * 1000)
        errors: list[BaseException] = []

        def hash_them(own: list[Path]) -> None:
            try:
                for _ in range(10):
                    (tmp_path / "runs" / "known-files.json").unlink(missing_ok=True)
                    KnownFiles(tmp_path / "runs" / "known-files.json").hash(own)
            except BaseException as error:  # noqa: BLE001 - shown by the assertion below
                errors.append(error)

        threads = [
            threading.Thread(target=hash_them, args=(own,)) for own in (files, files, files[:2], files[2:])
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert [path.name for path in (tmp_path / "runs").iterdir() if path.suffix == ".tmp"] == []


class TestKnownFacts:
    def test_a_fact_is_found_once_and_from_then_on_known_in_other_processes(
        self, file: Path, tmp_path: Path
    ) -> None:
        memory = tmp_path / "runs" / "known-facts.json"
        found: list[int] = []

        def find() -> dict[str, int]:
            found.append(1)
            return {"words": len(file.read_text().split())}

        for _ in range(2):
            assert KnownFacts(memory).of("words", [file], find, library="1.0") == {"words": 2}
        assert len(found) == 1
        file.write_text("three more words")
        assert KnownFacts(memory).of("words", [file], find, library="1.0") == {"words": 3}
        assert KnownFacts(memory).of("words", [file], find, library="1.1") == {"words": 3}
        assert len(found) == 3, "again when the file changes, and for another library"
        assert KnownFacts(memory).of("lines", [file], lambda: 1, library="1.1") == 1, "by its name"

    @pytest.mark.parametrize("content", ["", "[]", '{"words": 5}', '{"words": ["x"]}'])
    def test_a_broken_memory_is_none(self, file: Path, tmp_path: Path, content: str) -> None:
        memory = tmp_path / "known-facts.json"
        memory.write_text(content)
        assert [KnownFacts(memory).of("words", [file], lambda: None) for _ in range(2)] == [None, None]
        assert json.loads(memory.read_text())["words"][1] is None

    def test_what_cannot_be_found_is_not_remembered(self, file: Path, tmp_path: Path) -> None:
        known = KnownFacts(tmp_path / "known-facts.json")
        with pytest.raises(ZeroDivisionError):
            known.of("words", [file], lambda: 1 // 0)
        assert known.of("words", [file], lambda: 2) == 2

from __future__ import annotations

from pathlib import Path

import pytest

from rayfit.errors import RayfitError
from rayfit.text_files import local_files


def test_the_files_of_a_folder_are_its_txt_files_wherever_below_it(tmp_path: Path) -> None:
    (tmp_path / "b" / "deep").mkdir(parents=True)
    for name in ("b/deep/2.txt", "a.txt", "notes.md"):
        (tmp_path / name).write_text("text")
    (tmp_path / "folder.txt").mkdir()
    assert local_files(tmp_path) == [tmp_path / "a.txt", tmp_path / "b" / "deep" / "2.txt"]


def test_an_unknown_suffix_is_refused_with_the_valid_ones_and_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "books.json"
    file.write_text("{}")
    with pytest.raises(RayfitError) as caught:
        local_files(file)
    for part in (str(file), "'.json'", ".parquet, .jsonl, .csv, .txt", "did you mean '.jsonl'?"):
        assert part in str(caught.value)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("not read")
    with pytest.raises(RayfitError, match=r"holds no \.txt file"):
        local_files(tmp_path)


def test_what_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RayfitError, match=r"there is no file or folder .*missing\.txt"):
        local_files(tmp_path / "missing.txt")

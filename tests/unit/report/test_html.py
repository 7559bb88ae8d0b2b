from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rayfit.commands import run
from rayfit.errors import RayfitError
from rayfit.records.storage import Storage
from rayfit.report.html import render_report, write_report
from tests.unit.report.records import SWEEP, full_sweep, prompt_sweep, row, write_sweep

# Figures that cost no drawing, where a test is about something else.
UNDRAWN = [{"kind": "agreement"}]
VOID = ("meta", "link", "img", "br", "hr")


class _Page(HTMLParser):
    """Tags, words and pictures of a page; fails where tags do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.styles: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.styles if self.open[-1:] == ["style"] else self.words).append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> _Page:
    """The page of a sweep with everything."""
    storage = Storage(tmp_path_factory.mktemp("full"))
    return _page(full_sweep(storage), storage)


def _page(record: dict[str, Any], storage: Storage) -> _Page:
    return _Page(render_report(record, storage))


def test_a_full_report_has_every_part_in_order(full: _Page) -> None:
    text = full.text
    parts = (
        "Does it matter <which> text",
        "This sweep",
        "other models and other data",
        "TTR, last 96 against evaluated on",
        "Top-1 agreement",
        "Differences on the same contexts",
        "Texts side by side",
        "Commands",
        "python sweeps/data_type.py --seeds 0,1",
    )
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_generated_text_is_shown_and_never_becomes_markup(full: _Page) -> None:
    assert "<b>round</b> & round" in full.text and "He said <7> & went" in full.text
    assert "b" not in {tag for tag, _, _ in full.attributes}


def test_nothing_is_fetched_from_anywhere(full: _Page) -> None:
    fetched = [
        value for _, name, value in full.attributes if name in ("src", "href", "srcset", "action", "data")
    ]
    assert fetched and all(value.startswith(("data:", "#")) for value in fetched)
    assert "script" not in {tag for tag, _, _ in full.attributes}
    assert "url(" not in "".join(full.styles)


def test_only_differences_whose_interval_leaves_out_zero_stand_out(full: _Page) -> None:
    assert full.attributes.count(("td", "class", "score clear")) == 1


def test_every_picture_says_what_it_shows(full: _Page) -> None:
    alts = [value for tag, name, value in full.attributes if tag == "img" and name == "alt"]
    pictures = [value for tag, name, value in full.attributes if tag == "img" and value == "panel"]
    assert len([alt for alt in alts if alt]) == len(pictures) >= 8
    assert any("original model" in alt and "0.2" in alt for alt in alts)


def test_the_least_a_record_can_have_gives_a_report(storage: Storage) -> None:
    record = {"id": "bare", "rows": [row("truth", ttr_last_96=0.7), row("original", ttr_last_96=0.2)]}
    text = _page(record, storage).text
    assert "bare" in text and "0.700" in text and "No number is known" in text
    assert "Texts side by side" not in text


def test_failures_stand_above_and_in_the_table(storage: Storage) -> None:
    rows = [
        row("truth", ttr_last_96=0.7),
        row("original", status="PENDING", reason="not evaluated yet"),
        row("trained", trial_id="t", hyperfitted=None, status="FAILED", reason="the loss is nan <inf>"),
    ]
    text = _page(write_sweep(storage, rows), storage).text
    assert "2 of 3 rows have no numbers" in text
    assert "FAILED: the loss is nan <inf>" in text and "PENDING: not evaluated yet" in text


def test_the_embedded_text_and_small_scales_are_owned_up_to(storage: Storage) -> None:
    record = {**full_sweep(storage), "figures": UNDRAWN}
    text = _page(record, storage).text
    assert "Scale ci" in text and "have seen the text of their hyperfitting rows before" in text
    for trial_id in record["trials"]:
        trial = storage.read("trials", trial_id)
        assert trial is not None
        storage.write("trials", trial_id, {**trial, "declared": {"rows": {"text": {"files_sha256": "a"}}}})
    text = _page({**record, "scale": "laptop"}, storage).text
    assert "Scale ci:" not in text and "have seen the text" not in text


def test_an_axis_of_one_value_where_the_sweep_compares_several_is_said(storage: Storage) -> None:
    record = {**full_sweep(storage), "figures": UNDRAWN}
    assert "compares several" not in _page(record, storage).text
    text = _page({**record, "alone": {"model": "tiny"}}, storage).text
    assert "The sweep compares several values of model; this launch had tiny alone" in text


def test_the_file_lies_in_the_sweeps_folder_and_the_same_records_give_the_same_bytes(
    storage: Storage,
) -> None:
    record = full_sweep(storage)
    path = write_report(record, storage)
    assert path == storage.folder("sweeps", SWEEP) / "report.html"
    first = path.read_bytes()
    write_report(record, storage)
    assert path.read_bytes() == first and len(first) < 2_000_000


def test_the_command_writes_one_report_or_all(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(storage, [row("truth", ttr_last_96=0.7)])
    path = storage.folder("sweeps", SWEEP) / "report.html"
    for arguments in ([], [SWEEP]):
        path.unlink(missing_ok=True)
        assert run(["report", *arguments, "--storage", str(storage.root)]) == 0
        assert capsys.readouterr().out.strip() == str(path) and path.is_file()
    with pytest.raises(RayfitError, match=f"did you mean '{SWEEP}'"):
        run(["report", f"{SWEEP}x", "--storage", str(storage.root)])


def test_prompts_have_lines_and_texts_of_their_own_and_no_part_in_headlines(storage: Storage) -> None:
    record = prompt_sweep(storage)
    record["figures"] = UNDRAWN
    text = _page(record, storage).text
    assert "8 contexts per row; in rows on mine 3 prompts, without true text." in text
    assert "tiny on fiction;" in text and "tiny on mine" in text
    headlines = text[: text.index("This sweep")]
    assert "0.99" not in headlines and "0.99" in text

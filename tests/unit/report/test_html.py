"""The report as a page: its parts, its words, what stands above, and that nothing is fetched."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest

from rayfit.commands import run
from rayfit.errors import RayfitError
from rayfit.records.storage import Storage
from rayfit.records.sweep import SweepRecord
from rayfit.report.figures import figures
from rayfit.report.html import render_report, write_report
from tests.finished import CONTEXTS, Finished
from tests.unit.plan.examples import plan_of
from tests.unit.report.sweeps import COMMAND, Kept

# Figures that cost no drawing, where a test is about something else.
UNDRAWN = ({"kind": "agreement"},)
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


@pytest.fixture(scope="module")
def page(made_sweeps: Callable[[str], Kept]) -> _Page:
    """The page of a sweep with everything."""
    full = made_sweeps("full")
    return _page(full.record, full.storage)


def _page(record: SweepRecord, storage: Storage) -> _Page:
    return _Page(render_report(record, storage))


def _undrawn(record: SweepRecord, **changes: Any) -> SweepRecord:
    return msgspec.structs.replace(record, **{"figures": UNDRAWN, "agreement": None, **changes})


def test_a_full_report_has_every_part_in_order(page: _Page) -> None:
    text = page.text
    parts = (
        "Does it matter <which> text",
        "This sweep",
        "other models and other data",
        "TTR, last 96 against evaluated on",
        "Top-1 agreement",
        "Differences on the same contexts",
        "Texts side by side",
        "Commands",
        COMMAND,
    )
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_generated_text_is_shown_and_never_becomes_markup(page: _Page) -> None:
    assert "<b>round</b> & round" in page.text and "He said <3> & went" in page.text
    assert "b" not in {tag for tag, _, _ in page.attributes}


def test_nothing_is_fetched_from_anywhere(page: _Page) -> None:
    fetched = [
        value for _, name, value in page.attributes if name in ("src", "href", "srcset", "action", "data")
    ]
    assert fetched and all(value.startswith(("data:", "#")) for value in fetched)
    assert "script" not in {tag for tag, _, _ in page.attributes}
    assert "url(" not in "".join(page.styles)


def test_only_differences_whose_interval_leaves_out_zero_stand_out(page: _Page) -> None:
    assert page.attributes.count(("td", "class", "score clear")) == 1


def test_every_picture_says_what_it_shows(page: _Page) -> None:
    alts = [value for tag, name, value in page.attributes if tag == "img" and name == "alt"]
    pictures = [value for tag, name, value in page.attributes if tag == "img" and value == "panel"]
    assert len([alt for alt in alts if alt]) == len(pictures) >= 8
    assert any("original model" in alt and "0.2" in alt for alt in alts)


def test_a_sweep_that_has_just_begun_gives_a_report(storage: Storage) -> None:
    record = Finished(storage, plan_of(storage)).begun()
    text = _page(msgspec.structs.replace(record, sweep_kind="tried"), storage).text
    assert record.question in text and record.id in text and "No number is known" in text
    assert "3 of 3 rows have no numbers" in text and "0 of 1 trials finished, 0 of them hyperfitted" in text
    assert "Texts side by side" not in text


def test_failures_stand_above_and_in_the_table(storage: Storage) -> None:
    made = Finished(storage, plan_of(storage))
    made.fail(made.plan.trials[0], "the loss is nan <inf>")
    for spec in made.plan.measurements:
        if spec.who == "truth" or (spec.kind == "generations" and spec.who == "original"):
            made.measure(spec)
    text = _page(_undrawn(made.record()), storage).text
    assert "2 of 3 rows have no numbers" in text
    assert "FAILED: the loss is nan <inf>" in text and "PENDING: not evaluated yet" in text


def test_the_embedded_text_and_small_scales_are_owned_up_to(full: Kept) -> None:
    record, storage = _undrawn(full.record), full.storage
    text = _page(record, storage).text
    assert "Scale ci" in text and "have seen the text of their hyperfitting rows before" in text
    assert "(pydoc-1m)" in text and "where that is docstrings, topics." in text
    for trial_id in record.trials:
        trial = storage.trial(trial_id)
        assert trial is not None
        declared = {**trial.declared, "rows": {"text": {"files_sha256": "a"}}}
        storage.write("trials", trial_id, msgspec.structs.replace(trial, declared=declared))
    text = _page(msgspec.structs.replace(record, scale="laptop"), storage).text
    assert "Scale ci:" not in text and "have seen the text" not in text


def test_an_axis_of_one_value_where_the_sweep_compares_several_is_said(full: Kept) -> None:
    record = _undrawn(full.record, alone={})
    assert "compares several" not in _page(record, full.storage).text
    text = _page(msgspec.structs.replace(record, alone={"model": "tiny"}), full.storage).text
    assert "The sweep compares several values of model; this launch had tiny alone" in text


def test_the_file_lies_in_the_sweeps_folder_and_the_same_records_give_the_same_bytes(full: Kept) -> None:
    path = write_report(full.record, full.storage)
    assert path == full.storage.folder("sweeps", full.record.id) / "report.html"
    first = path.read_bytes()
    # Figures that are there already are drawn as they are.
    write_report(full.record, full.storage, figures(full.record, full.storage))
    assert path.read_bytes() == first and len(first) < 2_000_000
    assert "Top-1 agreement between" not in _Page(render_report(full.record, full.storage, [])).text


def test_the_command_writes_one_report_or_all(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    record = Finished(storage, plan_of(storage)).begun()
    path = storage.folder("sweeps", record.id) / "report.html"
    for arguments in ([], [record.id]):
        path.unlink(missing_ok=True)
        assert run(["report", *arguments, "--storage", str(storage.root)]) == 0
        assert capsys.readouterr().out.strip() == str(path) and path.is_file()
    with pytest.raises(RayfitError, match=f"did you mean '{record.id}'"):
        run(["report", f"{record.id}x", "--storage", str(storage.root)])


def test_prompts_have_lines_and_texts_of_their_own_and_no_part_in_headlines(with_prompts: Kept) -> None:
    text = _page(_undrawn(with_prompts.record), with_prompts.storage).text
    assert f"{CONTEXTS} contexts per row; in rows on mine 4 prompts, without true text." in text
    assert "pydoc-1m on docstrings;" in text and "pydoc-1m on mine" in text
    headlines = text[: text.index("This sweep")]
    assert "0.99" not in headlines and "0.99" in text

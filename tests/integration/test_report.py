"""A sweep's report in a real browser: it opens, asks nothing of a network, and its pictures are there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rayfit.records.storage import Storage
from rayfit.report.html import write_report
from tests.finished import Finished
from tests.integration.browser import Browser, chromium
from tests.rows import row
from tests.unit.plan.examples import plan_of
from tests.unit.report.sweeps import full_sweep, with_rows

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(chromium() is None, reason="no Chromium or Chrome is on the PATH"),
]
LAPTOP, PHONE = 1280, 390


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a sweep with everything that a report can show."""
    storage = Storage(tmp_path_factory.mktemp("runs"))
    return write_report(full_sweep(storage), storage)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = chromium()
    assert program is not None
    with Browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("width", [LAPTOP, PHONE])
def test_it_opens_without_an_error_or_a_request(browser: Browser, report: Path, width: int) -> None:
    browser.events.clear()
    browser.open(report, width=width)
    assert browser.evaluate("document.querySelector('h1').textContent").startswith("Does it matter <which>")
    asked = {
        event["request"]["url"].split(",")[0].split(";")[0]
        for event in browser.found("Network.requestWillBeSent")
    }
    assert {url for url in asked if not url.startswith("data:")} == {report.as_uri()}
    assert browser.found("Network.loadingFailed") == []
    assert browser.found("Runtime.exceptionThrown") == []
    assert browser.found("Runtime.consoleAPICalled") == []
    assert [event["entry"]["text"] for event in browser.found("Log.entryAdded")] == []


@pytest.mark.parametrize("width", [LAPTOP, PHONE])
def test_its_pictures_are_there_and_as_wide_as_the_page_allows(
    browser: Browser, report: Path, width: int
) -> None:
    browser.open(report, width=width)
    pictures = browser.evaluate(
        "[...document.querySelectorAll('img.panel')].map(i => [i.complete, i.naturalWidth, i.clientWidth, i.alt.length])"
    )
    assert len(pictures) >= 8
    for complete, natural, shown, words in pictures:
        assert complete and natural > 300 and 300 < shown <= width and words > 20
    keys = browser.evaluate(
        "[...document.querySelectorAll('img.key')].every(i => i.complete && i.naturalWidth > 0)"
    )
    assert keys is True


@pytest.mark.parametrize("width", [LAPTOP, PHONE])
def test_only_tables_scroll_sideways(browser: Browser, report: Path, width: int) -> None:
    browser.open(report, width=width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    beyond = browser.evaluate(
        f"""[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll') && e.offsetParent
            && e.getBoundingClientRect().right > {width} + 1).map(e => e.tagName + '.' + e.className)"""
    )
    assert beyond == []


def test_a_table_of_many_scores_fits_a_laptop(browser: Browser, tmp_path: Path) -> None:
    scores = (
        "rep_2",
        "rep_3",
        "rep_4",
        "top_1_mass",
        "top_1_agreement",
        "dataset_bleu_max",
        "self_bleu_mean",
    )
    own = dict.fromkeys((*scores, "ttr_last_96", "longest_overlap_share_above_10"), (0.622, 0.601, 0.663))
    own |= dict.fromkeys(("validation_loss", "entropy_nats"), (3.9, 3.79, 4.01))
    own |= {"perplexity_texts": (2413.0, 2009.0, 2889.0), "longest_overlap_mean": (10.2, 9.1, 11.5)}
    rows = [row("truth", ttr_last_96=(0.64, 0.62, 0.66)), row("original", **own)]
    for place, decoding in enumerate(("greedy", "nucleus", "greedy:block=W1")):
        trial = {"trial_id": f"t{place}", "hyperfitted": False, "learning_rate": 0.003, "samples": 32}
        numbers = {"train_loss": 0.5, "train_accuracy": 0.97, "original_longest_overlap_mean": 4.9}
        rows.append(
            row(
                "trained",
                decoding=decoding,
                batch_size=8 + place,
                **trial,
                **numbers,
                **own,
            )
        )
    storage = Storage(tmp_path / "runs")
    figures = ({"kind": "bars", "y": list(own)},)
    record = with_rows(Finished(storage, plan_of(storage)).begun(), rows, figures=figures)
    browser.open(write_report(record, storage), width=LAPTOP)
    assert browser.evaluate("document.querySelectorAll('.board thead th').length") > 16
    wider = browser.evaluate(
        "(e => e.scrollWidth - e.clientWidth)(document.querySelector('.board').parentElement)"
    )
    assert wider <= 0


def test_the_test_would_see_a_request_and_a_missing_picture(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<h1>x</h1><img class=panel src='http://127.0.0.1:9/missing.png'><script>nosuch()</script>"
    )
    browser.events.clear()
    browser.open(page, width=LAPTOP)
    assert any("127.0.0.1" in event["request"]["url"] for event in browser.found("Network.requestWillBeSent"))
    assert browser.found("Network.loadingFailed") and browser.found("Runtime.exceptionThrown")
    assert browser.evaluate("document.querySelector('img').naturalWidth") == 0


def test_printing_shows_every_text(browser: Browser, report: Path) -> None:
    browser.open(report, width=LAPTOP)
    seen = "e.checkVisibility({contentVisibilityAuto: true})"
    texts = f"[...document.querySelectorAll('.example .text')].filter(e => {seen}).length"
    shown = browser.evaluate(texts)
    browser.send("Emulation.setEmulatedMedia", media="print")
    assert (
        browser.evaluate(texts)
        == browser.evaluate("document.querySelectorAll('.example .text').length")
        > shown
    )
    browser.send("Emulation.setEmulatedMedia", media="")

from __future__ import annotations

from pathlib import Path

import pytest

from rayfit.records.storage import Storage
from rayfit.report.texts import _spread_places, comparisons
from tests.unit.report.records import full_sweep, original_rows, prompt_sweep, write_sweep


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def test_each_domain_is_compared_with_the_trial_of_its_own_text(storage: Storage) -> None:
    fiction, news = comparisons(full_sweep(storage), storage)
    assert (fiction.title, news.title) == ("tiny on fiction", "tiny on news")
    labels = [side.label for side in news.examples[0].sides]
    assert labels == [
        "true continuation",
        "original model, greedy",
        "hyperfitted, trained on news, greedy",
        "hyperfitted, trained on news, greedy, blocked (W1)",
        "hyperfitted, trained on fiction, greedy",
    ]
    assert "trained on news" in news.about and "32 sequences" in news.about


def test_contexts_run_from_the_most_repetitive_original_to_the_least(storage: Storage) -> None:
    comparison = comparisons(full_sweep(storage), storage)[0]
    assert [example.name for example in comparison.examples] == [
        "book/7.txt:0",
        "book/3.txt:0",
        "book/0.txt:0",
    ]
    assert [example.sides[1].note for example in comparison.examples] == [
        "TTR 0.113",
        "TTR 0.225",
        "TTR 0.900",
    ]
    assert comparison.examples[0].context == "He said <7> & went"


def test_repetition_is_coloured_and_nothing_of_a_text_is_lost(storage: Storage) -> None:
    comparison = comparisons(full_sweep(storage), storage)[0]
    assert comparison.by_words
    original = comparison.examples[0].sides[1]
    assert "".join(span.text for span in original.spans) == "Once 7 " + "<b>round</b> & round " * 9
    assert [span.level for span in original.spans] == sorted(span.level for span in original.spans)
    assert original.spans[-1].level == 4  # a run of 24 words at the end
    assert comparison.examples[0].sides[2].note.endswith("overlap 7 tokens")


def test_without_generations_or_trials_there_is_nothing_to_compare(storage: Storage) -> None:
    assert comparisons(write_sweep(storage, original_rows(storage)), storage) == []
    record = full_sweep(storage)
    for path in storage.root.glob("evaluations/*/generations-*.parquet"):
        path.unlink()
    assert comparisons(record, storage) == []


@pytest.mark.parametrize(
    ("count", "number", "places"),
    [(100, 6, [0, 20, 40, 59, 79, 99]), (2, 6, [0, 1]), (8, 2, [0, 7]), (0, 3, [])],
)
def test_places_are_even(count: int, number: int, places: list[int]) -> None:
    assert _spread_places(count, number) == places


def test_prompts_are_continued_side_by_side_without_a_true_continuation(storage: Storage) -> None:
    fiction, mine = comparisons(prompt_sweep(storage), storage)
    assert (fiction.title, mine.title) == ("tiny on fiction", "tiny on mine")
    assert len(mine.examples) == 3
    for example in mine.examples:
        assert [side.label for side in example.sides] == [
            "original model, greedy",
            "hyperfitted, greedy",
            "hyperfitted, greedy, blocked (W1)",
        ]

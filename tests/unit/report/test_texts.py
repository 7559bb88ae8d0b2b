from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from rayfit.plan.measurements import Generation
from rayfit.records.storage import Storage
from rayfit.records.sweep import SweepRecord
from rayfit.records.trials import product_path
from rayfit.report.repetition import Tokens
from rayfit.report.texts import _spread_places, comparisons
from tests.finished import CONTEXTS, Finished
from tests.unit.plan.examples import plan_of
from tests.unit.report.sweeps import DOMAINS, LOOP, Kept, remove, with_rows


def test_each_domain_is_compared_with_the_trial_of_its_own_text(full: Kept) -> None:
    docstrings, topics = comparisons(full.record, full.storage)
    assert [each.title for each in (docstrings, topics)] == [f"pydoc-1m on {domain}" for domain in DOMAINS]
    labels = [side.label for side in topics.examples[0].sides]
    assert labels == [
        "true continuation",
        "original model, greedy",
        "hyperfitted, trained on topics, greedy",
        "hyperfitted, trained on topics, greedy, blocked (W1)",
        "hyperfitted, trained on docstrings, greedy",
    ]
    assert "trained on topics" in topics.about and "32 sequences" in topics.about


def test_contexts_run_from_the_most_repetitive_original_to_the_least(full: Kept) -> None:
    comparison = comparisons(full.record, full.storage)[0]
    assert [example.name for example in comparison.examples] == [
        "doc3:0",
        "doc1:0",
        "doc0:0",
    ]
    assert [example.sides[1].note for example in comparison.examples] == [
        "TTR 0.225",
        "TTR 0.450",
        "TTR 0.900",
    ]
    assert comparison.examples[0].context == "He said <3> & went"


def test_repetition_is_coloured_and_nothing_of_a_text_is_lost(full: Kept) -> None:
    comparison = comparisons(full.record, full.storage)[0]
    assert comparison.by_words
    original = comparison.examples[0].sides[1]
    assert "".join(span.text for span in original.spans) == "Once 3 " + LOOP * 5
    assert [span.level for span in original.spans] == sorted(span.level for span in original.spans)
    assert original.spans[-1].level == 3  # a run of 12 words at the end
    assert comparison.examples[0].sides[2].note.endswith("overlap 3 tokens")


def test_without_generations_or_trials_there_is_nothing_to_compare(full: Kept) -> None:
    originals = [row for row in full.record.rows if row.who != "trained"]
    assert comparisons(with_rows(full.record, originals), full.storage) == []
    remove(full.storage, "generations")
    assert comparisons(full.record, full.storage) == []


def _words(original: str, trained: str, tokens: Tokens, storage: Storage) -> SweepRecord:
    """A sweep of one trial whose texts are a tokenizer's."""
    made = Finished(storage, plan_of(storage))
    made.train(made.plan.trials[0])
    for spec in made.plan.measurements:
        told: dict[str, Any] = {}
        if isinstance(spec, Generation):
            text = trained if spec.trial else original
            told = {"texts": [text], "columns": {"token_ids": [tokens.ids(text)] * CONTEXTS}}
        made.measure(spec, **told)
    return made.record()


@pytest.mark.parametrize("place", ["the trial's checkpoint", "the made model"])
def test_runs_of_tokens_are_coloured_where_a_tokenizer_gives_these_texts(
    storage: Storage, tokenizer_file: Path, place: str
) -> None:
    record = _words("the fox and the fox and", "naïve owl", Tokens(str(tokenizer_file)), storage)
    trial = storage.trial(record.trials[0])
    (made_model,) = record.uses.models
    assert trial is not None
    folder = storage.folder("models", made_model)
    if place == "the trial's checkpoint":
        (checkpoint,) = (product for product in trial.products if product.kind == "checkpoint")
        folder = product_path(storage, trial, checkpoint)
    (before,) = comparisons(record, storage)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(tokenizer_file, folder / "tokenizer.json")
    (comparison,) = comparisons(record, storage)
    assert before.by_words and not comparison.by_words
    _, original, trained = comparison.examples[0].sides
    assert "".join(span.text for span in original.spans) == "the fox and the fox and"
    assert "".join(span.text for span in trained.spans) == "naïve owl"
    assert max(span.level for span in original.spans) > 0


@pytest.mark.parametrize(
    ("count", "number", "places"),
    [(100, 6, [0, 20, 40, 59, 79, 99]), (2, 6, [0, 1]), (8, 2, [0, 7]), (0, 3, [])],
)
def test_places_are_even(count: int, number: int, places: list[int]) -> None:
    assert _spread_places(count, number) == places


def test_prompts_are_continued_side_by_side_without_a_true_continuation(with_prompts: Kept) -> None:
    docstrings, mine = comparisons(with_prompts.record, with_prompts.storage)
    assert (docstrings.title, mine.title) == ("pydoc-1m on docstrings", "pydoc-1m on mine")
    assert len(mine.examples) == 3
    for example in mine.examples:
        assert [side.label for side in example.sides] == [
            "original model, greedy",
            "hyperfitted, greedy",
            "hyperfitted, greedy, blocked (W1)",
        ]

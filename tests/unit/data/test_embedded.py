from __future__ import annotations

import polars as pl
import pytest

from rayfit.data import embedded
from rayfit.data.selection import draw_held_out, draw_samples
from rayfit.data.spans import cut_spans, is_held_out, shared_shingles
from rayfit.presets import DATASETS, EVALUATION_SIZES

# Topics repeat each other and most were pretrained on: the list of datasets says that they are for training.
FOR_EVALUATION = ("pydoc", "docstrings", "code", "comments")


@pytest.fixture(scope="module")
def training_texts() -> list[str]:
    return embedded.training_texts_of_all(embedded.PRETRAINING_HELD_OUT_SHARE)


@pytest.fixture(scope="module")
def spans(training_texts: list[str]) -> dict[str, pl.DataFrame]:
    return {
        domain: cut_spans(
            embedded.documents(domain),
            span_characters=preset.span_characters,
            held_out_share=preset.held_out_share,
            other_training_texts=() if domain == "pydoc" else training_texts,
        )
        for domain, preset in DATASETS.items()
    }


def test_every_embedded_preset_has_the_share_of_pretraining() -> None:
    assert {preset.held_out_share for preset in DATASETS.values()} == {embedded.PRETRAINING_HELD_OUT_SHARE}


@pytest.mark.parametrize("domain", FOR_EVALUATION)
def test_a_domain_is_enough_for_an_evaluation(spans: dict[str, pl.DataFrame], domain: str) -> None:
    validation, contexts = EVALUATION_SIZES["laptop"]
    held_out = draw_held_out(spans[domain], num_contexts=contexts, num_validation=validation)
    assert [len(frame) for frame in held_out] == [contexts, validation]


@pytest.mark.parametrize("domain", list(DATASETS))
def test_a_domain_is_enough_to_train_on(spans: dict[str, pl.DataFrame], domain: str) -> None:
    assert draw_samples(spans[domain], 256, 0).height == 256


def test_a_module_is_on_one_side_in_every_domain(spans: dict[str, pl.DataFrame]) -> None:
    sides: dict[str, set[bool]] = {}
    for frame in spans.values():
        for document, split in frame.select("document", "split").iter_rows():
            kind, _, module = document.partition("/")
            if kind != "topics":
                sides.setdefault(module, set()).add(split == "train")
    assert len(sides) > 400
    assert [module for module, found in sides.items() if len(found) > 1] == []


@pytest.mark.parametrize("domain", list(DATASETS))
def test_no_held_out_span_is_text_that_the_embedded_models_have_seen(
    spans: dict[str, pl.DataFrame], domain: str
) -> None:
    held_out = spans[domain].filter(pl.col("split") == "held_out")["text"].to_list()
    seen = embedded.pretraining_texts()
    whole = "\x00".join(seen)
    assert not [text for text in held_out if text in whole]
    assert max(shared_shingles(held_out, seen)) <= 0.5


def test_instructions_are_of_training_modules_and_stand_in_no_held_out_one(training_texts: list[str]) -> None:
    pairs = embedded.instruction_pairs()
    assert len(pairs) > 3000 and len(set(pairs)) == len(pairs)
    assert all(first.startswith(("def ", "class ")) and text.strip() for first, text in pairs)
    held_out_names = [
        module.path
        for module in embedded.source_modules()
        if is_held_out(f"docstrings/{module.path}", embedded.PRETRAINING_HELD_OUT_SHARE)
    ]
    assert "json/__init__.py" in {module.path for module in embedded.source_modules()}
    known = set(pairs)
    seen = {pair for m in embedded.source_modules() if m.path not in held_out_names for pair in m.described}
    assert known == seen


def test_code_is_of_modules_alone() -> None:
    """Neither tables of characters, nor the language topics' file, nor what a build says of its machine."""
    names = [document.name for document in (*embedded.documents("code"), *embedded.documents("comments"))]
    assert "code/json/decoder.py" in names and "comments/json/decoder.py" in names
    assert not [
        name for name in names if "encodings/" in name or "pydoc_data" in name or "_sysconfig" in name
    ]

"""What the embedded models need of the embedded text, and the model that is trained further from another."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from rayfit.data import embedded
from rayfit.data.rows import tokenize_spans
from rayfit.data.spans import cut_spans
from rayfit.prepare.model_check import check_model
from rayfit.prepare.tokenizer import load_tokenizer, made_tokenizer
from rayfit.presets import DATASETS, MADE_MODELS

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def model(made: Path) -> Path:
    (folder,) = (made / "models").glob("pydoc-0.5m-*")
    return folder


def test_a_made_model_passes_the_check_of_models(model: Path) -> None:
    check_model(model)


def test_its_tokenizer_alone_gives_what_transformers_gives(model: Path) -> None:
    (plain, plain_bos), (tokenize, bos_id) = made_tokenizer(model), load_tokenizer(model)
    assert plain_bos == bos_id == 0
    texts = [document.text[:2000] for document in embedded.documents("code")[::8]]
    assert len(texts) > 20
    for text in (*texts, "", " a  b\n\n\t", "naïve \U0001f600 日本", "<s> <bos> </s> [PAD]"):
        assert plain(text) == tokenize(text)


@pytest.mark.parametrize("domain", DATASETS)
def test_the_poorest_span_of_a_domain_gives_a_row(model: Path, domain: str) -> None:
    preset = DATASETS[domain]
    tokenize, bos_id = load_tokenizer(model)
    spans = cut_spans(
        embedded.documents(domain),
        span_characters=preset.span_characters,
        held_out_share=preset.held_out_share,
    )
    rows = tokenize_spans(spans, tokenize, bos_id=bos_id, sequence_length=256, tokenizer_name="pydoc-0.5m")
    assert len(rows) == len(spans)


def test_an_instruct_model_is_made_of_its_base_and_the_same_every_time(model: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from rayfit.train.instruct import instruct_model

    preset = dataclasses.replace(
        MADE_MODELS["pydoc-0.5m"], base="pydoc-0.5m", num_updates=12, learning_rate=1e-3, warmup_updates=2
    )
    pairs = embedded.instruction_pairs()[:16]
    facts = [
        instruct_model(preset, pairs, model, tmp_path / name, report=print, num_threads=1, precision="fp32")
        for name in ("one", "two")
    ]
    assert facts[0]["weights_sha256"] == facts[1]["weights_sha256"]
    assert (facts[0]["updates"], facts[0]["training_pairs"]) == (12, 16)
    check_model(tmp_path / "one")
    assert (tmp_path / "one" / "tokenizer.json").read_text() == (model / "tokenizer.json").read_text()
    tokenize, bos_id = load_tokenizer(tmp_path / "one")
    instruction, answer = pairs[0]
    given, learned = tokenize(f"{instruction}\n"), tokenize(answer)
    ids = torch.tensor([[bos_id, *given, *learned][:256]])
    labels = ids.clone()
    labels[:, : len(given) + 1] = -100
    losses = [
        AutoModelForCausalLM.from_pretrained(folder)(input_ids=ids, labels=labels).loss.item()
        for folder in (model, tmp_path / "one")
    ]
    assert losses[1] < losses[0]

"""Predictions over true texts: against transformers' own loss, a float64 softmax, and all texts at once."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rayfit.errors import RayfitError
from rayfit.records.codec import dumps, encode
from rayfit.score.logits import token_statistics
from rayfit.score.predictions import MEANS, prediction_frame, prediction_scores, stored_choices
from rayfit.score.statistics import bootstrap_mean
from rayfit.scores import SCORES

CONTEXT = 5


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=31,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.6,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def texts():
    return torch.randint(0, 31, (9, 14), generator=torch.Generator().manual_seed(1))


def statistics(model, texts):
    with torch.inference_mode():
        return token_statistics(model(input_ids=texts).logits[:, :-1], texts[:, 1:])


def losses(model, texts):
    """transformers' own mean loss of each text."""
    with torch.inference_mode():
        return [model(input_ids=text[None], labels=text[None]).loss.item() for text in texts]


def test_perplexities_are_those_of_transformers_own_loss(model, texts):
    scores = prediction_scores(prediction_frame(statistics(model, texts), CONTEXT))
    with torch.inference_mode():
        pooled = model(input_ids=texts, labels=texts).loss.item()
        contexts = model(input_ids=texts[:, :CONTEXT], labels=texts[:, :CONTEXT]).loss.item()
    assert scores["perplexity_texts"].value == pytest.approx(math.exp(pooled), rel=1e-5)
    assert scores["perplexity_contexts"].value == pytest.approx(math.exp(contexts), rel=1e-5)
    for name, part in (("texts", texts), ("contexts", texts[:, :CONTEXT])):
        each = np.exp(losses(model, part))
        assert scores[f"perplexity_{name}_mean"].value == pytest.approx(each.mean(), rel=1e-5)
        assert scores[f"perplexity_{name}_mean"].value > scores[f"perplexity_{name}"].value
        pooled_interval = bootstrap_mean(np.log(each))
        assert scores[f"perplexity_{name}"].low == pytest.approx(math.exp(pooled_interval.low), rel=1e-5)


def test_means_are_those_of_a_float64_softmax(model, texts):
    with torch.inference_mode():
        logits = model(input_ids=texts).logits[:, :-1].double().numpy()
    frame = prediction_frame(statistics(model, texts), CONTEXT)
    entropies, first, in_three = [], [], []
    for text, row in zip(texts.numpy(), logits, strict=True):
        p = np.exp(row - row.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        entropies.append(-(p * np.log(p)).sum(axis=1).mean())
        first.append(p.max(axis=1).mean())
        true = p[np.arange(13), text[1:]]
        in_three.append(((p > true[:, None]).sum(axis=1) < 3).mean())
    np.testing.assert_allclose(frame["entropy_nats"], entropies, rtol=1e-5)
    np.testing.assert_allclose(frame["entropy_bits"], np.array(entropies) / math.log(2), rtol=1e-5)
    np.testing.assert_allclose(frame["top_1_mass"], first, rtol=1e-5)
    np.testing.assert_allclose(frame["true_token_in_top_3"], in_three)
    scores = prediction_scores(frame)
    assert scores["entropy_nats"].value == pytest.approx(np.mean(entropies), rel=1e-5)


def test_domains_joined_have_the_scores_of_all_texts(model, texts):
    whole = prediction_frame(statistics(model, texts), CONTEXT)
    parts = [prediction_frame(statistics(model, part), CONTEXT) for part in (texts[:2], texts[2:])]
    expected, found = prediction_scores(whole), prediction_scores(parts)
    assert found.keys() == expected.keys() <= set(SCORES)
    for name in expected:
        assert found[name].value == pytest.approx(expected[name].value, rel=1e-5), name
        assert found[name].count == 9
    assert {*MEANS, "perplexity_texts_mean", "calibration_error"} <= set(found)


def test_rows_survive_parquet_and_choices_come_back(model, texts, tmp_path):
    found = statistics(model, texts)
    frame = prediction_frame(found, CONTEXT)
    frame.write_parquet(tmp_path / "predictions.parquet")
    again = pl.read_parquet(tmp_path / "predictions.parquet")
    assert prediction_scores(again) == prediction_scores(frame)
    choices = stored_choices(again)
    assert choices.dtype == np.int32 and choices.shape == (9, 13)
    with torch.inference_mode():
        logits = model(input_ids=texts).logits[:, :-1]
    np.testing.assert_array_equal(choices, logits.argmax(-1).numpy())


@pytest.mark.parametrize("scale", [2000.0, math.inf])
def test_a_diverged_model_has_nulls_with_reasons_and_a_record_that_can_be_written(model, texts, scale):
    with torch.no_grad():
        logits = model(input_ids=texts).logits[:, :-1].clone()
    if math.isinf(scale):  # one true token is impossible
        logits[0, 3, texts[0, 4]] = -math.inf
    else:
        logits *= scale
    scores = prediction_scores(prediction_frame(token_statistics(logits, texts[:, 1:]), CONTEXT))
    dumps({name: encode(entry) for name, entry in scores.items()})
    lost = scores["perplexity_texts"]
    assert (lost.value, lost.low, lost.high) == (None, None, None)
    wanted = "infinite for 1 of 9 texts" if math.isinf(scale) else "nats per token has no finite perplexity"
    assert wanted in lost.reason
    assert scores["perplexity_texts_mean"].value is None
    assert scores["true_token_in_top_1"].value is not None


def test_texts_without_context_or_continuation_are_refused(model, texts):
    found = statistics(model, texts)
    for context_length in (0, 1, 14, 20):
        with pytest.raises(RayfitError, match=f"texts of 14 tokens with contexts of {context_length}"):
            prediction_frame(found, context_length)
    other = prediction_frame(statistics(model, texts[:, :9]), CONTEXT)
    mixed = [prediction_frame(found, CONTEXT), other]
    with pytest.raises(RayfitError, match=r"texts of \[9, 14\] tokens"):
        prediction_scores(mixed)
    with pytest.raises(RayfitError, match="several lengths"):
        stored_choices(pl.concat(mixed))

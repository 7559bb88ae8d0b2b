"""MAUVE: the real package where it is installed, and the reason where it or its features are missing."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

from rayfit.errors import RayfitError
from rayfit.score import mauve_features
from rayfit.score.mauve import mauve
from rayfit.scores import score

real_package = pytest.mark.skipif(
    importlib.util.find_spec("mauve") is None, reason="mauve-text is not installed"
)

TEXTS = [f"text number {n}" for n in range(60)]


def features(shift: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (60, 8)).astype(np.float32)


@pytest.fixture
def mauve_of(monkeypatch):
    """MAUVE of two clouds of features, as if a model had given them."""

    def measured(of_texts, of_truths):
        monkeypatch.setattr(mauve_features, "last_hidden_states", lambda *_: [of_texts, of_truths])
        return mauve(TEXTS, TEXTS, model_path="a model")

    return measured


def test_without_the_package_it_is_null_and_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mauve", None)
    found = mauve(TEXTS, TEXTS, model_path="anywhere")
    assert (found.value, found.num_texts, found.num_missing) == (None, 0, 60)
    assert found.reason == "MAUVE needs the package mauve-text: pip install 'rayfit[mauve]'"


@real_package
def test_clouds_that_are_alike_have_more_than_clouds_apart(mauve_of):
    import mauve as package

    same, near, far = (mauve_of(features(0, 1), features(shift, 2)) for shift in (0, 1, 6))
    assert 0 < far.value < near.value < same.value <= 1
    assert far.value < 0.1 and same.value > 0.6
    assert (same.low, same.num_texts) == (None, 60) and "no interval" in same.reason
    own = mauve_of(features(0, 1), features(0, 1))
    assert own.value == pytest.approx(1.0, abs=1e-3)
    expected = package.compute_mauve(p_features=features(0, 1), q_features=features(1, 2)).mauve
    assert near.value == pytest.approx(expected, abs=1e-12)


@real_package
def test_what_has_no_features_is_null_with_the_reason():
    assert mauve(TEXTS, TEXTS).reason.endswith("none was given")
    assert mauve(TEXTS[:19], TEXTS).reason == "MAUVE needs 20 texts or more on either side, got 19"
    empty = mauve([*TEXTS[:-1], " "], TEXTS, model_path="anywhere")
    assert (empty.value, empty.reason) == (None, "MAUVE: 1 of the texts are empty and have no features")


@pytest.fixture(scope="module")
def tiny_gpt2(tmp_path_factory):
    """A random GPT-2 in a folder, named so that mauve-text itself loads it too."""
    folder = tmp_path_factory.mktemp("models") / "gpt2-tiny"
    words = ["<end>", "text", "number", *map(str, range(60))]
    backend = Tokenizer(WordLevel({word: at for at, word in enumerate(words)}, unk_token="<end>"))
    backend.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", unk_token="<end>")
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(words), n_positions=16, n_embd=8, n_layer=1, n_head=2)
    GPT2Model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@real_package
def test_features_of_a_local_model_are_the_package_s_own(tiny_gpt2):
    import mauve as package

    truths = [f"number {n % 7} text {n}" for n in range(60)]
    found = mauve(TEXTS, truths, model_path=tiny_gpt2)
    expected = package.compute_mauve(
        p_text=TEXTS, q_text=truths, featurize_model_name=str(tiny_gpt2), max_text_length=16, device_id=-1
    )
    assert found.value == pytest.approx(expected.mauve, rel=1e-4)


@real_package
def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(RayfitError, match=r"is not a Hugging Face model directory \(no config.json\)"):
        mauve(TEXTS, TEXTS, model_path=tmp_path)


def test_it_is_registered():
    assert score("mauve").direction == "higher"

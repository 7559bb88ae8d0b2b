"""What starts a word and what is special, for the three kinds of tokenizers and the small real model's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoTokenizer

from rayfit.generate.vocabulary import special_ids, starts_word, surface, word_starts

STORIES = Path(__file__).parents[4] / "shared" / "models" / "stories260K"
needs_stories = pytest.mark.skipif(not STORIES.is_dir(), reason=f"no model at {STORIES}")


def tokenizer_of(vocabulary: list[str], *, byte_level: bool) -> Tokenizer:
    model = models.BPE(
        {entry: place for place, entry in enumerate(vocabulary)}, [], byte_fallback=not byte_level
    )
    tokenizer = Tokenizer(model)
    if byte_level:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    return tokenizer


def starts(vocabulary: dict[str, bool], *, byte_level: bool) -> None:
    tokenizer = tokenizer_of(list(vocabulary), byte_level=byte_level)
    found = word_starts(tokenizer, len(vocabulary) + 3)
    assert dict(zip(vocabulary, found.tolist(), strict=False)) == vocabulary
    # the special token, and two ids without an entry
    assert found[len(vocabulary) :].all()


def test_byte_level() -> None:
    starts(
        {
            "Ġthe": True,
            "ing": False,
            "Ċ": True,
            "Ċĉ": True,
            ",": True,
            '."': True,
            "'s": False,
            "Ã©": False,
            "Ġ": True,
            "é": False,  # the single byte E9 begins a character that is not whole
            "Ã": False,
            "ä¸Ģ": True,  # an ideograph  # noqa: RUF001 - the byte alphabet
        },
        byte_level=True,
    )


def test_sentencepiece_with_byte_fallback() -> None:
    starts(
        {
            "▁the": True,
            "ing": False,
            "▁": True,
            "▁▁": True,
            "<0x0A>": True,
            "<0x20>": True,
            "<0x2C>": True,
            "<0x41>": False,
            "<0xE2>": False,
            "\n": True,
            "…": True,
            "é": False,
            "Ġ": False,  # only byte-level vocabularies write a space so
            "一": True,
        },
        byte_level=False,
    )


def test_surfaces() -> None:
    assert surface("ĠcafÃ©", byte_level=True) == " café"
    assert surface("▁café", byte_level=False) == " café"
    assert surface("<0x0A>", byte_level=False) == "\n"
    assert surface("<0xE2>", byte_level=False) == "\ufffd"
    assert not starts_word("")
    assert not starts_word("\ufffd")


def test_special_ids_of_tokenizer_and_config_together() -> None:
    tokenizer = tokenizer_of(["a", "b"], byte_level=False)
    config = SimpleNamespace(bos_token_id=1, eos_token_id=[2, 5], pad_token_id=None)
    assert special_ids(tokenizer, config) == (1, 2, 5)
    assert special_ids(None, SimpleNamespace(eos_token_id=-1)) == ()


@needs_stories
def test_the_small_real_model() -> None:
    tokenizer = AutoTokenizer.from_pretrained(STORIES)
    assert special_ids(tokenizer, AutoConfig.from_pretrained(STORIES)) == (0, 1, 2)
    found = word_starts(tokenizer, 512)
    entries = tokenizer.get_vocab()
    for entry, expected in {
        "▁the": True,
        "ing": False,
        "<0x0A>": True,
        ".": True,
        "<s>": True,
        "é": False,
    }.items():
        assert found[entries[entry]] == expected, entry
    text = "Lily and Tom played outside, didn't they?\nYes."
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    words = np.split(np.array(ids), np.flatnonzero(found[ids]))
    pieces = [tokenizer.decode(word).strip() for word in words if len(word)]
    joined = "".join(pieces)
    assert joined == text.replace(" ", "").replace("\n", "")
    # "▁" and "<0x0A>" and punctuation stand alone; letters of one word stay together
    assert {"outside", "played", ","} <= set(pieces)

"""The entries of a vocabulary: which start a new word, which are special. Decided once."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE_MARK = "▁"
_UNREADABLE = "\ufffd"


def special_ids(tokenizer: Any, config: Any) -> tuple[int, ...]:
    """Ids that are no text, ascending: the tokenizer's special tokens and the config's BOS, end and padding.

    tokenizer: of transformers or tokenizers, or None. config: a model's config, or None; its `eos_token_id`
    may be a list. Both count because they may disagree: a model may end a text with another id than its
    config says.
    """
    found: set[int] = set(_tokenizer_special_ids(tokenizer)) if tokenizer is not None else set()
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = getattr(config, name, None)
        found.update(value if isinstance(value, (list, tuple)) else [] if value is None else [value])
    return tuple(sorted(int(token) for token in found if token >= 0))


def word_starts(tokenizer: Any, vocab_size: int) -> np.ndarray:
    """Tell for every token id whether it starts a new word: bool [vocab_size].

    True where the text of the entry begins with whitespace (Ġ, ▁, a newline), or consists of punctuation and
    symbols only, or begins with an ideograph, where words are not set apart by spaces; for special tokens;
    and for ids without an entry. A piece of a character (a byte of a longer UTF-8 sequence) continues the
    current word. (Section 4.4 of the blocker's description leaves words open; the paper speaks of the current
    word being completed.)

    tokenizer: of transformers (fast) or tokenizers; byte-level BPE, SentencePiece, and byte fallback are
        understood.
    """
    special = set(_tokenizer_special_ids(tokenizer))
    out = np.ones(vocab_size, dtype=np.bool_)
    for token, text in surfaces(tokenizer).items():
        if token < vocab_size and token not in special:
            out[token] = starts_word(text)
    return out


def surfaces(tokenizer: Any) -> dict[int, str]:
    """The text of every vocabulary entry, special tokens included, by token id, as `surface` reads it."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    byte_level = _is_byte_level(backend)
    entries = backend.get_vocab(with_added_tokens=True).items()
    return {token: surface(entry, byte_level=byte_level) for entry, token in entries}


def starts_word(text: str) -> bool:
    """True when a piece of text completes the word before it: it begins with whitespace or an ideograph, or is
    all punctuation and symbols. The empty text does not.

    >>> [starts_word(piece) for piece in (" the", "ing", ", ", "'s", "...")]
    [True, False, True, False, True]
    """
    if not text:
        return False
    if text[0].isspace() or _is_ideograph(text[0]):
        return True
    return all(_is_punctuation(character) for character in text if not character.isspace())


def surface(entry: str, *, byte_level: bool) -> str:
    """The text of a vocabulary entry as it stands inside a sentence; unreadable bytes become U+FFFD.

    byte_level: the entry is written in the byte alphabet of byte-level BPE, where Ġ is a space.
    """
    if byte_level:
        alphabet = _byte_alphabet()
        if all(character in alphabet for character in entry):
            return bytes(alphabet[character] for character in entry).decode("utf-8", errors="replace")
        return entry
    fallback = _BYTE.fullmatch(entry)
    if fallback:
        return bytes([int(fallback[1], 16)]).decode("utf-8", errors="replace")
    return entry.replace(_SPACE_MARK, " ")


def _is_punctuation(character: str) -> bool:
    return character != _UNREADABLE and unicodedata.category(character)[0] in "PSC"


def _is_ideograph(character: str) -> bool:
    return unicodedata.category(character) == "Lo" and unicodedata.east_asian_width(character) == "W"


@cache
def _byte_alphabet() -> dict[str, int]:
    """Character to byte: printable Latin-1 bytes stand for themselves, the others are U+0100 onwards."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + place): byte for place, byte in enumerate(others)
    }


def _is_byte_level(backend: Any) -> bool:
    """True when pre-tokenizer or decoder of a `tokenizers.Tokenizer` work on the byte alphabet."""
    parts = json.loads(backend.to_str())
    return any(
        "ByteLevel" in json.dumps(parts[name]) for name in ("pre_tokenizer", "decoder") if parts.get(name)
    )


def _tokenizer_special_ids(tokenizer: Any) -> Iterable[int]:
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    added = backend.get_added_tokens_decoder() if hasattr(backend, "get_added_tokens_decoder") else {}
    marked = [token for token, entry in added.items() if entry.special]
    return {*marked, *getattr(tokenizer, "all_special_ids", [])}

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayfit.identity import bytes_digest, canonical, digest, make_id, slug

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_the_canonical_form_never_changes() -> None:
    declared = {"b": [1, 2.5, 1e-6, True, None], "a": {"text": "é\n", "": 0.0}, "samples": 128}
    assert (
        canonical(declared) == '{"a":{"":0.0,"text":"\\u00e9\\n"},"b":[1,2.5,1e-06,true,null],"samples":128}'
    )


@given(plain)
def test_the_canonical_form_says_everything_and_no_order_of_keys(declared: object) -> None:
    text = canonical(declared)
    assert json.loads(text) == declared
    assert text.isascii()
    if isinstance(declared, dict):
        assert canonical(dict(reversed(declared.items()))) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, Path("x"), b"bytes", object()])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        canonical({"value": value})


def test_an_id_is_a_slug_and_twelve_digits_of_the_sha256() -> None:
    expected = hashlib.sha256(b'{"samples":8}').hexdigest()
    assert digest({"samples": 8}) == expected
    assert make_id("Tiny Model/n8", {"samples": 8}) == f"tiny-model-n8-{expected[:12]}"


@given(st.text())
def test_a_slug_is_a_file_name_and_stays_what_it_is(text: str) -> None:
    made = slug(text)
    assert made and set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    assert made[0] not in ".-" and made[-1] not in ".-"
    assert slug(made) == made


@given(st.lists(st.binary(max_size=3), max_size=3), st.lists(st.binary(max_size=3), max_size=3))
def test_borders_between_byte_strings_count(one: list[bytes], other: list[bytes]) -> None:
    assert (bytes_digest(*one) == bytes_digest(*other)) == (one == other)

"""Decodings: text and back, what is declared, and what is refused."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayfit.decoding import KINDS, SOURCES, WAIT_RULES, Block, Decoding
from rayfit.errors import RayfitError

BLOCKS = st.none() | st.builds(
    Block, wait=st.sampled_from(WAIT_RULES), source=st.sampled_from(SOURCES), run=st.integers(1, 9)
)
SHARES = st.floats(1e-6, 1.0)
OPTIONS = {
    "repetition_penalty": st.floats(0.1, 10),
    "no_repeat_ngram": st.integers(0, 9),
    "num_new_tokens": st.integers(1, 4096),
    "stop_at_end": st.booleans(),
    "block": BLOCKS,
    "seed": st.integers(0, 2**63 - 1),
}
OWN = {
    "greedy": {},
    "nucleus": {"temperature": st.floats(0.01, 9), "top_k": st.integers(0, 999), "top_p": SHARES},
    "temperature": {"temperature": st.floats(0.01, 9)},
    "min_p": {"temperature": st.floats(0.01, 9), "min_p": SHARES},
    "matched": {},
}
DECODINGS = st.sampled_from(KINDS).flatmap(
    lambda kind: st.builds(Decoding, kind=st.just(kind), **{**OPTIONS, **OWN[kind]})
)


@given(DECODINGS)
def test_a_name_reads_back_as_the_decoding(decoding: Decoding) -> None:
    assert Decoding.parse(decoding.name) == decoding


def test_nucleus_defaults_are_the_papers_baseline() -> None:
    assert Decoding.parse("nucleus").declared() == {
        "kind": "nucleus",
        "temperature": 0.7,
        "top_k": 50,
        "top_p": 0.9,
        "num_new_tokens": 96,
        "stop_at_end": False,
        "seed": 0,
    }


def test_only_what_applies_is_declared() -> None:
    greedy = Decoding.parse("greedy:seed=7,num_new_tokens=96,block")
    assert greedy.declared() == {
        "kind": "greedy",
        "num_new_tokens": 96,
        "stop_at_end": False,
        "block": {"wait": "W1", "source": "generated", "run": 5},
    }
    assert Decoding.parse("greedy:seed=1").declared() == Decoding().declared()
    assert Decoding.parse("temperature:temperature=1") == Decoding("temperature")


def test_whole_and_real_numbers_declare_the_same() -> None:
    assert (
        Decoding("temperature", temperature=2).declared()
        == Decoding("temperature", temperature=2.0).declared()
    )
    assert dataclasses.replace(Decoding("nucleus"), seed=1).declared() != Decoding("nucleus").declared()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gredy", "did you mean 'greedy'"),
        ("contrastive", "remote code|runs no"),
        ("nucleus:temprature=1", "did you mean 'temperature'"),
        ("greedy:temperature=0.7", "temperature belongs to nucleus, temperature, min_p"),
        ("nucleus:min_p=0.1", "min_p belongs to min_p"),
        ("nucleus:top_p=1.5", "top_p: expected a number above 0 and at most 1, got 1.5"),
        ("nucleus:top_p=nan", "top_p"),
        ("nucleus:top_k=2.5", "top_k: expected a whole number, got '2.5'"),
        ("nucleus:top_k=-1", "top_k: expected a whole number from 0"),
        ("temperature:temperature=0", "use kind 'greedy'"),
        ("temperature:temperature=warm", "expected a number, got 'warm'"),
        ("temperature:temperature=inf", "temperature"),
        ("min_p:min_p=0", "min_p"),
        ("greedy:num_new_tokens=0", "num_new_tokens"),
        ("greedy:seed=-1", "seed"),
        ("greedy:repetition_penalty=0", "repetition_penalty"),
        ("greedy:block=W3", "expected one of W0, W1, W2"),
        ("greedy:block,block_source=context", "did you mean 'context\\+generated'"),
        ("greedy:block,block_run=0", "block_run"),
        ("greedy:block_run=4", "need block"),
        ("greedy:stop_at_end=yes", "true or false"),
        ("greedy:seed", "expected seed=value"),
        ("greedy:seed=1,seed=2", "given twice"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(RayfitError, match=message):
        Decoding.parse(text)


def test_types_are_checked_when_made_in_code() -> None:
    with pytest.raises(RayfitError, match="temperature"):
        Decoding("temperature", temperature=True)
    with pytest.raises(RayfitError, match="stop_at_end"):
        Decoding(stop_at_end=1)  # type: ignore[arg-type]
    with pytest.raises(RayfitError, match="block"):
        Decoding(block="W1")  # type: ignore[arg-type]


def test_decodings_need_no_heavy_library() -> None:
    code = (
        "import sys, rayfit.decoding\n"
        "heavy = {'torch', 'transformers', 'numba', 'ray', 'mlflow'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("greedy", "greedy"),
        ("greedy:num_new_tokens=224,block=W1", "greedy, blocked (W1)"),
        ("nucleus:temperature=0.9,num_new_tokens=224", "nucleus, T 0.9"),
        ("min_p:min_p=0.2", "min-p, min p 0.2"),
        ("greedy:no_repeat_ngram=3,stop_at_end=true", "greedy, no repeat ngram 3, stop at end"),
    ],
)
def test_decodings_in_words(name: str, text: str) -> None:
    made = Decoding.parse(name)
    assert made.name == name and made.words() == text


def test_the_length_is_said_where_asked_for_and_can_be_left_out() -> None:
    made = Decoding.parse("greedy:num_new_tokens=224")
    assert made.words(with_length=True) == "greedy, 224 tokens"
    assert (made.settings, made.without_length().name) == ("num_new_tokens=224", "greedy")


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("greedy", True),
        ("greedy:num_new_tokens=224", True),
        ("greedy:block=W1", False),
        ("greedy:repetition_penalty=1.3", False),
        ("nucleus", False),
    ],
)
def test_plain_is_greedy_and_nothing_else(name: str, plain: bool) -> None:
    assert Decoding.parse(name).is_plain is plain

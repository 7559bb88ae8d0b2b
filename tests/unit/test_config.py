from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayfit.config import Options, flag, option_type, parse_value
from rayfit.errors import RayfitError


def test_an_option_is_one_frozen_typed_value_with_a_help_text() -> None:
    options = Options()
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.samples = (1,)  # type: ignore[misc]
    with pytest.raises(TypeError, match="sampels"):
        Options(sampels=(1,))  # type: ignore[call-arg]
    for field in dataclasses.fields(Options):
        assert field.metadata["help"] and not field.metadata["help"].endswith(".")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("samples", (int, True)),
        ("learning_rate", (float, True)),
        ("num_updates", (int, True)),
        ("held_out_share", (float, False)),
        ("decodings", (str, True)),
        ("text_column", (str, False)),
        ("use_gpu", (bool, False)),
    ],
)
def test_an_option_s_type_is_that_of_one_value_and_whether_it_is_a_list(name: str, expected: Any) -> None:
    assert option_type(name) == expected


# option, its value on the command line, and what the refusal must say beside the flag
REFUSED = [
    ("samples", "8,,16", ["expected a whole number", "commas", "''", "'8,,16'"]),
    ("samples", "8,8", ["8 is given more than once"]),
    ("samples", "0", ["expected at least 1", "got 0"]),
    ("samples", "8;16", ["expected a whole number", "'8;16'"]),
    ("samples", "8.5", ["expected a whole number", "'8.5'"]),
    ("samples", "", ["expected a whole number", "''"]),
    ("num_updates", "0", ["expected at least 1", "got 0"]),
    ("num_updates", "1e3", ["expected a whole number", "'1e3'"]),
    ("sequence_length", "100,200", ["expected a whole number", "'100,200'"]),
    ("learning_rate", "0", ["expected more than 0", "got 0"]),
    ("learning_rate", "-1e-3", ["expected more than 0", "got -0.001"]),
    ("learning_rate", "nan", ["expected a finite number", "got nan"]),
    ("learning_rate", "1e400", ["expected a finite number", "got inf"]),
    ("learning_rate", "abc", ["expected a number", "'abc'"]),
    ("learning_rate", "1e-3,0.001", ["0.001 is given more than once"]),
    ("seeds", "-1", ["expected at least 0", "got -1"]),
    ("seeds", "0,4611686018427387905", ["at most 4611686018427387904", "got 4611686018427387905"]),
    ("num_workers", "0", ["expected at least 1", "got 0"]),
    ("zero_stage", "4", ["expected one of 0, 1, 2, 3", "got 4"]),
    ("zero_stage", "two", ["expected a whole number", "'two'"]),
    ("precision", "fp16", ["expected one of auto, bf16, fp32", "'fp16'", "did you mean"]),
    (
        "precision",
        "pure-bf16",
        ["expected one of auto, bf16, fp32", "'pure-bf16'", "do not move", "fp32 master weights"],
    ),
    ("scale", "labtop", ["expected one of ci, laptop, paper", "'labtop'", "did you mean 'laptop'?"]),
    ("export_dtype", "bf61", ["expected one of fp32, bf16", "did you mean 'bf16'?"]),
    ("eval_precision", "fp8", ["expected one of auto, fp32, bf16", "'fp8'"]),
    ("held_out_share", "0", ["expected more than 0", "got 0"]),
    ("held_out_share", "0.95", ["expected at most 0.9", "got 0.95"]),
    ("held_out_share", "a fifth", ["expected a number", "'a fifth'"]),
    ("context_length", "256", ["fewer tokens than --sequence-length 256", "got 256"]),
    ("sequence_length", "1", ["expected at least 2", "got 1"]),
    ("num_new_tokens", "0", ["expected at least 1", "got 0"]),
    ("trials_per_group", "-1", ["expected at least 0", "got -1"]),
    ("decodings", "greedy,greedy", ["greedy is given more than once"]),
]


@pytest.mark.parametrize(
    ("name", "text", "parts"), REFUSED, ids=[f"{name}={text}" for name, text, _ in REFUSED]
)
def test_an_impossible_value_is_refused_with_the_flag_the_value_and_what_is_valid(
    name: str, text: str, parts: list[str]
) -> None:
    with pytest.raises(RayfitError) as caught:
        Options(**{name: parse_value(name, text)})
    message = str(caught.value)
    assert message.startswith(flag(name) + ":")
    for part in parts:
        assert part in message


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(RayfitError, match="--samples: expected at least one value"):
        Options(samples=())


@given(st.lists(st.integers(1, 10**6), min_size=1, unique=True))
def test_a_list_is_read_with_or_without_spaces(values: list[int]) -> None:
    for comma in (",", ", "):
        assert parse_value("samples", comma.join(map(str, values))) == tuple(values)


@given(st.floats(min_value=1e-300, allow_infinity=False))
def test_a_number_is_read_back_as_it_was_written(value: float) -> None:
    assert parse_value("learning_rate", repr(value)) == (value,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("greedy,nucleus", ("greedy", "nucleus")),
        ("nucleus:top_k=9,temperature=0.5", ("nucleus:top_k=9,temperature=0.5",)),
        (
            "greedy, nucleus:top_k=9, block=W2 ,min_p:seed=3",
            ("greedy", "nucleus:top_k=9,block=W2", "min_p:seed=3"),
        ),
        ("greedy:block=W1,greedy", ("greedy:block=W1", "greedy")),
    ],
)
def test_a_decoding_s_own_commas_do_not_end_it(text: str, expected: tuple[str, ...]) -> None:
    assert parse_value("decodings", text) == expected

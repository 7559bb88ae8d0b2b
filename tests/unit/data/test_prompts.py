"""Prompts of one's own: their tokens, and the frame of them."""

from __future__ import annotations

import json

import pytest

from rayfit.data.prompts import prompt_ids, prompt_rows
from rayfit.data.rows import rows_fingerprint
from rayfit.errors import RayfitError


def _ids(*prompts: str, bos_id: int | None = 0, window: int | None = 10) -> list[list[int]]:
    return prompt_ids(
        prompts,
        lambda text: [ord(each) for each in text],
        bos_id=bos_id,
        window=window,
        num_new_tokens=4,
        model="tiny",
    )


def test_prompts_are_taken_whole_with_bos_where_there_is_one() -> None:
    assert _ids("ab", "c") == [[0, 97, 98], [0, 99]]
    assert _ids("ab", "c", bos_id=None) == [[97, 98], [99]]
    assert len(_ids("abcde")[0]) + 4 == 10
    assert len(_ids("a" * 50, window=None)[0]) == 51


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (
            ("a", "bcdefg"),
            "--prompts, prompt 2 of 2: its 7 tokens and 4 new ones are more than the context window of tiny, 10 tokens; "
            "at most --num-new-tokens 3 fits",
        ),
        (
            ("abcdefghi",),
            "--prompts: its 10 tokens fill the context window of tiny, 10 tokens; shorten it; 6 fit before 4 new ones",
        ),
        (("",), "--prompts: '' gives no token under the tokenizer of tiny"),
    ],
)
def test_a_prompt_that_does_not_fit(prompts: tuple[str, ...], message: str) -> None:
    with pytest.raises(RayfitError) as caught:
        _ids(*prompts)
    assert str(caught.value) == message


def test_rows_of_any_length_have_a_fingerprint() -> None:
    rows = prompt_rows(("ab", "c"), _ids("ab", "c"))
    assert rows["token_ids"].to_list() == [[0, 97, 98], [0, 99]] and rows["start"].to_list() == [1, 2]
    same = prompt_rows(("ab", "c"), [[0, 97, 98], [0, 99]])
    other = prompt_rows(("ab", "c"), [[0, 97, 98], [1, 99]])
    assert rows_fingerprint(rows) == rows_fingerprint(same) != rows_fingerprint(other)
    assert json.dumps(rows.to_dicts())  # plain values

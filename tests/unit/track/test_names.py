from __future__ import annotations

import pytest

from rayfit.track.content import valid_key
from rayfit.track.names import Names, short_names
from rayfit.track.parent import _totals


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["greedy"], ["greedy"]),
        (["greedy:num_new_tokens=96"], ["greedy"]),
        (
            ["greedy:num_new_tokens=96", "nucleus:top_p=0.8,num_new_tokens=96,block=W1"],
            ["greedy", "nucleus:top_p=0.8,block=W1"],
        ),
        (["greedy:block=W2,num_new_tokens=96"], ["greedy:block=W2"]),
        # two lengths in one sweep: the length is what tells them apart
        (["greedy", "greedy:num_new_tokens=224"], ["greedy", "greedy:num_new_tokens=224"]),
    ],
)
def test_short_names_of_decodings(names: list[str], short: list[str]) -> None:
    found = short_names({"evaluations": [{"decoding": name} for name in names]})
    assert list(found.values()) == short


def test_keys_hold_only_what_mlflow_allows() -> None:
    assert valid_key("nucleus:top_p=0.8,block=W1", "ttr_last_96") == "nucleus:top_p_0.8 block_W1/ttr_last_96"
    assert valid_key("matched(trial)", "entropy_nats") == "matched_trial_/entropy_nats"


def test_prompts_have_a_prefix_and_give_none_to_the_texts() -> None:
    entries = [{"decoding": "greedy", "domain": domain} for domain in ("news", "mine")]
    names = Names({"evaluations": entries, "prompts": {"name": "mine", "count": 3}})
    assert names.prefix("greedy", "news") == () and names.label("greedy", "news") == "greedy"
    assert names.prefix("greedy", "mine") == ("mine",) and names.label("greedy", "mine") == "greedy-mine"
    assert Names({"evaluations": entries}).prefix("greedy", "news") == ("news",)


def test_the_parent_s_totals_are_of_the_texts() -> None:
    def row(domain: str, ttr: float) -> dict[str, object]:
        return {"who": "original", "decoding": "greedy", "domain": domain, "ttr_last_96": ttr, "update": None}

    entries = [{"decoding": "greedy", "domain": domain} for domain in ("news", "mine")]
    sweep = {
        "evaluations": entries,
        "rows": [row("news", 0.2), row("mine", 0.9)],
        "prompts": {"name": "mine"},
    }
    found = {point.key: point.value for point in _totals(sweep, [], 0)}
    assert found["original/ttr_last_96"] == 0.2

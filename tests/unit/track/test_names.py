from __future__ import annotations

from pathlib import Path

import pytest

from rayfit.records.storage import Storage
from rayfit.track.content import valid_key
from rayfit.track.parent import totals_of_rows
from rayfit.track.scores import Names, short_names
from tests.unit.track.sweeps import run_of


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["greedy"], ["greedy"]),
        (["greedy:num_new_tokens=224"], ["greedy"]),
        (
            ["greedy:num_new_tokens=224", "nucleus:top_p=0.8,num_new_tokens=224,block=W1"],
            ["greedy", "nucleus:top_p=0.8,block=W1"],
        ),
        (["greedy:block=W2,num_new_tokens=96"], ["greedy:block=W2"]),
        # two lengths in one sweep: the length is what tells them apart
        (["greedy", "greedy:num_new_tokens=224"], ["greedy", "greedy:num_new_tokens=224"]),
    ],
)
def test_short_names_of_decodings(names: list[str], short: list[str]) -> None:
    assert list(short_names(names).values()) == short


def test_keys_hold_only_what_mlflow_allows() -> None:
    assert valid_key("nucleus:top_p=0.8,block=W1", "ttr_last_96") == "nucleus:top_p_0.8 block_W1/ttr_last_96"
    assert valid_key("matched(trial)", "entropy_nats") == "matched_trial_/entropy_nats"


def test_what_no_decoding_changes_has_the_domain_alone(storage: Storage) -> None:
    one = Names(run_of(storage, decodings=("greedy", "nucleus", "matched")).begun())
    assert one.prefix(None, "pydoc") == one.prefix("greedy", "pydoc") == ()
    assert one.prefix("nucleus", "pydoc") == ("nucleus",)
    assert one.prefix("matched", "pydoc", matched=True) == ("original_matched",)
    several = Names(
        run_of(storage, decodings=("greedy", "nucleus"), eval_datasets=("code", "docstrings")).begun()
    )
    assert several.prefix(None, "code") == several.prefix("greedy", "code") == ("code",)
    assert several.prefix("nucleus", "code") == ("nucleus", "code")


def test_prompts_have_a_prefix_and_give_none_to_the_texts(storage: Storage, tmp_path: Path) -> None:
    prompts = tmp_path / "mine.txt"
    prompts.write_text("one\ntwo\n")
    record = run_of(storage, samples=(8,), prompts=str(prompts)).begun()
    names = Names(record)
    assert names.prefix("greedy", "pydoc") == ()
    assert names.prefix("greedy", "mine") == ("mine",)
    labels = {(each.kind, each.who, each.domain): names.label(each) for each in record.measurements}
    assert labels["scores", "trained", "pydoc"] == "greedy"
    assert labels["scores", "trained", "mine"] == "greedy-mine"
    assert labels["predictions", "trained", "pydoc"] == "pydoc"
    assert labels["scores", "truth", "pydoc"] == "truth"


def test_the_totals_are_of_the_texts(storage: Storage, tmp_path: Path) -> None:
    prompts = tmp_path / "mine.txt"
    prompts.write_text("one\ntwo\n")
    made = run_of(storage, samples=(8,), prompts=str(prompts)).all()
    for spec in made.plan.measurements:
        if (spec.kind, spec.who, spec.planned.domain) == ("scores", "original", "mine"):
            made.measure(spec, ttr_last_96=0.9)
    record = made.record()
    assert {row.value("ttr_last_96") for row in record.rows if row.who == "original"} == {0.2, 0.9}
    found = totals_of_rows(Names(record), record.on_texts())
    assert found["original/ttr_last_96"] == 0.2

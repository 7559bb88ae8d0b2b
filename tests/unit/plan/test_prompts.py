"""Prompts of one's own in a plan: what they add to it, and what they leave as it was."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from rayfit.errors import RayfitError
from rayfit.plan.contexts import HeldOut, Prompts
from rayfit.plan.measurements import Generation
from rayfit.plan.plan import Plan
from rayfit.plan.show import render_plan
from rayfit.records.storage import Storage
from rayfit.sweep.tasks import trial_command
from tests.unit.plan.examples import plan_of

EVERYTHING = {
    "decodings": ("greedy", "nucleus:block=W1", "matched"),
    "further_contexts": 5,
    "keep_every": 25.0,
    "eval_datasets": ("docstrings", "code"),
}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def write(folder: Path, *prompts: str, name: str = "My prompts.txt") -> str:
    file = folder / name
    file.write_text("\n".join(prompts) + "\n", encoding="utf-8")
    return str(file)


def on_prompts(plan: Plan) -> list[Generation]:
    return [spec for spec in plan.generations() if isinstance(spec.contexts, Prompts)]


def ids_of(plan: Plan) -> list[str]:
    return [spec.id for spec in plan.measurements]


def test_originals_and_final_weights_continue_them_under_every_decoding(
    storage: Storage, tmp_path: Path
) -> None:
    plan = plan_of(storage, prompts=write(tmp_path, "one", "two"), **EVERYTHING)
    assert plan.prompts == Prompts(name="my-prompts", texts=("one", "two"))
    found = on_prompts(plan)
    names = [(spec.subject.trial is None, spec.how.name) for spec in found]
    blocked, plain = "nucleus:block=W1", "nucleus"
    assert names == [(True, "greedy"), (True, plain), (False, "greedy"), (False, blocked)]
    for spec in found:
        assert spec.subject.update is None and spec.contexts.name == "my-prompts"
    kinds = {spec.kind for spec in plan.measurements if isinstance(spec.contexts, Prompts)}
    assert kinds == {"generations", "scores"}
    # texts are compared with those of the original, which does not see the rows that a blocker would know
    assert [spec.baseline.id for spec in found[2:] if spec.baseline] == [spec.id for spec in found[:2]]


def test_everything_else_keeps_its_id(storage: Storage, tmp_path: Path) -> None:
    plan, other = (
        plan_of(storage, **EVERYTHING),
        plan_of(storage, prompts=write(tmp_path, "one"), **EVERYTHING),
    )
    kept = [spec.id for spec in other.measurements if isinstance(spec.contexts, HeldOut)]
    assert kept == ids_of(plan)
    assert other.trials == plan.trials
    assert other.sweep_id != plan.sweep_id


def test_a_sweep_has_its_rows_under_one_name(storage: Storage, tmp_path: Path) -> None:
    one, other = (plan_of(storage, prompts=write(tmp_path, "one", name=name)) for name in ("a.txt", "b.txt"))
    assert ids_of(one) == ids_of(other)
    assert one.sweep_id != other.sweep_id
    assert one.sweep_id == plan_of(storage, prompts=write(tmp_path, "one", name="a.md")).sweep_id


def test_ids_are_of_the_prompts_and_not_of_their_file(storage: Storage, tmp_path: Path) -> None:
    def ids(name: str, *prompts: str, **options: int) -> list[str]:
        plan = plan_of(storage, prompts=write(tmp_path, *prompts, name=name), **options)
        assert plan.prompts is not None
        return [
            plan.evaluation.rows_id(plan.prompts, plan.models[0]),
            *(spec.id for spec in on_prompts(plan)),
        ]

    first = ids("a.txt", "one", "two")
    assert ids("b.md", "one", "", "two") == first
    # neither how many contexts there are nor how long they are matters to prompts
    assert ids("a.txt", "one", "two", contexts=11, context_length=31, validation_rows=21) == first
    for changed in (("two", "one"), ("one", "two", "three"), ("one", "two ")):
        assert not set(ids("a.txt", *changed)) & set(first)
    assert not set(ids("a.txt", "one", "two", num_new_tokens=97)[1:]) & set(first[1:])
    assert (
        ids("a.txt", "one", "two", samples=9)[1] == first[1]
        and ids("a.txt", "one", "two", samples=9)[2] != first[2]
    )


@pytest.mark.parametrize("name", ["pydoc.txt", "pooled.txt", "PyDoc.jsonl"])
def test_a_name_that_tables_could_not_tell_apart(storage: Storage, tmp_path: Path, name: str) -> None:
    file = write(tmp_path, '{"text": "one"}', name=name)
    with pytest.raises(
        RayfitError, match=r"^--prompts: .* would be called \w+ in tables, as .* is; rename the file$"
    ):
        plan_of(storage, prompts=file)


def test_a_file_that_will_not_do_is_found_out_by_the_plan(storage: Storage, tmp_path: Path) -> None:
    for file in (str(tmp_path / "none.txt"), write(tmp_path, "")):
        with pytest.raises(RayfitError, match=r"^--prompts: "):
            plan_of(storage, prompts=file)


def test_the_plan_shows_them(storage: Storage, tmp_path: Path) -> None:
    file = write(tmp_path, "one", "two")
    plan = plan_of(storage, prompts=file)
    assert f"prompts: 2 of {file}, in rows on my-prompts; text scores only" in render_plan(plan, storage)
    assert "prompts" not in render_plan(plan_of(storage), storage)
    # the command that trains a trial again needs none
    assert "--prompts" not in shlex.split(trial_command("sweeps/data_quantity.py", plan, plan.trials[0]))

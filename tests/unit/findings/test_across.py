"""Pooled domains, paired differences and agreement, of sweeps whose texts are random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from rayfit.findings.across import agreement, differences, pooled_rows
from rayfit.findings.join import join
from rayfit.plan.measurements import Generation, Prediction, TextScores, scores_of
from rayfit.plan.plan import Plan
from rayfit.records.frames import prediction_texts, scored_texts
from rayfit.records.storage import Storage
from rayfit.records.sweep import Difference, Row
from rayfit.score.text import score_texts
from tests.finished import CONTEXTS, Finished
from tests.unit.plan.examples import plan_of

TOKENS, POSITIONS = 40, 9
DOMAINS = ("topics", "docstrings")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def _measured(storage: Storage, plan: Plan, waiting: tuple[str | None, str] | None = None) -> list[Row]:
    """The rows of a plan with random texts, scored by the product; `waiting`: a trial and a domain not measured."""
    made = Finished(storage, plan)
    for trial in plan.unique_trials:
        made.train(trial)
    for place, spec in enumerate(plan.measurements):
        own = None if spec.subject.trial is None else spec.subject.trial.id
        if (own, spec.contexts.name) != waiting:
            made.measure(spec, columns=_columns(storage, place, spec))
    return list(join(made.begun(), storage))


def _columns(storage: Storage, place: int, spec: Any) -> dict[str, Any]:
    draw = np.random.default_rng(place)
    if isinstance(spec, Generation):
        return {"token_ids": draw.integers(0, 5 + place, (CONTEXTS, TOKENS)).tolist()}
    if isinstance(spec, Prediction):
        return {"top_1": draw.integers(0, 3, (CONTEXTS, POSITIONS)).tolist()}
    if isinstance(spec, TextScores) and not spec.of_truth:
        record = storage.measurement("generations", spec.generation.id)
        assert record is not None
        texts = pl.read_parquet(storage.folder("generations", record.id) / record.files["texts"])
        scored = score_texts(texts)
        names = ("ttr_last_96", "rep_4", "self_bleu", "self_bleu_in_domain")
        return {name: scored[name].to_list() for name in names}
    return {}


def _texts(storage: Storage, row: Row) -> pl.DataFrame:
    found = scored_texts(storage, row.measurements["scores"])
    assert found is not None
    return found


@pytest.fixture
def rows(storage: Storage) -> list[Row]:
    """Truth, an original and two trials on two texts; the second trial waits for one of them."""
    plan = plan_of(storage, samples=(8, 32), eval_datasets=DOMAINS)
    return _measured(storage, plan, waiting=(plan.trials[1].id, DOMAINS[1]))


def test_a_pooled_row_is_the_score_of_all_texts_together(storage: Storage, rows: list[Row]) -> None:
    pooled = {(row.who, row.samples): row for row in pooled_rows(rows, storage)}
    assert set(pooled) == {("original", None), ("trained", 8), ("trained", 32)}
    first = pooled["trained", 8]
    parts = [_texts(storage, row) for row in rows if row.samples == 8]
    columns = ["context_id", "domain", "token_ids", "steps_banned", "steps_changed"]
    both = score_texts(pl.concat([part.select(columns) for part in parts]))
    assert first.domain == "pooled" and first.is_finished and first.measurements == {}
    assert first.value("ttr_last_96") == pytest.approx(both["ttr_last_96"].mean())
    assert first.value("self_bleu_max") == both["self_bleu"].max()
    assert first.value("self_bleu_max") >= max(part["self_bleu"].max() for part in parts)
    waiting = pooled["trained", 32]
    assert waiting.status == "PENDING" and waiting.value("ttr_last_96") is None


def test_a_pooled_row_keeps_what_is_known_of_its_weights_and_no_time(
    storage: Storage, rows: list[Row]
) -> None:
    first = next(row for row in pooled_rows(rows, storage) if row.samples == 8)
    assert (first.hyperfitted, first.train_text, first.updates) == (True, "pydoc", 100)
    assert (first.minutes, first.overhead_seconds) == (None, None)


def _told(found: list[Difference]) -> dict[tuple[str, str, str, str], Difference]:
    return {(one.a, one.b, one.domain, one.score): one for one in found}


def test_differences_are_of_the_same_contexts(storage: Storage, rows: list[Row]) -> None:
    told = _told(differences(rows, storage))
    assert {(a, b, domain) for a, b, domain, _ in told} == {
        ("8 sequences", "original model", "topics"),
        ("8 sequences", "original model", "docstrings"),
        ("32 sequences", "original model", "topics"),
        ("32 sequences", "8 sequences", "topics"),
    }
    few, many = (
        _texts(storage, row)["ttr_last_96"]
        for samples in (8, 32)
        for row in rows
        if (row.samples, row.domain) == (samples, "topics")
    )
    entry = told["32 sequences", "8 sequences", "topics", "ttr_last_96"].entry
    assert entry.value is not None and entry.low is not None and entry.high is not None
    assert entry.value == pytest.approx((many - few).mean()) and entry.low <= entry.value <= entry.high
    assert entry.count == CONTEXTS


def test_agreement_is_over_what_was_measured_on_the_same_texts(storage: Storage, rows: list[Row]) -> None:
    found = agreement(rows, storage)
    assert found is not None
    own = {(row.who, row.samples, row.domain): row for row in rows if row.who != "truth"}
    # The second trial has seen one text only and is left out.
    assert found.trials == (None, own["trained", 8, "topics"].trial_id)
    assert found.num_positions == 2 * CONTEXTS * POSITIONS

    def choices(who: str, samples: int | None, domain: str) -> np.ndarray:
        frame = prediction_texts(storage, own[who, samples, domain].measurements["predictions"])
        assert frame is not None
        return np.array(frame["top_1"].to_list())

    pairs = ((choices("original", None, domain), choices("trained", 8, domain)) for domain in DOMAINS)
    same = np.mean([one == other for one, other in pairs])
    assert found.matrix[0][1] == pytest.approx(same)
    assert agreement([row for row in rows if row.who != "trained"], storage) is None


def test_prompts_that_were_continued_under_another_file_s_name_are_the_same_contexts(
    storage: Storage, tmp_path: Path
) -> None:
    for name in ("mine", "renamed"):
        (tmp_path / f"{name}.txt").write_text("one\ntwo\n")
    first = plan_of(storage, prompts=str(tmp_path / "mine.txt"))
    _measured(storage, first)
    second = plan_of(storage, prompts=str(tmp_path / "renamed.txt"))
    assert {spec.id for spec in first.measurements} == {spec.id for spec in second.measurements}
    (again,) = (spec for spec in second.generations() if spec.trial and spec.contexts.name == "renamed")
    made = Finished(storage, second)
    made.measure(again)
    made.measure(scores_of(again))
    rows = list(join(made.begun(), storage))
    frames = [_texts(storage, row) for row in rows if row.domain == "renamed"]
    assert [set(frame["domain"]) for frame in frames] == [{"mine"}, {"renamed"}]
    assert {one.entry.count for one in differences(rows, storage) if one.domain == "renamed"} == {CONTEXTS}


def test_replicates_are_compared_seed_by_seed_and_never_with_each_other(storage: Storage) -> None:
    plan = plan_of(storage, samples=(8, 32, 64), seeds=(0, 1, 5))
    kept = [(8, 0), (8, 1), (32, 1), (32, 0), (64, 5)]
    own = {(row.samples, row.seed): row for row in _measured(storage, plan) if row.who == "trained"}
    found = differences([own[place] for place in kept], storage)
    of = {row.trial_id: place for place, row in own.items()}
    pairs = {(of[one.a_trial], of[one.b_trial]) for one in found}
    assert pairs == {((32, 1), (8, 1)), ((32, 0), (8, 0)), ((64, 5), (8, 0))}
    assert ("32 sequences, seed 1", "8 sequences, seed 1") in {(one.a, one.b) for one in found}


def test_nothing_is_compared_that_is_not_finished(storage: Storage, rows: list[Row]) -> None:
    failed = [msgspec.structs.replace(row, status="FAILED") for row in rows]
    assert differences(failed, storage) == [] and agreement(failed, storage) is None

"""The way from a file to spans on real prose, which is no part of the project."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rayfit.config import Options
from rayfit.data.documents import read_documents
from rayfit.data.selection import draw_held_out, draw_samples
from rayfit.data.spans import cut_spans
from rayfit.plan.plan import Plan
from rayfit.plan.planning import make_plan
from rayfit.records.storage import Storage
from tests.unit.plan.examples import SWEEP


@pytest.fixture(scope="module")
def plan(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    options = Options(
        model=str(shared / "models" / "stories260K"),
        dataset=str(shared / "data" / "fiction.parquet"),
        samples=(16, 128),
        num_updates=640,
        learning_rate=(2e-3,),
    )
    return make_plan(SWEEP, options, Storage(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def spans(plan: Plan) -> pl.DataFrame:
    length = plan.domains[0].settings.span_characters
    assert plan.domains[0].text.path is not None
    documents = read_documents(plan.domains[0].text.path, text_column="text", span_characters=length)
    assert len(documents) == 2682
    return cut_spans(
        documents, span_characters=length, held_out_share=plan.domains[0].settings.held_out_share
    )


def test_fiction_gives_the_spans_that_a_sweep_asks_for_by_default(plan: Plan, spans: pl.DataFrame) -> None:
    samples = draw_samples(spans, 128, 0)
    contexts, validation = draw_held_out(
        spans, num_contexts=plan.evaluation.num_contexts, num_validation=plan.evaluation.num_validation
    )
    assert set(samples["document"]).isdisjoint([*contexts["document"], *validation["document"]])


def test_few_held_out_spans_of_fiction_repeat_training_text(spans: pl.DataFrame) -> None:
    dropped = spans.filter(pl.col("split") == "near_duplicate").height
    assert dropped <= 0.05 * spans.filter(pl.col("split") != "train").height


@pytest.mark.parametrize("domain", ["wikipedia", "speeches"])
def test_the_other_domains_give_an_evaluation_by_default(shared: Path, plan: Plan, domain: str) -> None:
    settings = plan.domains[0].settings
    documents = read_documents(
        shared / "data" / f"{domain}.parquet", text_column="text", span_characters=settings.span_characters
    )
    spans = cut_spans(
        documents, span_characters=settings.span_characters, held_out_share=settings.held_out_share
    )
    held_out = draw_held_out(
        spans, num_contexts=plan.evaluation.num_contexts, num_validation=plan.evaluation.num_validation
    )
    assert [len(frame) for frame in held_out] == [100, 64]
    assert draw_samples(spans, 512, 0).height == 512

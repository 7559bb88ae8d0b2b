"""Pooled domains, paired differences and agreement, from records of random texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rayfit.report.rows import Row
from rayfit.report.together import agreement, differences, pooled_rows

from rayfit.columns import columns_of_rows
from rayfit.records.storage import Storage, write_parquet
from rayfit.score.text import score_texts

TEXTS, TOKENS, POSITIONS = 6, 40, 9


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def _row(
    storage: Storage, place: int, who: str, domain: str, trial: str | None = None, **changes: Any
) -> Row:
    """A finished row whose evaluation and predictions lie in the storage."""
    draw = np.random.default_rng(place)
    texts = draw.integers(0, 5 + 5 * place, (TEXTS, TOKENS)).tolist()
    frame = pl.DataFrame(
        {
            "context_id": [f"{domain}{text}" for text in range(TEXTS)],
            "domain": [domain] * TEXTS,
            "token_ids": pl.Series(texts, dtype=pl.List(pl.Int32)),
            "steps_banned": pl.Series([None] * TEXTS, dtype=pl.Int32),
            "steps_changed": pl.Series([None] * TEXTS, dtype=pl.Int32),
        }
    )
    identifier = f"e{place}"
    write_parquet(storage.folder("evaluations", identifier) / "g.parquet", score_texts(frame))
    storage.write("evaluations", identifier, {"generations": "g.parquet"})
    write_parquet(storage.folder("predictions", identifier) / "t.parquet", _predictions(draw))
    storage.write("predictions", identifier, {"texts": "t.parquet"})
    known = {
        "who": who,
        "model": "tiny",
        "trial_id": trial,
        "decoding": "greedy",
        "baseline_decoding": "greedy",
        "domain": domain,
        "status": "FINISHED",
        "evaluation_id": identifier,
        "predictions_id": identifier,
        "samples": None if trial is None else 8 * place,
        "seed": None if trial is None else 0,
        "intervals": {},
    }
    return {**dict.fromkeys(columns_of_rows()), **known, **changes}


def _predictions(draw: np.random.Generator) -> pl.DataFrame:
    from rayfit.score.predictions import MEANS

    numbers = {name: draw.random(TEXTS) for name in (*MEANS, "nll_nats", "nll_context_nats")}
    bins = ("calibration_positions", "calibration_confidence", "calibration_correct")
    return pl.DataFrame(
        {
            **numbers,
            "num_positions": [POSITIONS] * TEXTS,
            "top_1": pl.Series(draw.integers(0, 3, (TEXTS, POSITIONS)).tolist(), dtype=pl.List(pl.Int32)),
            **{name: pl.Series([[1.0] * 15] * TEXTS) for name in bins},
        }
    )


@pytest.fixture
def rows(storage: Storage) -> list[Row]:
    """An original and two trials on two texts; the second trial waits for one of them."""
    made = [
        _row(storage, place, who, domain, trial)
        for place, (who, domain, trial) in enumerate(
            [
                ("original", "a", None),
                ("original", "b", None),
                ("trained", "a", "first"),
                ("trained", "b", "first"),
                ("trained", "a", "second"),
                ("trained", "b", "second"),
            ]
        )
    ]
    for row in made:
        if row["trial_id"] is not None:
            row["samples"] = {"first": 8, "second": 32}[row["trial_id"]]
    made[-1] |= {"status": "PENDING", "evaluation_id": None, "predictions_id": None}
    return made


def _frame(storage: Storage, place: int) -> pl.DataFrame:
    return pl.read_parquet(storage.folder("evaluations", f"e{place}") / "g.parquet")


def test_a_pooled_row_is_the_score_of_all_texts_together(storage: Storage, rows: list[Row]) -> None:
    pooled = {(row["who"], row["trial_id"]): row for row in pooled_rows(rows, storage)}
    assert set(pooled) == {("original", None), ("trained", "first"), ("trained", "second")}
    first = pooled["trained", "first"]
    columns = ["context_id", "domain", "token_ids", "steps_banned", "steps_changed"]
    both = score_texts(pl.concat([_frame(storage, place).select(columns) for place in (2, 3)]))
    assert first["domain"] == "pooled" and first["samples"] == 8
    assert first["ttr_last_96"] == pytest.approx(both["ttr_last_96"].mean())
    assert first["self_bleu_max"] == both["self_bleu"].max()
    assert first["self_bleu_max"] >= max(_frame(storage, place)["self_bleu"].max() for place in (2, 3))
    waiting = pooled["trained", "second"]
    assert waiting["status"] == "PENDING" and waiting["ttr_last_96"] is None


def test_differences_are_of_the_same_contexts(storage: Storage, rows: list[Row]) -> None:
    found = differences(rows, storage)
    told = {(one["a"], one["b"], one["domain"], one["score"]): one for one in found}
    names = {(a, b, domain) for a, b, domain, _ in told}
    assert names == {
        ("8 sequences", "original model", "a"),
        ("8 sequences", "original model", "b"),
        ("32 sequences", "original model", "a"),
        ("32 sequences", "8 sequences", "a"),
    }
    one = told["32 sequences", "8 sequences", "a", "ttr_last_96"]
    expected = (_frame(storage, 4)["ttr_last_96"] - _frame(storage, 2)["ttr_last_96"]).mean()
    assert one["value"] == pytest.approx(expected) and one["low"] <= one["value"] <= one["high"]
    assert one["count"] == TEXTS


def test_agreement_is_over_what_was_measured_on_the_same_texts(storage: Storage, rows: list[Row]) -> None:
    found = agreement(rows, storage)
    assert found is not None
    # The second trial has seen one text only and is left out.
    assert found["trials"] == [None, "first"]
    assert found["num_positions"] == 2 * TEXTS * POSITIONS
    choices = [
        np.array(pl.read_parquet(storage.folder("predictions", f"e{place}") / "t.parquet")["top_1"].to_list())
        for place in range(4)
    ]
    same = np.mean([choices[0] == choices[2], choices[1] == choices[3]])
    assert found["matrix"][0][1] == pytest.approx(same)
    assert agreement(rows[:2], storage) is None


def test_prompts_evaluated_under_another_file_s_name_are_the_same_contexts(
    storage: Storage, rows: list[Row]
) -> None:
    original, trial = rows[0], rows[2]
    renamed = [{**row, "domain": "renamed"} for row in (original, trial)]
    frame = _frame(storage, 2).with_columns(domain=pl.lit("renamed"))
    write_parquet(storage.folder("evaluations", "e2") / "g.parquet", frame)
    assert {one["count"] for one in differences(renamed, storage)} == {TEXTS}


def test_replicates_are_compared_seed_by_seed_and_never_with_each_other(storage: Storage) -> None:
    trials = [("first", 8, 0), ("first", 8, 1), ("second", 32, 1), ("second", 32, 0), ("alone", 64, 5)]
    rows = []
    for place, (name, samples, seed) in enumerate(trials):
        row = _row(storage, place, "trained", "a", f"{name}-{seed}")
        rows.append(row | {"samples": samples, "seed": seed, "order_seed": seed})
    found = {(one["a_trial"], one["b_trial"]) for one in differences(rows, storage)}
    assert found == {("second-1", "first-1"), ("second-0", "first-0"), ("alone-5", "first-0")}
    assert {(one["a"], one["b"]) for one in differences(rows, storage)} >= {
        ("32 sequences, seed 1", "8 sequences, seed 1")
    }

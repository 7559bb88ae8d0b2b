"""Every sweep of the project at scale ci, in one storage: what they share is trained once, and each has its report."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rayfit.prepare.facts import KNOWN_FACTS
from rayfit.records.frames import scored_texts
from rayfit.records.storage import Storage
from rayfit.records.sweep import SweepRecord
from tests.conftest import with_the_model
from tests.launching import ROOT, launch

pytestmark = pytest.mark.integration

# Few texts: what is tried here is that everything runs and is recorded. The effect itself is the smoke test's.
FEW = (
    *("--scale", "ci", "--contexts", "16", "--validation-rows", "8"),
    *("--num-new-tokens", "48", "--eval-every", "48"),
)
SHORT = ("--num-updates", "96")
# Of different lengths, so that they are padded in their batch.
PROMPTS = (
    "import os",
    "Return the number of characters in the string, counted from its end, and raise",
    "The list",
)
Sweeps = dict[str, SweepRecord]
KINDS = (
    "training_curve",
    "data_quantity",
    "decoding",
    "shuffle_seed",
    "recipe",
    "instruct",
    "model_size",
    "data_type",
)


@pytest.fixture(scope="module")
def finished(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sweeps, dict[str, str]]:
    """A storage in which all of them ran: its root, the sweeps' records by kind, and what they printed."""
    root = with_the_model(made, tmp_path_factory.mktemp("all"), "texts", KNOWN_FACTS)
    prompts = tmp_path_factory.mktemp("prompts") / "own.txt"
    prompts.write_text("\n".join(PROMPTS))
    more: dict[str, tuple[object, ...]] = {
        kind: SHORT for kind in KINDS if kind != "recipe"
    }  # it varies the updates
    more["decoding"] += ("--prompts", prompts)
    more["training_curve"] += ("--keep-every", "6")
    printed = {
        kind: launch(
            *(*FEW, "--storage", root, *more.get(kind, ())),
            script=ROOT / "sweeps" / f"{kind}.py",
        )
        for kind in KINDS
    }
    storage = Storage(root)
    records = (storage.sweep(identifier) for identifier in storage.ids("sweeps"))
    return root, {record.sweep_kind: record for record in records if record}, printed


def _weights(storage: Storage, trial_id: str) -> str:
    record = storage.trial(trial_id)
    assert record is not None
    return record.weights_sha256


def test_all_of_them_ran_whole(finished: tuple[Path, Sweeps, dict[str, str]]) -> None:
    root, records, _ = finished
    assert sorted(records) == sorted(KINDS)
    for kind, record in records.items():
        assert {row.status for row in record.rows} == {"FINISHED"}, kind
        assert record.scale == "ci"
        folder = root / "sweeps" / record.id
        for name in (
            "report.html",
            "results.parquet",
            "results.csv",
            "summary.json",
            "table.txt",
            "plot.png",
        ):
            assert (folder / name).stat().st_size > 0, (kind, name)


def test_a_trial_that_several_of_them_want_is_trained_once(
    finished: tuple[Path, Sweeps, dict[str, str]],
) -> None:
    _, records, printed = finished
    shared = records["training_curve"].trials[0]
    wanting = [kind for kind in KINDS if shared in records[kind].trials]
    assert {"training_curve", "data_quantity", "decoding", "shuffle_seed", "instruct", "model_size"} <= set(
        wanting
    )
    for kind in wanting[1:]:
        total = len(records[kind].trials)
        assert f"{total} trials: reused " in printed[kind] and "reused 0" not in printed[kind]
        assert shared in records[kind].first_trained_by


def test_the_curve_has_the_weights_along_training(
    finished: tuple[Path, Sweeps, dict[str, str]],
) -> None:
    _, records, _ = finished
    rows = [row for row in records["training_curve"].rows if row.who == "trained"]
    assert [row.update for row in rows] == [24, 48, 72, None]
    assert [row.updates for row in rows] == [24, 48, 72, 96]
    early = [row for row in rows if row.early_stopped]
    kept = [row.value("validation_loss") for row in rows[:-1]]
    assert [row.value("validation_loss") for row in early] == [min(kept)]


def test_the_order_decides_and_a_rerun_does_not(
    finished: tuple[Path, Sweeps, dict[str, str]],
) -> None:
    root, records, printed = finished
    found = records["shuffle_seed"].agreement
    assert found is not None
    labels, matrix = found.labels, found.matrix
    assert labels[0] == "original model" and len(labels) == 6
    first, again = (place for place, name in enumerate(labels) if "order" in name)
    assert matrix[first][again] == 1.0, "on CPUs the same training gives the same bits"
    others = [matrix[first][place] for place in range(len(labels)) if place not in (first, again)]
    assert all(0 < share < 1 for share in others)
    assert "change places; in" in printed["shuffle_seed"]
    storage = Storage(root)
    digests = {
        name: {_weights(storage, trial) for trial in trials}
        for name, trials in records["shuffle_seed"].arms.items()
    }
    assert digests["first order"] == digests["same order again"]
    assert len(set(map(frozenset, digests.values()))) == 4


def test_adapters_are_compared_at_equal_updates_and_equal_loss(
    finished: tuple[Path, Sweeps, dict[str, str]],
) -> None:
    _, records, _ = finished
    rows = {
        row.arm: row for row in records["recipe"].rows if row.who == "trained" and row.arm != "all weights"
    }
    assert rows["LoRA in last blocks"].trainable_parameters < rows["LoRA"].trainable_parameters < 529_056
    full = rows["all weights to equal loss"]
    assert full.trainable_parameters == 529_056
    assert full.value("train_loss") <= full.stop_at_train_loss + 0.01 and full.updates < 48


def test_the_matched_temperature_gives_the_trial_s_entropy(
    finished: tuple[Path, Sweeps, dict[str, str]],
) -> None:
    root, records, _ = finished
    rows = records["decoding"].rows
    (matched,) = (row for row in rows if row.decoding == "matched:num_new_tokens=48")
    original = next(row for row in rows if row.who == "original")
    trial = next(row for row in rows if row.who == "trained")
    assert matched.who == "original" and matched.trial_id == trial.trial_id
    assert 0 < matched.value("matched_temperature") == trial.value("matched_temperature") < 1
    assert trial.value("entropy_nats") < original.value("entropy_nats")
    entropy = _entropy_of_the_original(root, records["decoding"], matched.value("matched_temperature"))
    assert entropy == pytest.approx(trial.value("entropy_nats"), abs=2e-3)


def _entropy_of_the_original(root: Path, record: SweepRecord, temperature: float) -> float:
    """Mean entropy in nats over the sweep's texts, with transformers and torch alone."""
    import torch
    from transformers import AutoModelForCausalLM

    (held_out,) = (name for name in record.uses.rows if "-held-out-" in name)
    texts = pl.read_parquet(root / "rows" / held_out / "contexts.parquet")["token_ids"].to_list()
    model = AutoModelForCausalLM.from_pretrained(root / "models" / record.uses.models[0])
    with torch.no_grad():
        logits = model(torch.tensor(texts)).logits[:, :-1].double() / temperature
    chances = logits.log_softmax(-1)
    return float(-(chances.exp() * chances).sum(-1).mean())


def test_several_domains_have_a_pooled_row(finished: tuple[Path, Sweeps, dict[str, str]]) -> None:
    _, records, _ = finished
    rows = [row for row in records["data_type"].rows if row.who == "trained"]
    cells = {(row.train_text, row.domain) for row in rows}
    assert cells == {(text, on) for text in ("docstrings", "code") for on in ("docstrings", "code", "pooled")}
    for text in ("docstrings", "code"):
        own = {row.domain: row for row in rows if row.train_text == text}
        mean = (own["docstrings"].value("ttr_last_96") + own["code"].value("ttr_last_96")) / 2
        assert own["pooled"].value("ttr_last_96") == pytest.approx(mean)
        assert own["pooled"].value("self_bleu_max") >= max(
            own[on].value("self_bleu_max") for on in ("docstrings", "code")
        )


def test_the_blocked_text_cites_less(finished: tuple[Path, Sweeps, dict[str, str]]) -> None:
    _, records, _ = finished
    rows = [row for row in records["model_size"].rows if row.who == "trained"]
    blocked = next(row for row in rows if "block" in row.decoding)
    plain = next(row for row in rows if row.decoding == blocked.baseline_decoding)
    assert blocked.value("longest_overlap_mean") < plain.value("longest_overlap_mean")


def test_prompts_of_one_s_own_are_continued_and_scored(
    finished: tuple[Path, Sweeps, dict[str, str]],
) -> None:
    root, records, printed = finished
    record = records["decoding"]
    rows = [row for row in record.rows if row.domain == "own"]
    kinds = [(row.who, row.decoding.partition(":")[0]) for row in rows]
    assert kinds == [(who, kind) for who in ("original", "trained") for kind in ("greedy", "nucleus")]
    for row in rows:
        assert (
            0 < row.value("ttr_last_96") <= 1
            and row.value("rep_4") is not None
            and row.value("self_bleu_mean") is not None
        )
        assert (
            row.value("validation_loss") is None
            and row.value("entropy_nats") is None
            and row.value("train_loss") is None
        )
        assert "prompts have no true text" in row.reason
        own = row.who == "trained"
        assert (
            (row.value("longest_overlap_mean") is not None)
            is (row.value("dataset_bleu_mean") is not None)
            is own
        )
        frame = scored_texts(Storage(root), row.measurements["scores"])
        assert frame is not None
        assert frame["context"].to_list() == list(PROMPTS) and frame["truth"].null_count() == 3
        assert frame["token_ids"].list.len().to_list() == [48] * 3
    assert "16 contexts per row; in rows on own 3 prompts" in printed["decoding"]
    assert "pydoc-0.5m on own" in (root / "sweeps" / record.id / "report.html").read_text()

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rayfit.errors import TrialError
from rayfit.records.storage import Storage
from rayfit.records.trials import (
    checkpoint_product,
    curve_product,
    failed_ids,
    is_hyperfitted,
    kept_product,
    kept_updates,
    loss_floor,
    new_attempt,
    product_path,
    publish_trial,
    read_failure,
    write_failure,
)

ID = "tiny-n8-0123456789ab"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def _train(
    storage: Storage,
    *products: str,
    weights: str = "aa",
    fresh: bool = False,
    same_bits: bool = True,
    kept: Sequence[int] = (),
) -> dict[str, Any]:
    """One attempt that made these products, each a file that says which weights it is of."""
    attempt = new_attempt(storage, ID, "launch")
    for name in products:
        (attempt / name).write_text(weights)
    record = {
        "id": ID,
        "products": {name: name for name in products},
        "weights_sha256": weights,
        "kept": {str(update): {"point": update} for update in kept},
        "versions": {"torch": "2.13"},
    }
    return publish_trial(storage, record, attempt=attempt, fresh=fresh, same_bits=same_bits)


def _attempts(storage: Storage) -> list[str]:
    return sorted(path.name for path in storage.folder("trials", ID).glob("attempt-*"))


def _content(storage: Storage, name: str) -> str:
    record = storage.read("trials", ID)
    assert record is not None
    return product_path(storage, record, name).read_text()


def test_an_attempt_counts_once_it_is_published(storage: Storage) -> None:
    attempt = new_attempt(storage, ID, "launch")
    assert attempt.is_dir() and storage.read("trials", ID) is None
    assert new_attempt(storage, ID, "launch") != attempt
    record = _train(storage, "checkpoint")
    assert record == storage.read("trials", ID)
    assert record["edition"] == 1
    assert _content(storage, "checkpoint") == "aa"
    assert len(_attempts(storage)) == 1  # what earlier attempts left is gone


def test_trained_again_for_a_product_it_lacked_it_keeps_the_others(storage: Storage) -> None:
    _train(storage, "checkpoint", "curve-1")
    record = _train(storage, "checkpoint", "curve-2")
    assert sorted(record["products"]) == ["checkpoint", "curve-1", "curve-2"]
    assert [_content(storage, name) for name in record["products"]] == ["aa"] * 3
    assert record["edition"] == 1
    assert len(_attempts(storage)) == 2
    # The first attempt stays only as long as something of it counts.
    record = _train(storage, "checkpoint", "curve-1", "curve-2")
    assert len(_attempts(storage)) == 1


def test_other_weights_where_bits_must_be_the_same_leave_the_old_record(storage: Storage) -> None:
    before = _train(storage, "checkpoint", "curve-1")
    with pytest.raises(TrialError) as caught:
        _train(storage, "checkpoint", "curve-2", weights="bb")
    for part in ("other weights", "2.13", "--fresh"):
        assert part in str(caught.value)
    assert storage.read("trials", ID) == before
    assert _content(storage, "checkpoint") == "aa" and len(_attempts(storage)) == 1


def test_other_weights_elsewhere_replace_everything_and_are_noted(storage: Storage) -> None:
    _train(storage, "checkpoint", "curve-1", same_bits=False)
    record = _train(storage, "checkpoint", "curve-2", weights="bb", same_bits=False)
    assert record["weights_differ_from"] == "aa" and record["weights_sha256"] == "bb"
    # A curve of the old weights beside a checkpoint of the new ones would be a lie.
    assert sorted(record["products"]) == ["checkpoint", "curve-2"]
    assert len(_attempts(storage)) == 1


def test_fresh_raises_the_edition_and_replaces_everything(storage: Storage) -> None:
    _train(storage, "checkpoint", "curve-1")
    record = _train(storage, "checkpoint", weights="bb", fresh=True)
    assert (record["edition"], record["weights_sha256"], list(record["products"])) == (
        2,
        "bb",
        ["checkpoint"],
    )
    assert len(_attempts(storage)) == 1
    assert _train(storage, "checkpoint", weights="bb", fresh=True)["edition"] == 3
    assert _train(storage, "curve-1", weights="bb")["edition"] == 3


def test_fresh_without_a_record_is_the_first_edition(storage: Storage) -> None:
    assert _train(storage, "checkpoint", fresh=True)["edition"] == 1


def test_while_a_trial_is_trained_anew_the_old_record_stands(storage: Storage) -> None:
    before = _train(storage, "checkpoint")
    new_attempt(storage, ID, "launch")
    assert storage.read("trials", ID) == before and _content(storage, "checkpoint") == "aa"


def test_a_failure_is_kept_until_the_trial_is_published(storage: Storage) -> None:
    write_failure(storage, ID, {"error": "the loss is nan"})
    assert storage.read("trials", ID) is None and storage.ids("trials") == []
    assert read_failure(storage, ID) == {"id": ID, "error": "the loss is nan"}
    assert failed_ids(storage) == [ID]
    _train(storage, "checkpoint")
    assert read_failure(storage, ID) is None and failed_ids(storage) == []


def test_a_failure_leaves_a_finished_record_as_it_is(storage: Storage) -> None:
    before = _train(storage, "checkpoint")
    write_failure(storage, ID, {"error": "the loss is nan"})
    assert storage.read("trials", ID) == before
    assert failed_ids(storage) == []


def test_products_of_other_settings_have_other_names() -> None:
    names = {checkpoint_product("fp32"), checkpoint_product("bf16")}
    names |= {curve_product(every, rows) for every in (1, 11, 111) for rows in (1, 11, 111)}
    names |= {kept_product(update, dtype) for update in (1, 11, 111) for dtype in ("fp32", "bf16")}
    assert len(names) == 2 + 9 + 6


def test_weights_kept_along_the_way_stay_when_others_are_asked_for(storage: Storage) -> None:
    assert kept_updates(None) == []
    _train(storage, "checkpoint", kept_product(20, "fp32"), kept=[20])
    assert kept_updates(storage.read("trials", ID)) == [20]
    record = _train(storage, "checkpoint", kept_product(5, "bf16"), kept_product(5, "fp32"), kept=[5])
    assert kept_updates(record) == [5, 20]
    assert record["kept"] == {"5": {"point": 5}, "20": {"point": 20}}
    assert _content(storage, kept_product(20, "fp32")) == "aa"
    record = _train(storage, "checkpoint", kept_product(5, "fp32"), kept=[5], fresh=True)
    assert kept_updates(record) == [5] and list(record["kept"]) == ["5"]


def test_the_floor_is_what_a_perfect_memory_of_distinct_rows_costs() -> None:
    # 4 rows that share nothing: at the first target each is a guess among 4, then all is known.
    nats = [math.log(4), 0.0, 0.0, 0.0]
    assert loss_floor(4, 5) == pytest.approx(sum(nats) / 4)
    assert loss_floor(1, 256) == 0
    assert loss_floor(128, 256) == pytest.approx(0.01903, abs=1e-5)


def test_hyperfitted_is_at_most_a_tenth_of_a_nat_above_the_floor() -> None:
    assert is_hyperfitted(0.125, 0.025) and not is_hyperfitted(0.126, 0.025)
    assert not is_hyperfitted(math.nan, 0.025)

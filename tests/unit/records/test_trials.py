from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from rayfit.errors import TrialError
from rayfit.records.storage import Storage
from rayfit.records.trial import (
    Kept,
    Product,
    TrialFailure,
    TrialRecord,
    checkpoint,
    curve,
    is_hyperfitted,
    loss_floor,
    weights,
)
from rayfit.records.trials import (
    failed_ids,
    new_attempt,
    product_path,
    publish_trial,
    read_failure,
    write_failure,
)
from tests.finished import Finished
from tests.unit.plan.examples import plan_of

CHECKPOINT = checkpoint("fp32")
CURVES = {every: curve(every, 20) for every in (1, 2)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> TrialRecord:
    """A record as the product makes it, in another storage."""
    storage = Storage(tmp_path_factory.mktemp("made") / "runs")
    plan = plan_of(storage)
    return Finished(storage, plan).train(plan.trials[0])


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


class Training:
    """Attempts at one trial, each with the products that it is asked for: files that say which weights they are of."""

    def __init__(self, storage: Storage, made: TrialRecord) -> None:
        self.storage, self.id, self._made = storage, made.id, made

    def __call__(
        self,
        *products: Product,
        weights: str = "aa",
        fresh: bool = False,
        same_bits: bool = True,
        kept: Sequence[int] = (),
    ) -> TrialRecord:
        attempt = new_attempt(self.storage, self.id, "launch")
        for product in products:
            (attempt / product.name).write_text(weights)
        point = self._made.final
        record = msgspec.structs.replace(
            self._made,
            products=tuple(
                msgspec.structs.replace(product, path=f"{attempt.name}/{product.name}")
                for product in products
            ),
            weights_sha256=weights,
            kept={
                str(update): Kept(weights_sha256="kk", point=msgspec.structs.replace(point, update=update))
                for update in kept
            },
        )
        return publish_trial(self.storage, record, attempt=attempt, fresh=fresh, same_bits=same_bits)

    def attempts(self) -> list[str]:
        return sorted(path.name for path in self.storage.folder("trials", self.id).glob("attempt-*"))

    def content(self, product: Product) -> str:
        record = self.storage.trial(self.id)
        assert record is not None
        found = record.product(product.name)
        assert found is not None
        return product_path(self.storage, record, found).read_text()

    def names(self) -> list[str]:
        record = self.storage.trial(self.id)
        assert record is not None
        return sorted(product.name for product in record.products)

    def fail(self) -> TrialFailure:
        failure = TrialFailure(
            id=self.id, error="the loss is nan", failed_at="2026-01-01", readable="r", declared=None
        )
        write_failure(self.storage, failure)
        return failure


@pytest.fixture
def train(storage: Storage, made: TrialRecord) -> Training:
    return Training(storage, made)


def test_an_attempt_counts_once_it_is_published(storage: Storage, train: Training) -> None:
    attempt = new_attempt(storage, train.id, "launch")
    assert attempt.is_dir() and storage.trial(train.id) is None
    assert new_attempt(storage, train.id, "launch") != attempt
    record = train(CHECKPOINT)
    assert record == storage.trial(train.id)
    assert record.edition == 1
    assert train.content(CHECKPOINT) == "aa"
    assert len(train.attempts()) == 1  # what earlier attempts left is gone


def test_trained_again_for_a_product_it_lacked_it_keeps_the_others(train: Training) -> None:
    train(CHECKPOINT, CURVES[1])
    record = train(CHECKPOINT, CURVES[2])
    assert train.names() == sorted(each.name for each in (CHECKPOINT, *CURVES.values()))
    assert [train.content(product) for product in record.products] == ["aa"] * 3
    assert record.edition == 1
    assert len(train.attempts()) == 2
    # The first attempt stays only as long as something of it counts.
    train(CHECKPOINT, *CURVES.values())
    assert len(train.attempts()) == 1


def test_other_weights_where_bits_must_be_the_same_leave_the_old_record(
    storage: Storage, train: Training
) -> None:
    before = train(CHECKPOINT, CURVES[1])
    with pytest.raises(TrialError) as caught:
        train(CHECKPOINT, CURVES[2], weights="bb")
    for part in ("other weights", before.versions["torch"], "--fresh"):
        assert part in str(caught.value)
    assert storage.trial(train.id) == before
    assert train.content(CHECKPOINT) == "aa" and len(train.attempts()) == 1


def test_other_weights_elsewhere_replace_everything_and_are_noted(train: Training) -> None:
    train(CHECKPOINT, CURVES[1], same_bits=False)
    record = train(CHECKPOINT, CURVES[2], weights="bb", same_bits=False)
    assert record.weights_differ_from == "aa" and record.weights_sha256 == "bb"
    # A curve of the old weights beside a checkpoint of the new ones would be a lie.
    assert train.names() == sorted(each.name for each in (CHECKPOINT, CURVES[2]))
    assert len(train.attempts()) == 1


def test_fresh_raises_the_edition_and_replaces_everything(train: Training) -> None:
    train(CHECKPOINT, CURVES[1])
    record = train(CHECKPOINT, weights="bb", fresh=True)
    assert (record.edition, record.weights_sha256, train.names()) == (2, "bb", [CHECKPOINT.name])
    assert len(train.attempts()) == 1
    assert train(CHECKPOINT, weights="bb", fresh=True).edition == 3
    assert train(CURVES[1], weights="bb").edition == 3


def test_fresh_without_a_record_is_the_first_edition(train: Training) -> None:
    assert train(CHECKPOINT, fresh=True).edition == 1


def test_while_a_trial_is_trained_anew_the_old_record_stands(storage: Storage, train: Training) -> None:
    before = train(CHECKPOINT)
    new_attempt(storage, train.id, "launch")
    assert storage.trial(train.id) == before and train.content(CHECKPOINT) == "aa"


def test_a_failure_is_kept_until_the_trial_is_published(storage: Storage, train: Training) -> None:
    failure = train.fail()
    assert storage.trial(train.id) is None and storage.ids("trials") == []
    assert read_failure(storage, train.id) == failure
    assert failed_ids(storage) == [train.id]
    train(CHECKPOINT)
    assert read_failure(storage, train.id) is None and failed_ids(storage) == []


def test_a_failure_leaves_a_finished_record_as_it_is(storage: Storage, train: Training) -> None:
    before = train(CHECKPOINT)
    train.fail()
    assert storage.trial(train.id) == before
    assert failed_ids(storage) == []


def test_products_of_other_settings_have_other_names() -> None:
    names = {checkpoint("fp32").name, checkpoint("bf16").name}
    names |= {curve(every, rows).name for every in (1, 11, 111) for rows in (1, 11, 111)}
    names |= {weights(update, dtype).name for update in (1, 11, 111) for dtype in ("fp32", "bf16")}
    assert len(names) == 2 + 9 + 6


def test_weights_kept_along_the_way_stay_when_others_are_asked_for(train: Training) -> None:
    assert train(CHECKPOINT, weights(20, "fp32"), kept=[20]).kept_updates == [20]
    record = train(CHECKPOINT, weights(5, "bf16"), weights(5, "fp32"), kept=[5])
    assert record.kept_updates == [5, 20]
    assert {update: kept.point.update for update, kept in record.kept.items()} == {"5": 5, "20": 20}
    assert train.content(weights(20, "fp32")) == "aa"
    record = train(CHECKPOINT, weights(5, "fp32"), kept=[5], fresh=True)
    assert record.kept_updates == [5] and list(record.kept) == ["5"]


def test_the_floor_is_what_a_perfect_memory_of_distinct_rows_costs() -> None:
    # 4 rows that share nothing: at the first target each is a guess among 4, then all is known.
    nats = [math.log(4), 0.0, 0.0, 0.0]
    assert loss_floor(4, 5) == pytest.approx(sum(nats) / 4)
    assert loss_floor(1, 256) == 0
    assert loss_floor(128, 256) == pytest.approx(0.01903, abs=1e-5)


def test_hyperfitted_is_at_most_a_tenth_of_a_nat_above_the_floor() -> None:
    assert is_hyperfitted(0.125, 0.025) and not is_hyperfitted(0.126, 0.025)
    assert not is_hyperfitted(math.nan, 0.025)

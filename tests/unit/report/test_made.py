from __future__ import annotations

from pathlib import Path

import pytest

from rayfit.records.storage import Storage
from rayfit.report.differences import difference_table
from rayfit.report.made import duration, how_it_was_made
from tests.unit.report.records import full_sweep


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


def test_everything_that_made_the_numbers_is_told(storage: Storage) -> None:
    made = how_it_was_made(full_sweep(storage), storage)
    (launch,) = made["launches"]
    assert (launch["took"], launch["started"]) == ("2 min 30 s", "2026-01-02 03:04 UTC")
    assert dict(made["versions"]) == {"python": "3.11.7", "torch": "2.13.0, 2.13.1"}
    assert made["commits"] == ["c" * 40, "d" * 40]
    assert dict(made["fingerprints"])["contexts of news"] == "e" * 64
    assert dict(made["options"]) == {"samples": "32", "learning rate": "0.003", "seeds": "0, 1"}
    assert dict(made["times"]) == {
        "training, 4 in all": "6 min 0 s",
        "evaluation, 18 in all": "1 min 48 s",
        "worker-hours of training on cpu": "0.2",  # four trials of 90 seconds on two workers
    }
    assert [trial["sample_seed"] for trial in made["trials"]] == [0, 1, 0, 1]


def test_whether_kernels_were_deterministic_is_told_where_it_is_known(storage: Storage) -> None:
    record = full_sweep(storage)
    assert how_it_was_made(record, storage)["kernels"] == ""
    for trial_id, kernels in zip(record["trials"], (True, None, True), strict=False):
        trial = storage.read("trials", trial_id)
        assert trial is not None
        storage.write("trials", trial_id, {**trial, "deterministic_kernels": kernels})
    assert how_it_was_made(record, storage)["kernels"] == "2 asked for; 1 on a CPU, whose kernels are"


def test_worker_hours_are_counted_by_device_and_only_where_workers_are_known(storage: Storage) -> None:
    record = full_sweep(storage)
    first, second, third, _ = record["trials"]
    for key, changes in (
        (first, {"device": "NVIDIA H200", "placement": {"num_workers": 8}}),
        (second, {"placement": {}}),
        (third, {"seconds": {}}),
    ):
        trial = storage.read("trials", key)
        assert trial is not None
        storage.write("trials", key, {**trial, **changes})
    times = dict(how_it_was_made(record, storage)["times"])
    assert times["worker-hours of training on NVIDIA H200"] == "0.2"
    assert times["worker-hours of training on cpu"] == "0.05"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.1234, "0.123 s"), (59, "59 s"), (60, "1 min 0 s"), (3599.6, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_differences_are_drawn_around_zero_on_one_scale_per_score() -> None:
    one = {"score": "ttr_last_96", "domain": "news", "decoding": "greedy", "a": "x", "b": "y", "count": 64}
    table = difference_table(
        [
            {**one, "value": 0.4, "low": 0.3, "high": 0.5},
            {**one, "domain": "code", "value": -0.1, "low": -0.2, "high": 0.05},
            {**one, "score": "entropy_nats", "value": None, "low": None, "high": None},
        ]
    )
    assert table is not None and table["about"] == ["on"]
    assert [score.name for score in table["scores"]] == ["ttr_last_96", "entropy_nats"]
    news, code = table["lines"]
    assert (news["a"], news["b"], news["about"], news["contexts"]) == ("x", "y", ["news"], 64)
    assert [cell["is_clear"] for cell in (*news["cells"], *code["cells"])] == [True, False, False, False]
    assert news["bar"] == {"left": 78.2, "width": 18.8, "point": 87.6}  # 50 + 47 x 0.3 / 0.5 and so on
    assert code["bar"]["left"] == 31.2 and code["cells"][0]["text"].endswith("0.100")
    assert news["cells"][1] == code["cells"][1] == {"text": "", "interval": "", "is_clear": False}
    assert difference_table([]) is None

"""How it was made: launches, options, versions, times; and differences as a table."""

from __future__ import annotations

import msgspec
import pytest

from rayfit.records.storage import TRIALS, Storage
from rayfit.records.sweep import Difference
from rayfit.records.trial import TrialRecord
from rayfit.records.values import Entry, missing
from rayfit.report.differences import DifferenceCell, IntervalBar, difference_table
from rayfit.report.made import duration, how_it_was_made
from tests.finished import Finished
from tests.unit.plan.examples import plan_of
from tests.unit.report.sweeps import COMMAND, DOMAINS, Kept


def _trials(full: Kept) -> list[TrialRecord]:
    found = [full.storage.trial(key) for key in full.record.trials]
    return [trial for trial in found if trial is not None]


def _made_with(full: Kept, torch: str, commit: str) -> None:
    """Every measurement made anew with another torch, from another commit, and every trial with one torch."""
    for trial in _trials(full):
        versions = {"python": "3.11.7", "torch": "2.13.0"}
        trial = msgspec.structs.replace(trial, versions=versions, git_commit="c" * 40)
        full.storage.write(TRIALS, trial.id, trial)
    for each in full.record.measurements:
        record = full.storage.measurement(each.kind, each.id)
        assert record is not None
        versions = {"python": "3.11.7", "torch": torch}
        changed = msgspec.structs.replace(record, versions=versions, git_commit=commit, seconds=6.0)
        full.storage.write(each.kind, each.id, changed)


def test_everything_that_made_the_numbers_is_told(full: Kept) -> None:
    _made_with(full, "2.13.1", "d" * 40)
    options = {
        "samples": [32],
        "storage": "/elsewhere",
        "learning_rate": [0.003],
        "seeds": [0, 1],
        "model": None,
    }
    made = how_it_was_made(msgspec.structs.replace(full.record, options=options), full.storage)
    (launch,) = made.launches
    assert (launch.took, launch.started) == ("2 min 30 s", "2026-01-02 03:04 UTC")
    assert (launch.command, launch.ran, launch.reused, launch.commit) == (COMMAND, 4, 0, "c" * 40)
    assert dict(made.versions) == {"python": "3.11.7", "torch": "2.13.0, 2.13.1"}
    assert made.commits == ("c" * 40, "d" * 40)
    assert dict(made.options) == {"samples": "32", "learning rate": "0.003", "seeds": "0, 1"}
    # Of the original and four trials, on two texts; trials under two decodings, and each text's truth once per model.
    assert dict(made.times) == {
        "training, 4 in all": "6 min 0 s",
        "predictions, 10 in all": "1 min 0 s",
        "generations, 18 in all": "1 min 48 s",
        "scores, 20 in all": "2 min 0 s",
        "comparisons, 8 in all": "48 s",
        "worker-hours of training on cpu": "0.2",  # four trials of 90 seconds on two workers
    }
    assert [trial.sample_seed for trial in made.trials] == [0, 1, 0, 1]
    assert [(trial.train, trial.measure) for trial in made.trials] == [("1 min 28 s", "1 s")] * 4


def test_fingerprints_are_of_what_went_in(full: Kept) -> None:
    made = how_it_was_made(full.record, full.storage)
    names = [name for name, _ in made.fingerprints]
    rows = {trial.rows.id: trial.rows.fingerprint for trial in _trials(full)}
    for identifier, fingerprint in rows.items():
        assert (f"training rows {identifier}", fingerprint) in made.fingerprints
    assert [name for name in names if name.startswith("contexts")] == [
        f"contexts of {name}" for name in DOMAINS
    ]
    assert len(made.fingerprints) == len(set(made.fingerprints))


def test_a_sweep_that_has_just_begun_tells_its_launch_alone(storage: Storage) -> None:
    made = how_it_was_made(Finished(storage, plan_of(storage)).begun(), storage)
    assert (made.launches[0].took, made.trials, made.times, made.versions) == ("", (), (), ())
    assert (made.kernels, made.fingerprints, made.commits) == ("", (), ())


def test_whether_kernels_were_deterministic_is_told(full: Kept) -> None:
    assert how_it_was_made(full.record, full.storage).kernels == "4 on a CPU, whose kernels are"
    for trial, kernels in zip(_trials(full), (True, None, True, False), strict=True):
        changed = msgspec.structs.replace(trial, deterministic_kernels=kernels)
        full.storage.write(TRIALS, trial.id, changed)
    told = "2 asked for; 1 not asked for; 1 on a CPU, whose kernels are"
    assert how_it_was_made(full.record, full.storage).kernels == told


def test_worker_hours_are_counted_by_device(full: Kept) -> None:
    first, *_ = _trials(full)
    placement = msgspec.structs.replace(first.placement, num_workers=8)
    changed = msgspec.structs.replace(first, device="NVIDIA H200", placement=placement)
    full.storage.write(TRIALS, first.id, changed)
    times = dict(how_it_was_made(full.record, full.storage).times)
    assert times["worker-hours of training on NVIDIA H200"] == "0.2"
    assert times["worker-hours of training on cpu"] == "0.15"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.1234, "0.123 s"), (59, "59 s"), (60, "1 min 0 s"), (3599.6, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def _difference(score: str, entry: Entry, domain: str = "news") -> Difference:
    return Difference(
        model="tiny",
        domain=domain,
        decoding="greedy",
        a="x",
        b="y",
        a_trial=None,
        b_trial=None,
        score=score,
        entry=entry,
    )


def test_differences_are_drawn_around_zero_on_one_scale_per_score() -> None:
    found = [
        _difference("ttr_last_96", Entry(value=0.4, low=0.3, high=0.5, count=64)),
        _difference("ttr_last_96", Entry(value=-0.1, low=-0.2, high=0.05, count=64), "code"),
        _difference("entropy_nats", missing("not measured")),
    ]
    table = difference_table(found)
    assert table is not None and table.about == ("on",)
    assert [score.name for score in table.scores] == ["ttr_last_96", "entropy_nats"]
    news, code = table.lines
    assert (news.a, news.b, news.about, news.contexts) == ("x", "y", ("news",), "64")
    assert [cell.is_clear for cell in (*news.cells, *code.cells)] == [True, False, False, False]
    assert news.bar == IntervalBar(left=78.2, width=18.8, point=87.6)  # 50 + 47 x 0.3 / 0.5 and so on
    assert code.bar is not None and code.bar.left == 31.2 and code.cells[0].text == "\u22120.100"
    assert code.cells[0].interval == "\u22120.200 to +0.050"
    assert news.cells[1] == code.cells[1] == DifferenceCell()
    assert difference_table([]) is None

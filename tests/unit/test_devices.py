"""How many CPUs a launch may keep busy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rayfit import devices
from rayfit.devices import usable_cpus


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [
        ("max 100000", 8),
        ("400000 100000", 4),
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("900000 100000", 8),
        ("", 8),
    ],
)
def test_a_container_s_quota_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cpus: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(devices, "_QUOTA", tmp_path / "cpu.max")
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cpus() == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("-1", 8), ("200000", 2)])
def test_the_older_files_of_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cpus: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(devices, "_QUOTA", tmp_path / "none")
    files = (tmp_path / "quota", tmp_path / "period")
    monkeypatch.setattr(devices, "_OLD_QUOTA", files)
    assert usable_cpus() == 8, "no file says anything"
    files[0].write_text(quota + "\n")
    files[1].write_text("100000\n")
    assert usable_cpus() == cpus

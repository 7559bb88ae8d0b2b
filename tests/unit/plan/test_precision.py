"""`--precision auto`: what a CPU's flags say, and what a plan makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayfit.config import Options
from rayfit.errors import RayfitError
from rayfit.plan import precision
from rayfit.plan.precision import cpu_precision, resolve_precision
from rayfit.plan.show import render_plan
from rayfit.records.storage import Storage
from rayfit.sweep.cluster import check_cpus
from tests.unit.plan.examples import plan_of, trial_of

# The flags that matter of three real CPUs: Sapphire Rapids, Zen 4, Skylake.
CPUS = {
    "AMX": "fpu sse2 avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8",
    "AVX512-BF16": "fpu sse2 avx2 avx512f avx512_vnni avx512_bf16",
    "older": "fpu sse2 avx2 avx512f avx512_vnni",
}


@pytest.fixture
def cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes this machine's CPU one with the given flags, as Linux tells of it."""

    def become(flags: str) -> None:
        file = tmp_path / f"cpuinfo-{len(list(tmp_path.iterdir()))}"
        core = f"processor\t: 0\nmodel name\t: A CPU\nflags\t\t: {flags}\nbugs\t\t: spectre_v1\n\n"
        file.write_text(core * 2)
        monkeypatch.setattr(precision, "_CPU_INFO", file)

    for name in precision._ISA_LIMITS:
        monkeypatch.delenv(name, raising=False)
    return become


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "runs")


@pytest.mark.parametrize(("kind", "name"), [("AMX", "bf16"), ("AVX512-BF16", "bf16"), ("older", "fp32")])
def test_a_cpu_computes_in_what_its_instructions_are_good_at(cpu, kind: str, name: str) -> None:
    cpu(CPUS[kind])
    found = cpu_precision()
    assert found.name == name
    assert (kind if name == "bf16" else "has no bf16 instructions") in found.reason


@pytest.mark.parametrize(
    ("limit", "name"),
    [("AVX512_CORE", "fp32"), ("avx2", "fp32"), ("AVX512_CORE_AMX", "bf16"), ("ALL", "bf16")],
)
def test_instructions_that_onednn_may_not_use_count_for_nothing(
    cpu, monkeypatch: pytest.MonkeyPatch, limit: str, name: str
) -> None:
    cpu(CPUS["AMX"])
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert cpu_precision().name == name


def test_a_machine_that_lists_no_flags_computes_in_fp32(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(precision, "_CPU_INFO", tmp_path / "none")
    assert cpu_precision().name == "fp32"


def test_what_is_given_wins_and_gpus_compute_in_bf16(cpu) -> None:
    cpu(CPUS["older"])
    assert resolve_precision("bf16", use_gpu=False) == precision.Precision("bf16")
    assert resolve_precision("fp32", use_gpu=True) == precision.Precision("fp32")
    assert resolve_precision("auto", use_gpu=True).name == "bf16"
    assert resolve_precision("auto", use_gpu=False).name == "fp32"


def test_the_id_holds_what_auto_resolves_to_and_the_plan_says_why(cpu, storage: Storage) -> None:
    cpu(CPUS["older"])
    assert trial_of(storage, precision="auto").id == trial_of(storage, precision="fp32").id
    shown = render_plan(plan_of(storage, precision="auto"), storage)
    assert "no dropout, fp32 (auto: this CPU has no bf16 instructions)" in shown
    assert "(auto:" not in render_plan(plan_of(storage, precision="fp32"), storage)
    cpu(CPUS["AMX"])
    assert trial_of(storage, precision="auto").id == trial_of(storage, precision="bf16").id
    assert trial_of(storage, precision="auto").id != trial_of(storage, precision="fp32").id


def test_on_a_running_ray_without_gpus_the_precision_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    given = {"storage": "/mnt/runs", "tracking_uri": "http://mlflow:5000"}
    with pytest.raises(RayfitError, match=r"--precision: on a running Ray .* must be given.* else fp32"):
        check_cpus(Options(**given, use_gpu=False))
    check_cpus(Options(**given, use_gpu=False, precision="fp32"))
    check_cpus(Options(**given, use_gpu=True))

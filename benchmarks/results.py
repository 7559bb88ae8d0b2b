"""The form in which benchmarks tell what they found: printed, and kept in results.json beside this file.

    python benchmarks/results.py

writes the tables of docs/performance.md again from what is kept.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal

from rayfit.plan.precision import cpu_precision
from rayfit.records.provenance import git_commit

HERE = Path(__file__).resolve().parent
KEPT = HERE / "results.json"
PAGE = HERE.parent / "docs" / "performance.md"
_BEGIN, _END = "<!-- results: begin -->", "<!-- results: end -->"
_LIBRARIES = ("torch", "transformers", "ray", "deepspeed", "mlflow", "numpy")


@dataclass(frozen=True)
class Target:
    """What `ours`, or its ratio to the alternative's, is to be: at most, or at least, a value."""

    bound: Literal["at most", "at least"]
    value: float
    of: Literal["ours", "ratio"] = "ours"


@dataclass(frozen=True)
class Result:
    """One thing measured, beside its alternative in the same run, if it has one.

    `ours` and `theirs` in `unit`; `runs`: what was measured of ours, where it was measured more than once and `ours` is
    the median.
    """

    what: str
    ours: float
    unit: str
    alternative: str = ""
    theirs: float | None = None
    target: Target | None = None
    runs: tuple[float, ...] = field(default=())

    @property
    def ratio(self) -> float | None:
        """Ours over the alternative's."""
        return None if not self.theirs else self.ours / self.theirs

    @property
    def verdict(self) -> str:
        """Whether the target is met, in a word; empty without one."""
        if self.target is None:
            return ""
        value = self.ours if self.target.of == "ours" else self.ratio
        if value is None:
            return ""
        met = value <= self.target.value if self.target.bound == "at most" else value >= self.target.value
        return "met" if met else "MISSED"


def arguments(about: str | None) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="a form of seconds, which shows that it runs; nothing is kept"
    )
    return parser


def tell(benchmark: str, results: Sequence[Result], *, keep: bool, kind: str = "") -> None:
    """Print results as a table and, if they are to be kept, replace this benchmark's of this kind of CPU, or card."""
    kind = kind or _kind()
    print(f"\n## {benchmark}, {kind}\n\n{table(results)}")
    if not keep:
        return
    kept: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    kept.setdefault(benchmark, {})[kind] = {
        "date": date.today().isoformat(),
        "commit": git_commit(),
        "machine": machine(),
        "versions": _versions(),
        "results": [asdict(result) for result in results],
    }
    KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def _versions() -> dict[str, str]:
    """Of those libraries that are there: a benchmark of cards needs no Ray."""
    found = {}
    for name in _LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def table(results: Iterable[Result]) -> str:
    """Results as a Markdown table."""
    lines = ["| what | ours | alternative | ratio | target | |", "|---|---|---|---|---|---|"]
    for result in results:
        theirs = (
            "" if result.theirs is None else f"{_number(result.theirs)} {result.unit}, {result.alternative}"
        )
        ratio = "" if result.ratio is None else f"{result.ratio:.2f}x"
        cells = (
            result.what,
            f"{_number(result.ours)} {result.unit}",
            theirs,
            ratio,
            _target(result),
            result.verdict,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _target(result: Result) -> str:
    if result.target is None:
        return ""
    unit = f" {result.unit}" if result.target.of == "ours" else "x"
    return f"{result.target.bound} {_number(result.target.value)}{unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine() -> str:
    """This machine in words: processor, cores that may be used, memory."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    named = (line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{next(named, platform.processor())}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB"


def _kind() -> str:
    return "with bf16 instructions" if cpu_precision().name == "bf16" else "without bf16 instructions"


def render(kept: dict[str, Any]) -> str:
    """Every kept result, by benchmark and kind of CPU."""
    parts = []
    for benchmark, kinds in kept.items():
        for kind, found in kinds.items():
            results = [
                Result(
                    **{
                        **each,
                        "target": Target(**each["target"]) if each["target"] else None,
                        "runs": tuple(each["runs"]),
                    }
                )
                for each in found["results"]
            ]
            versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
            parts.append(
                f"### {benchmark}, {kind}\n\n{table(results)}\n\n"
                f"{found['date']}, {found['machine']}; {versions}."
            )
    return "\n\n".join(parts)


def main() -> None:
    """Put the kept results between the page's marks."""
    page = PAGE.read_text()
    before, rest = page.split(_BEGIN)
    after = rest.split(_END)[1]
    PAGE.write_text(f"{before}{_BEGIN}\n\n{render(json.loads(KEPT.read_text()))}\n\n{_END}{after}")


if __name__ == "__main__":
    main()

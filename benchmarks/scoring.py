"""How long the text scores take at the paper's size, each beside a plain alternative measured in the same
run.

    python benchmarks/scoring.py [--num-threads 2]

Rows and texts are pieces of the Python standard library's source, so they repeat and overlap as real texts
do; nothing is downloaded. The alternatives are timed on a sample of the same pairs and extrapolated to all of
them.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import polars as pl
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from rayfit.score.bleu import dataset_bleu, self_bleu, window_index
from rayfit.score.overlap import OverlapIndex
from rayfit.score.repetition import loop_period, repeated_ngrams, ttr
from rayfit.score.text import aggregate_scores, score_texts

WINDOW = 96
ROW_TOKENS = 256
TEXT_TOKENS = 224
NUM_ROWS = 2_000
NUM_TEXTS = 1_000
NUM_EVALUATED = 300
SAMPLED_PAIRS = 300


@dataclass(frozen=True)
class Line:
    """One claim: what was run, the most it may take, what it took, and the peer's extrapolated seconds."""

    what: str
    aim_seconds: float | None
    seconds: float
    added_mib: float | None
    peer: str = ""
    peer_seconds: float | None = None


def library_tokens(num_tokens: int) -> np.ndarray:
    """The first tokens (words, spaces, signs) of the standard library's source files, ordered by path."""
    tokens: list[str] = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*/*.py")):
        if "site-packages" not in path.parts and len(tokens) < num_tokens:
            tokens += re.findall(r"\w+|\s+|[^\w\s]", path.read_text(encoding="utf-8", errors="ignore"))
    return np.unique(np.array(tokens[:num_tokens]), return_inverse=True)[1]


def measured(work: Callable[[], object]) -> tuple[float, float | None]:
    """(median seconds of three runs, peak MiB above what was held before; None where it is not told)."""
    before = _status_mib("VmRSS", reset_peak=True)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    peak = _status_mib("VmHWM")
    return statistics.median(seconds), None if before is None or peak is None else peak - before


def _status_mib(key: str, reset_peak: bool = False) -> float | None:
    try:
        if reset_peak:
            Path("/proc/self/clear_refs").write_text("5")
        found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None


def seconds_per_pair(
    work: Callable[[list[int], list[int]], object], left: np.ndarray, right: np.ndarray
) -> float:
    """Mean seconds of `work` over a fixed sample of pairs of one row of each side."""
    generator = np.random.default_rng(0)
    pairs = [
        (left[i].tolist(), right[j].tolist())
        for i, j in zip(
            generator.integers(0, len(left), SAMPLED_PAIRS),
            generator.integers(0, len(right), SAMPLED_PAIRS),
            strict=True,
        )
    ]
    start = time.perf_counter()
    for one, other in pairs:
        work(one, other)
    return (time.perf_counter() - start) / SAMPLED_PAIRS


def nltk_bleu(text: list[int], reference: list[int]) -> float:
    return float(sentence_bleu([reference], text, smoothing_function=SmoothingFunction().method1))


def difflib_overlap(text: list[int], row: list[int]) -> int:
    return SequenceMatcher(None, text, row, autojunk=False).find_longest_match().size


def python_repetition(text: list[int], _: list[int]) -> list[float]:
    orders = [[tuple(text[i : i + n]) for i in range(len(text) - n + 1)] for n in (2, 3, 4)]
    loops = [
        p for p in range(1, len(text) // 3 + 1) if text[-max(2 * p, 12 - p) :] == text[-max(3 * p, 12) : -p]
    ]
    return [
        len(set(text[-WINDOW:])),
        len(set(text[:WINDOW])),
        *(len(set(grams)) for grams in orders),
        len(loops),
    ]


def repetition(texts: np.ndarray) -> None:
    ttr(texts, WINDOW, "first")
    ttr(texts, WINDOW, "last")
    for order in (2, 3, 4):
        repeated_ngrams(texts, order)
    loop_period(texts)


def evaluation(texts: np.ndarray, rows: np.ndarray, num_threads: int) -> None:
    frame = pl.DataFrame(
        {
            "context_id": np.arange(len(texts)),
            "domain": [("fiction", "news", "wiki")[i % 3] for i in range(len(texts))],
            "token_ids": texts.tolist(),
        }
    )
    aggregate_scores(score_texts(frame, rows, num_threads=num_threads))


def lines(num_threads: int) -> list[Line]:
    """All claims, measured one after another."""
    tokens = library_tokens(NUM_ROWS * ROW_TOKENS + NUM_TEXTS * TEXT_TOKENS)
    rows = tokens[: NUM_ROWS * ROW_TOKENS].reshape(NUM_ROWS, ROW_TOKENS)
    texts = tokens[NUM_ROWS * ROW_TOKENS :].reshape(NUM_TEXTS, TEXT_TOKENS)
    few = texts[:NUM_EVALUATED]

    start = time.perf_counter()
    evaluation(texts[:3, :WINDOW], rows[:2], num_threads)
    compiling = Line(
        "first call of all scores: compiling, or reading what was", None, time.perf_counter() - start, None
    )

    num_windows = window_index(rows, WINDOW).num_windows
    bleu = seconds_per_pair(nltk_bleu, texts[:, :WINDOW], rows[:, :WINDOW])
    pairs = NUM_TEXTS * (NUM_TEXTS - 1)
    overlap = seconds_per_pair(difflib_overlap, texts[:, :WINDOW], rows) * NUM_TEXTS * NUM_ROWS
    plain = seconds_per_pair(python_repetition, few, few) * NUM_EVALUATED
    # Drawn from four ids every row holds nearly every n-gram, so that the bounds spare few windows.
    generator = np.random.default_rng(0)
    few_ids, few_ids_rows = generator.integers(0, 4, few.shape), generator.integers(0, 4, rows.shape)
    size = f"{NUM_EVALUATED} texts x {NUM_ROWS} rows of {ROW_TOKENS}"
    return [
        compiling,
        Line(
            f"Dataset BLEU, {size} ({num_windows:,} windows)",
            6.0,
            *measured(lambda: dataset_bleu(few, rows, num_threads=num_threads)),
            "nltk",
            bleu * NUM_EVALUATED * num_windows,
        ),
        Line(
            "  the same, random over 4 ids (near the worst case)",
            None,
            *measured(lambda: dataset_bleu(few_ids, few_ids_rows, num_threads=num_threads)),
            "nltk",
            bleu * NUM_EVALUATED * num_windows,
        ),
        Line(
            f"Self-BLEU, {NUM_TEXTS} texts of {WINDOW}",
            5.0,
            *measured(lambda: self_bleu(texts, num_threads=num_threads)),
            "nltk",
            bleu * pairs,
        ),
        Line(
            f"longest overlap, {NUM_TEXTS} texts x {NUM_ROWS} rows",
            1.0,
            *measured(lambda: OverlapIndex(rows).longest_overlaps(texts, first=WINDOW)),
            "difflib",
            overlap,
        ),
        Line(
            f"TTR, rep-n, loops, {NUM_EVALUATED} texts of {TEXT_TOKENS}",
            None,
            *measured(lambda: repetition(few)),
            "plain Python",
            plain,
        ),
        Line(
            f"all text scores of one evaluation, {size}",
            15.0,
            *measured(lambda: evaluation(few, rows, num_threads)),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num-threads", type=int, default=1, help="threads of both BLEUs (1)")
    num_threads = parser.parse_args().num_threads
    print(f"{'what':74} {'aim s':>6} {'s':>7} {'MiB':>5}  {'peer':12} {'peer s':>10} {'ratio':>9}")
    for line in lines(num_threads):
        aim = "" if line.aim_seconds is None else f"{line.aim_seconds:.0f}"
        mib = "" if line.added_mib is None else f"{line.added_mib:.0f}"
        peer = ratio = ""
        if line.peer_seconds is not None:
            peer, ratio = f"{line.peer_seconds:,.2f}", f"{line.peer_seconds / line.seconds:,.0f}x"
        print(f"{line.what:74} {aim:>6} {line.seconds:7.3f} {mib:>5}  {line.peer:12} {peer:>10} {ratio:>9}")


if __name__ == "__main__":
    main()

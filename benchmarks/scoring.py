"""How long the text scores take at the paper's size, each beside a plain alternative measured in the same
run.

    python benchmarks/scoring.py [--num-threads 1] [--quick]

Rows and texts are pieces of the Python standard library's source, so they repeat and overlap as real texts
do; nothing is downloaded. The alternatives are timed on a sample of each line's own pairs and extrapolated to all
of them. Last, the same evaluations are scored on 1 and on 4 threads and Ray tasks, which must not change a bit.
"""

from __future__ import annotations

import re
import statistics
import sys
import sysconfig
import time
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import polars as pl
import ray
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from results import Result, Target, arguments, tell

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


def timed(
    what: str,
    work: Callable[[], object],
    alternative: str = "",
    theirs: float | None = None,
    *,
    at_most: float | None = None,
) -> Result:
    """Seconds of a piece of work beside those of its alternative, extrapolated."""
    target = None if at_most is None else Target("at most", at_most)
    return Result(what, measured(work)[0], "s", alternative, theirs, target)


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


def evaluation(texts: np.ndarray, rows: np.ndarray, num_threads: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Every text's scores and their aggregates, as an evaluator computes them."""
    frame = pl.DataFrame(
        {
            "context_id": np.arange(len(texts)),
            "domain": [("fiction", "news", "wiki")[i % 3] for i in range(len(texts))],
            "token_ids": texts.tolist(),
        }
    )
    scored = score_texts(frame, rows, num_threads=num_threads)
    return scored, aggregate_scores(scored)


def rows_and_texts() -> tuple[np.ndarray, np.ndarray]:
    """2,000 rows of 256 tokens and 1,000 texts of 224, of the standard library's source."""
    tokens = library_tokens(NUM_ROWS * ROW_TOKENS + NUM_TEXTS * TEXT_TOKENS)
    return (
        tokens[: NUM_ROWS * ROW_TOKENS].reshape(NUM_ROWS, ROW_TOKENS),
        tokens[NUM_ROWS * ROW_TOKENS :].reshape(NUM_TEXTS, TEXT_TOKENS),
    )


def results(rows: np.ndarray, texts: np.ndarray, num_threads: int) -> list[Result]:
    """All claims, measured one after another."""
    few = texts[:NUM_EVALUATED]

    start = time.perf_counter()
    evaluation(texts[:3, :WINDOW], rows[:2], num_threads)
    compiling = time.perf_counter() - start

    size = f"{len(few)} texts x {len(rows)} rows of {ROW_TOKENS}"
    return [
        Result("first call of all scores: compiling, or reading what was", compiling, "s"),
        *dataset_bleu_results(rows, few, num_threads, size),
        *other_results(rows, texts, num_threads, size),
    ]


def dataset_bleu_results(rows: np.ndarray, few: np.ndarray, num_threads: int, size: str) -> list[Result]:
    """Dataset BLEU on real text and near its worst case."""
    num_windows = window_index(rows, WINDOW).num_windows
    # Drawn from four ids every row holds nearly every n-gram, so that the bounds spare few windows.
    generator = np.random.default_rng(0)
    few_ids, few_ids_rows = generator.integers(0, 4, few.shape), generator.integers(0, 4, rows.shape)
    seconds, added_mib = measured(lambda: dataset_bleu(few, rows, num_threads=num_threads))
    what = f"Dataset BLEU, {size} ({num_windows:,} windows)"
    theirs = nltk_per_window(few, rows) * len(few) * num_windows
    found = [Result(what, seconds, "s", "nltk", theirs, Target("at most", 6.0))]
    if added_mib is not None:
        found.append(Result(f"{what}: memory added", added_mib, "MiB", target=Target("at most", 1024)))
    worst = timed(
        f"Dataset BLEU, {size}, random over 4 ids (near the worst case)",
        lambda: dataset_bleu(few_ids, few_ids_rows, num_threads=num_threads),
        "nltk",
        nltk_per_window(few_ids, few_ids_rows) * len(few) * num_windows,
    )
    return [*found, worst]


def nltk_per_window(texts: np.ndarray, rows: np.ndarray) -> float:
    """nltk's seconds per BLEU of the beginning of a text against a window anywhere in a row."""
    windows = np.lib.stride_tricks.sliding_window_view(rows, WINDOW, axis=1)  # [rows, places, WINDOW]
    generator = np.random.default_rng(1)
    row, place = (generator.integers(0, size, SAMPLED_PAIRS) for size in windows.shape[:2])
    return seconds_per_pair(nltk_bleu, texts[:, :WINDOW], windows[row, place])


def other_results(rows: np.ndarray, texts: np.ndarray, num_threads: int, size: str) -> list[Result]:
    """Self-BLEU, overlap, repetition, and all text scores of one evaluation."""
    few = texts[:NUM_EVALUATED]
    pairs = len(texts) * (len(texts) - 1)
    overlap = seconds_per_pair(difflib_overlap, texts, rows) * len(texts) * len(rows)
    plain = seconds_per_pair(python_repetition, few, few) * len(few)
    return [
        timed(
            f"Self-BLEU, {len(texts)} texts of {WINDOW}",
            lambda: self_bleu(texts, num_threads=num_threads),
            "nltk",
            seconds_per_pair(nltk_bleu, texts[:, :WINDOW], texts[:, :WINDOW]) * pairs,
            at_most=5.0,
        ),
        timed(
            f"longest overlap, {len(texts)} texts of {TEXT_TOKENS} x {len(rows)} rows",
            lambda: OverlapIndex(rows).longest_overlaps(texts),
            "difflib",
            overlap,
            at_most=1.0,
        ),
        timed(
            f"TTR, rep-n, loops, {len(few)} texts of {TEXT_TOKENS}",
            lambda: repetition(few),
            "plain Python",
            plain,
        ),
        timed(
            f"all text scores of one evaluation, {size}",
            lambda: evaluation(few, rows, num_threads),
            at_most=15.0,
        ),
    ]


def same_everywhere(rows: np.ndarray, texts: np.ndarray) -> list[tuple[str, bool, float, float]]:
    """(what, whether the scores are the same to the bit, seconds on 1, seconds on 4) for threads and Ray tasks."""
    arms = np.array_split(texts, 4)

    def on_threads(num_threads: int) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
        return [evaluation(arm, rows, num_threads) for arm in arms]

    def on_tasks(num_tasks: int) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
        # Of 4 logical CPUs each task takes its part, so that `num_tasks` run at once.
        task = ray.remote(num_cpus=4 // num_tasks)(evaluation)
        return list(ray.get([task.remote(arm, rows, 1) for arm in arms]))

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="error")
    on_tasks(4)  # starts the processes, with their imports
    found: list[tuple[str, bool, float, float]] = []
    expected = on_threads(1)
    for what, work in (("threads", on_threads), ("Ray tasks", on_tasks)):
        seconds, same = [], True
        for number in (1, 4):
            start = time.perf_counter()
            frames = work(number)
            seconds.append(time.perf_counter() - start)
            same &= all(
                left.equals(right)
                for ours, theirs in zip(frames, expected, strict=True)
                for left, right in zip(ours, theirs, strict=True)
            )
        found.append((what, same, seconds[0], seconds[1]))
    ray.shutdown()
    return found


def main() -> int:
    """Measure and tell; status 1 where scores depend on how many computed them."""
    parser = arguments(__doc__)
    parser.add_argument("--num-threads", type=int, default=1, help="threads of both BLEUs (1)")
    given = parser.parse_args()
    rows, texts = rows_and_texts()
    if given.quick:
        rows, texts = rows[:50], texts[:20]
    tell("Scoring", results(rows, texts, given.num_threads), keep=not given.quick)
    print(
        f"\n| four evaluations of {len(texts) // 4} texts on | s on 1 | s on 4 | scores |\n|---|---|---|---|"
    )
    found = same_everywhere(rows, texts)
    for what, same, one, four in found:
        print(f"| {what} | {one:.2f} | {four:.2f} | {'the same, to the bit' if same else 'DIFFERENT'} |")
    return int(not all(same for _, same, _, _ in found))


if __name__ == "__main__":
    sys.exit(main())

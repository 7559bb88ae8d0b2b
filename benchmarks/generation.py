"""Speed of generation and cost of the citation blocker, each beside its alternative, in one run.

    python benchmarks/generation.py [--storage runs] [--trial ID] [--threads 2] [--rounds 5] [--quick]

The model is a hyperfitted one: the trial of the storage with the most training rows (`make quickstart` trains one), or
the one that --trial names. It continues held-out text and is blocked from citing the rows that it was trained on.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from results import Result, Target, arguments, tell
from transformers import AutoModelForCausalLM, AutoTokenizer

from rayfit.data.rows import token_matrix
from rayfit.decoding import Block, Decoding
from rayfit.errors import RayfitError
from rayfit.generate.blocker import Blocker
from rayfit.generate.generator import generate
from rayfit.generate.index import BlockIndex
from rayfit.generate.loading import load_model
from rayfit.generate.processors import Chooser
from rayfit.generate.vocabulary import special_ids, word_starts
from rayfit.records.storage import Storage

CONTEXT_LENGTH, NEW_TOKENS, NUM_CONTEXTS = 32, 224, 300
NUM_ROWS, ROW_LENGTH, RUN = 2000, 256, 5


@dataclass(frozen=True)
class Hyperfitted:
    """A trained model as an evaluator loads it. `contexts`: int64 [300, 32] held-out tokens, BOS first where the
    model has one. `rows`: int64 [rows, tokens] it was trained on. `suppress`: ids that are no text. `plain`: the
    same model with the attention that transformers itself chooses."""

    trial_id: str
    model: Any
    plain: Any
    contexts: np.ndarray
    rows: np.ndarray
    index: BlockIndex
    suppress: tuple[int, ...]


def load(storage: Storage, trial_id: str | None) -> Hyperfitted:
    """The named finished trial, or that with the most training rows. Raises RayfitError where there is none."""
    trials = [storage.read("trials", name) or {} for name in storage.ids("trials")]
    trials = [trial for trial in trials if trial_id in (None, trial["id"]) and checkpoint_of(storage, trial)]
    if not trials:
        raise RayfitError(
            f"benchmark: {storage.root} has no finished {trial_id or 'trial'} with fp32 weights; run `make quickstart` "
            "first, or name another folder with --storage"
        )
    trial = max(trials, key=lambda each: (bool(each["hyperfitted"]), each["samples"], each["num_updates"]))
    path = checkpoint_of(storage, trial)
    assert path is not None
    model = load_model(path, precision="fp32", device="cpu")
    by_default = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    record = storage.read("rows", trial["rows"]["id"]) or {}
    rows = token_matrix(pl.read_parquet(storage.folder("rows", trial["rows"]["id"]) / "rows.parquet"))
    starts = word_starts(tokenizer, model.config.vocab_size)
    return Hyperfitted(
        trial["id"],
        model,
        by_default,
        held_out_contexts(storage, trial, record),
        rows,
        BlockIndex.build(rows, starts, run=RUN, bos_id=record["bos_id"]),
        special_ids(tokenizer, model.config),
    )


def checkpoint_of(storage: Storage, trial: dict[str, Any]) -> Path | None:
    """The directory of a trial's weights in fp32, or None."""
    product = trial["products"].get("checkpoint-fp32")
    return None if product is None else storage.folder("trials", trial["id"]) / product


def held_out_contexts(storage: Storage, trial: dict[str, Any], rows: dict[str, Any]) -> np.ndarray:
    """The contexts of the trial's evaluation, then as many later pieces of the held-out texts as are needed."""
    texts = [
        token_matrix(pl.read_parquet(file))
        for name in storage.ids("rows")
        if f"-held-out-{trial['model']['name']}-" in name
        and (storage.read("rows", name) or {})["declared"]["text"] == rows["declared"]["text"]
        for file in sorted(storage.folder("rows", name).glob("*.parquet"))
    ]
    if not texts:
        raise RayfitError(f"benchmark: {storage.root} has no held-out texts of trial {trial['id']}")
    bos = [] if rows["bos_id"] is None else [rows["bos_id"]]
    # By piece first: the first pieces of all texts are the contexts themselves.
    bare = [text[len(bos) :].tolist() for part in texts for text in part]
    size = CONTEXT_LENGTH - len(bos)
    pieces = [
        bos + text[at : at + size]
        for at in range(0, ROW_LENGTH, size)
        for text in bare
        if len(text) >= at + size
    ]
    return np.array((pieces * -(-NUM_CONTEXTS // len(pieces)))[:NUM_CONTEXTS], dtype=np.int64)


LOOP, GREEDY, BLOCKED = "plain, loop at batch 8", "rayfit greedy", "rayfit greedy, blocker W1, recorded"


def table(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a Markdown table."""
    print(f"\n## {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def plain(model: Any, contexts: np.ndarray, batch_size: int, new_tokens: int = NEW_TOKENS) -> float:
    """Tokens per second of transformers' `generate` alone, in a loop over batches."""
    begin = time.perf_counter()
    for start in range(0, len(contexts), batch_size):
        batch = torch.from_numpy(contexts[start : start + batch_size]).to(model.device)
        with torch.inference_mode():
            texts = model.generate(
                batch,
                attention_mask=torch.ones_like(batch),
                max_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=0,
                eos_token_id=None,
            )
        texts.cpu()  # a GPU may not have made them yet
    return len(contexts) * new_tokens / (time.perf_counter() - begin)


def ours(given: Hyperfitted, decoding: Decoding, index: BlockIndex | None = None) -> float:
    """Tokens per second of rayfit's `generate` at its default batch size."""
    begin = time.perf_counter()
    generate(given.model, given.contexts.tolist(), decoding, suppress_ids=given.suppress, block_index=index)
    return len(given.contexts) * NEW_TOKENS / (time.perf_counter() - begin)


def speed(given: Hyperfitted, rounds: int) -> list[Result]:
    """Generation beside plain `generate`, the arms in turn in every round."""
    model, contexts = given.plain, given.contexts
    arms: dict[str, Callable[[], float]] = {
        LOOP: lambda: plain(model, contexts, 8),
        "plain, one call of 16": lambda: plain(model, contexts[:16], 16),
        "plain, one call of 64": lambda: plain(model, contexts[:64], 64),
        "plain, one call of 256": lambda: plain(model, contexts[:256], 256),
        GREEDY: lambda: ours(given, Decoding(num_new_tokens=NEW_TOKENS)),
        BLOCKED: lambda: ours(given, Decoding(num_new_tokens=NEW_TOKENS, block=Block()), given.index),
        "rayfit nucleus": lambda: ours(given, Decoding("nucleus", num_new_tokens=NEW_TOKENS)),
    }
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            rates[name].append(arm())
    medians = {name: statistics.median(values) for name, values in rates.items()}
    loop, best = medians[LOOP], max(medians[name] for name in arms if "one call" in name)
    greedy = medians[GREEDY]
    table(
        f"{len(contexts)} contexts of {CONTEXT_LENGTH}, {NEW_TOKENS} new tokens, median of {rounds} rounds",
        ("arm", "tokens/s", "of the loop at batch 8", "of the best single call", "of rayfit greedy"),
        [
            (name, f"{rate:,.0f}", f"{rate / loop:.2f}x", f"{rate / best:.2f}x", f"{rate / greedy:.2f}x")
            for name, rate in medians.items()
        ],
    )
    one_call = max((name for name in arms if "one call" in name), key=lambda name: medians[name])
    what, rate = f"greedy generation, {len(contexts)} contexts", tuple(rates[GREEDY])
    return [
        Result(what, greedy, "tokens/s", LOOP, loop, Target("at least", 2.0, "ratio"), rate),
        Result(what, greedy, "tokens/s", one_call, best, Target("at least", 0.95, "ratio"), rate),
        Result(
            "the same with the citation blocker W1",
            medians[BLOCKED],
            "tokens/s",
            "without it",
            greedy,
            Target("at least", 0.9, "ratio"),
            tuple(rates[BLOCKED]),
        ),
    ]


class Clock:
    """Seconds spent in a method of a class or object while the clock is in force."""

    def __init__(self, owner: Any, method: str) -> None:
        self.owner, self.method, self.seconds, self.calls = owner, method, 0.0, 0
        self.plain = getattr(owner, method)

    def __enter__(self) -> Clock:
        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return self.plain(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - begin
                self.calls += 1

        setattr(self.owner, self.method, timed)
        return self

    def __exit__(self, *_: object) -> None:
        setattr(self.owner, self.method, self.plain)


def parts(given: Hyperfitted) -> None:
    """Where the time of a generation goes."""
    rows = []
    for name, decoding in (
        ("greedy", Decoding(num_new_tokens=NEW_TOKENS)),
        ("greedy, blocker W1", Decoding(num_new_tokens=NEW_TOKENS, block=Block())),
        ("nucleus", Decoding("nucleus", num_new_tokens=NEW_TOKENS)),
    ):
        with Clock(given.model, "forward") as forward, Clock(Chooser, "__call__") as chooser:
            whole = len(given.contexts) * NEW_TOKENS / ours(given, decoding, given.index)
        rest = whole - forward.seconds - chooser.seconds
        shares = [f"{seconds / whole:.1%}" for seconds in (forward.seconds, chooser.seconds, rest)]
        rows.append((name, f"{whole:.2f} s", *shares))
    table("Where the time goes", ("decoding", "whole", "model", "our processors", "transformers' loop"), rows)


def blocker_cost(given: Hyperfitted, num_repeats: int = 3) -> Result:
    """What the blocker takes per step of a batch of 64, and as a share of the model's time."""
    own = f"own {len(given.rows):,} rows, whole generation"
    everything = follow_all(given.model.config.vocab_size)
    cases = [
        (f"{own}, W1 (default)", given.index, Block()),
        (f"{own}, W2", given.index, Block("W2")),
        (f"{own}, W0", given.index, Block("W0")),
        ("worst case: every text banned at every step, W0", everything, Block("W0", run=1)),
    ]
    rows, shares = [], []
    for name, index, block in cases:
        runs = [cost_of(given, index, block) for _ in range(num_repeats)]
        banned, seconds, step_seconds = (statistics.median(column) for column in zip(*runs, strict=True))
        shares.append(seconds / step_seconds)
        rows.append((name, f"{banned:.1%}", f"{seconds * 1e6:,.0f} us", f"{shares[-1]:.2%}"))
    rows += [
        (name, "0.0%", f"{seconds * 1e6:,.0f} us", f"{seconds / step_seconds:.2%}")
        for name, seconds in question_cost(given).items()
    ]
    table(
        "Citation blocker, batch of 64", ("case", "steps with a ban", "per step", "of the model's time"), rows
    )
    return Result(
        "citation blocker W1, batch of 64, share of the model's time",
        100 * shares[0],
        "%",
        target=Target("at most", 2.0),
    )


def cost_of(given: Hyperfitted, index: BlockIndex, block: Block) -> tuple[float, float, float]:
    """(share of steps with a ban, the blocker's seconds per step, the model's) over one generation of 64 texts."""
    decoding = Decoding(num_new_tokens=NEW_TOKENS, block=block)
    batch = given.contexts[:64]
    with Clock(given.model, "forward") as forward, Clock(Chooser, "_block") as clock:
        found = generate(
            given.model, batch.tolist(), decoding, suppress_ids=given.suppress, block_index=index
        )
    assert found.steps_banned is not None
    banned = float(found.steps_banned.sum()) / (NEW_TOKENS * len(batch))
    return banned, clock.seconds / clock.calls, forward.seconds / forward.calls


def question_cost(given: Hyperfitted, num_steps: int = 400) -> dict[str, float]:
    """Seconds to ask for the bans of 64 texts of which none matches, by the index and by a Python dictionary."""
    recent = np.random.default_rng(1).integers(3, given.model.config.vocab_size, (64, RUN))
    blocker, first = Blocker(given.index, Block()), np.zeros(64, dtype=np.int64)
    dictionary = python_index(given.index)
    found = {}
    for name, ask in (
        ("the question alone, no match", lambda: blocker.bans(recent, first)),
        (
            "the same by a Python dictionary",
            lambda: [dictionary.get(tuple(gram)) for gram in recent.tolist()],
        ),
    ):
        ask()
        begin = time.perf_counter()
        for _ in range(num_steps):
            ask()
        found[name] = (time.perf_counter() - begin) / num_steps
    return found


def follow_all(vocab_size: int) -> BlockIndex:
    """An index of single tokens in which each has one follower: every text is banned at every step."""
    generator = np.random.default_rng(2)
    follower = generator.permutation(vocab_size)
    rows = np.empty((NUM_ROWS, ROW_LENGTH), dtype=np.int64)
    rows[:, 0] = np.arange(NUM_ROWS) % vocab_size
    for place in range(1, ROW_LENGTH):
        rows[:, place] = follower[rows[:, place - 1]]
    return BlockIndex.build(rows, np.ones(vocab_size, dtype=bool), run=1, bos_id=None)


def python_index(index: BlockIndex) -> dict[tuple[int, ...], set[int]]:
    """The same index as a dictionary of tuples."""
    grams = [tuple(index.tokens[at : at + index.run].tolist()) for at in index.gram_at]
    return {gram: set(index.next_of(place).tolist()) for place, gram in enumerate(grams)}


def build_by_dictionary(rows: np.ndarray) -> dict[tuple[int, ...], set[int]]:
    """The index as one would write it in plain Python."""
    out: dict[tuple[int, ...], set[int]] = {}
    for row in rows.tolist():
        for at in range(len(row) - RUN):
            out.setdefault(tuple(row[at : at + RUN]), set()).add(row[at + RUN])
    return out


def build_cost(vocab_size: int) -> Result:
    """Time and memory of the index of random rows, and that both grow with the rows and no faster."""
    generator = np.random.default_rng(0)
    rows = generator.integers(3, vocab_size, (2 * NUM_ROWS, ROW_LENGTH))
    starts_word = generator.random(vocab_size) < 0.5
    lines, at_size = [], 0.0
    for num_rows in (NUM_ROWS // 2, NUM_ROWS, 2 * NUM_ROWS):
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            index = BlockIndex.build(rows[:num_rows], starts_word, run=RUN, bos_id=None)
            seconds.append(time.perf_counter() - begin)
        at_size = statistics.median(seconds) if num_rows == NUM_ROWS else at_size
        mib = index.num_bytes / 2**20
        lines.append(
            (
                f"rayfit, {num_rows:,} x {ROW_LENGTH}",
                f"{statistics.median(seconds):.3f} s",
                f"{mib:.1f} MiB",
                f"{mib * 2**20 / num_rows / ROW_LENGTH:.1f} bytes",
            )
        )
    begin = time.perf_counter()
    build_by_dictionary(rows[:NUM_ROWS])
    by_dictionary = time.perf_counter() - begin
    lines.append((f"Python dictionary, {NUM_ROWS:,} x {ROW_LENGTH}", f"{by_dictionary:.3f} s", "-", "-"))
    table(
        "Index of the training rows (median of 3)", ("index", "built in", "memory", "memory per token"), lines
    )
    return Result(
        f"index of {NUM_ROWS:,} training rows",
        at_size,
        "s",
        "Python dictionary",
        by_dictionary,
        Target("at most", 1.0),
    )


def main() -> int:
    """Measure and print; status 1 where there is no model to measure."""
    parser = arguments(__doc__)
    parser.add_argument("--storage", default="runs", help="folder of a finished sweep (runs)")
    parser.add_argument("--trial", help="id of one of its trials (default: that with the most training rows)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    try:
        given = load(Storage(chosen.storage), chosen.trial)
    except RayfitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    # compiles what is not cached yet, outside of all measurements
    for kind in ("greedy", "nucleus"):
        generate(
            given.model,
            given.contexts[:2].tolist(),
            Decoding(kind, num_new_tokens=8, block=Block()),
            suppress_ids=given.suppress,
            block_index=given.index,
        )
    print(
        f"{given.trial_id}: {given.model.num_parameters():,} parameters, {chosen.threads} threads, "
        f"torch {torch.__version__}"
    )
    if chosen.quick:
        given = replace(given, contexts=given.contexts[:4])
    found = speed(given, 1 if chosen.quick else chosen.rounds)
    parts(given)
    found += [blocker_cost(given, 1 if chosen.quick else 3), build_cost(given.model.config.vocab_size)]
    tell("Generation", found, keep=not chosen.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Speed of generation and cost of the citation blocker, each beside its alternative, in one run.

    python benchmarks/generation.py [--model DIRECTORY] [--threads 2] [--rounds 5]

Without --model: a Llama of the embedded default's shape with random weights.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from rayfit.generate.blocker import Blocker
from rayfit.generate.decoding import Block, Decoding
from rayfit.generate.generator import generate
from rayfit.generate.index import BlockIndex
from rayfit.generate.processors import Chooser

CONTEXT_LENGTH, NEW_TOKENS, NUM_CONTEXTS = 32, 224, 300
NUM_ROWS, ROW_LENGTH, RUN = 2000, 256, 5
SPECIAL = (0, 1, 2)


def make_model(path: str | None) -> Any:
    """The model to measure: from a directory, or random with the embedded default's shape."""
    if path is not None:
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.1,  # wide enough that texts do not fall into one token at once
    )
    return LlamaForCausalLM(config).eval()


def table(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a Markdown table."""
    print(f"\n## {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def plain(model: Any, contexts: np.ndarray, batch_size: int) -> float:
    """Tokens per second of transformers' `generate` alone, in a loop over batches."""
    begin = time.perf_counter()
    for start in range(0, len(contexts), batch_size):
        batch = torch.from_numpy(contexts[start : start + batch_size])
        with torch.inference_mode():
            model.generate(
                batch,
                attention_mask=torch.ones_like(batch),
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                pad_token_id=0,
                eos_token_id=None,
            )
    return len(contexts) * NEW_TOKENS / (time.perf_counter() - begin)


def ours(model: Any, contexts: np.ndarray, decoding: Decoding, index: BlockIndex | None = None) -> float:
    """Tokens per second of rayfit's `generate` at its default batch size."""
    begin = time.perf_counter()
    generate(model, contexts.tolist(), decoding, suppress_ids=SPECIAL, block_index=index)
    return len(contexts) * NEW_TOKENS / (time.perf_counter() - begin)


def speed(model: Any, contexts: np.ndarray, index: BlockIndex, rounds: int) -> None:
    """Generation beside plain `generate`, the arms in turn in every round."""
    arms: dict[str, Callable[[], float]] = {
        "plain, loop at batch 8": lambda: plain(model, contexts, 8),
        "plain, one call of 16": lambda: plain(model, contexts[:16], 16),
        "plain, one call of 64": lambda: plain(model, contexts[:64], 64),
        "plain, one call of 256": lambda: plain(model, contexts[:256], 256),
        "rayfit greedy": lambda: ours(model, contexts, Decoding()),
        "rayfit greedy, blocker W1, recorded": lambda: ours(model, contexts, Decoding(block=Block()), index),
        "rayfit nucleus": lambda: ours(model, contexts, Decoding("nucleus")),
    }
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            rates[name].append(arm())
    medians = {name: statistics.median(values) for name, values in rates.items()}
    loop, best = medians["plain, loop at batch 8"], max(medians[name] for name in arms if "one call" in name)
    greedy = medians["rayfit greedy"]
    table(
        f"{len(contexts)} contexts of {CONTEXT_LENGTH}, {NEW_TOKENS} new tokens, median of {rounds} rounds",
        ("arm", "tokens/s", "of the loop at batch 8", "of the best single call", "of rayfit greedy"),
        [
            (name, f"{rate:,.0f}", f"{rate / loop:.2f}x", f"{rate / best:.2f}x", f"{rate / greedy:.2f}x")
            for name, rate in medians.items()
        ],
    )


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


def parts(model: Any, contexts: np.ndarray, index: BlockIndex) -> None:
    """Where the time of a generation goes."""
    rows = []
    for name, decoding in (
        ("greedy", Decoding()),
        ("greedy, blocker W1", Decoding(block=Block())),
        ("nucleus", Decoding("nucleus")),
    ):
        with Clock(model, "forward") as forward, Clock(Chooser, "__call__") as chooser:
            begin = time.perf_counter()
            generate(model, contexts.tolist(), decoding, suppress_ids=SPECIAL, block_index=index)
            whole = time.perf_counter() - begin
        rest = whole - forward.seconds - chooser.seconds
        shares = [f"{seconds / whole:.1%}" for seconds in (forward.seconds, chooser.seconds, rest)]
        rows.append((name, f"{whole:.2f} s", *shares))
    table("Where the time goes", ("decoding", "whole", "model", "our processors", "transformers' loop"), rows)


def blocker_cost(model: Any, contexts: np.ndarray, index: BlockIndex, num_steps: int = 400) -> None:
    """What the blocker takes per step of a batch of 64, and as a share of the model's time."""
    batch = contexts[:64]
    rows = []
    for name, block_index, block in (
        ("a whole generation, rows the model recites (W1)", index, Block()),
        ("a whole generation, rows the model recites (W2)", index, Block("W2")),
        (
            "worst case: every text banned at every step (W0)",
            follow_all(model.config.vocab_size),
            Block("W0", run=1),
        ),
    ):
        decoding = Decoding(num_new_tokens=NEW_TOKENS, block=block)
        with Clock(model, "forward") as forward, Clock(Chooser, "_block") as clock:
            found = generate(model, batch.tolist(), decoding, suppress_ids=SPECIAL, block_index=block_index)
        assert found.steps_banned is not None
        rows.append(
            (
                name,
                f"{found.steps_banned.sum() / (NEW_TOKENS * len(batch)):.1%}",
                f"{clock.seconds / clock.calls * 1e6:,.0f} us",
                f"{clock.seconds / forward.seconds:.2%}",
            )
        )
    step_seconds = forward.seconds / forward.calls
    generator = np.random.default_rng(1)
    recent = generator.integers(3, model.config.vocab_size, (64, RUN))
    blocker, first = Blocker(index, Block()), np.zeros(64, dtype=np.int64)
    dictionary = python_index(index)
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
        each = (time.perf_counter() - begin) / num_steps
        rows.append((name, "0.0%", f"{each * 1e6:,.0f} us", f"{each / step_seconds:.2%}"))
    table("Citation blocker, batch of 64", ("case", "texts banned", "per step", "of the model's time"), rows)


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


def build_cost(rows: np.ndarray, starts_word: np.ndarray) -> None:
    """Time and memory of the index, and that memory grows with the rows."""
    lines = []
    for num_rows in (len(rows) // 2, len(rows)):
        begin = time.perf_counter()
        index = BlockIndex.build(rows[:num_rows], starts_word, run=RUN, bos_id=None)
        seconds = time.perf_counter() - begin
        lines.append(
            (
                f"rayfit, {num_rows:,} x {rows.shape[1]}",
                f"{seconds:.3f} s",
                f"{index.num_bytes / 2**20:.1f} MiB",
            )
        )
    begin = time.perf_counter()
    build_by_dictionary(rows)
    lines.append(
        (f"Python dictionary, {len(rows):,} x {rows.shape[1]}", f"{time.perf_counter() - begin:.3f} s", "-")
    )
    table("Index of the training rows", ("index", "built in", "memory"), lines)


def recited_rows(model: Any, contexts: np.ndarray) -> np.ndarray:
    """Training rows of the paper's number, some of which, one per context, are what the model generates."""
    generator = np.random.default_rng(0)
    rows = generator.integers(3, model.config.vocab_size, (NUM_ROWS, ROW_LENGTH))
    texts = generate(model, contexts.tolist(), Decoding(num_new_tokens=NEW_TOKENS), suppress_ids=SPECIAL)
    rows[: len(contexts), :NEW_TOKENS] = texts.tokens
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a Hugging Face directory (default: random weights)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = make_model(arguments.model)
    generator = np.random.default_rng(0)
    vocab_size = model.config.vocab_size
    contexts = generator.integers(3, vocab_size, (NUM_CONTEXTS, CONTEXT_LENGTH))
    starts_word = generator.random(vocab_size) < 0.5
    rows = recited_rows(model, contexts)
    index = BlockIndex.build(rows, starts_word, run=RUN, bos_id=None)
    # compiles what is not cached yet, outside of all measurements
    generate(
        model,
        contexts[:2].tolist(),
        Decoding("nucleus", block=Block()),
        suppress_ids=SPECIAL,
        block_index=index,
    )
    print(f"{model.num_parameters():,} parameters, {arguments.threads} threads, torch {torch.__version__}")
    speed(model, contexts, index, arguments.rounds)
    parts(model, contexts, index)
    blocker_cost(model, contexts, index)
    build_cost(rows, starts_word)


if __name__ == "__main__":
    main()

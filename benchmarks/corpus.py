"""From a large corpus to a sweep's rows: time and memory, beside the datasets library with the same tokenizer.

    python benchmarks/corpus.py [--documents 100000] [--quick]

Documents are windows of 2,000 characters anywhere in the standard library's sources, in one jsonl file; nothing is
downloaded. Ours is all that a launch does before it starts Ray: hashing, cutting, holding out, dropping near duplicates,
drawing and tokenising. The alternative reads, tokenises and cuts into rows of 256 with `datasets`, and drops nothing. Each
is a process of its own.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from results import HERE, Result, Target, arguments, tell
from tiny import write_model

CHARACTERS, ROW = 2_000, 256


def write_corpus(target: Path, num_documents: int) -> None:
    """Windows of the library's sources, one document a line."""
    library = Path(sysconfig.get_path("stdlib"))
    sources = [path.read_text(encoding="utf-8", errors="ignore") for path in sorted(library.glob("*.py"))]
    text, rng = "\n".join(sources), random.Random(0)
    with target.open("w", encoding="utf-8") as stream:
        for _ in range(num_documents):
            start = rng.randrange(len(text) - CHARACTERS)
            stream.write(json.dumps({"text": text[start : start + CHARACTERS]}) + "\n")


def prepared(storage: Path, model: Path, corpus: Path, samples: str) -> None:
    """All that a launch prepares, as `run_sweep` does."""
    import runpy

    from rayfit.cli import parse_options
    from rayfit.prepare.prepare import absolute, prepare
    from rayfit.records.storage import Storage
    from rayfit.terminal import open_console

    sweep = runpy.run_path(str(HERE.parent / "sweeps" / "data_quantity.py"))["SWEEP"]
    words = [
        "--model",
        str(model),
        "--dataset",
        str(corpus),
        "--samples",
        samples,
        "--arms",
        "constant updates",
    ]
    options = absolute(parse_options(sweep, [*words, "--storage", str(storage), "--learning-rate", "1e-3"]))
    kept = Storage(options.storage)
    kept.root.mkdir(parents=True, exist_ok=True)
    kept.check_version()
    prepare(sweep, options, kept, open_console())


def by_datasets(folder: Path, model: Path, corpus: Path) -> None:
    """The plain way: every document tokenised, all tokens cut into rows."""
    from datasets import load_dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)

    def cut(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        ids = tokenizer(batch["text"], add_special_tokens=False)["input_ids"]
        return {"token_ids": [row[at : at + ROW] for row in ids for at in range(0, len(row) - ROW + 1, ROW)]}

    found = load_dataset("json", data_files=str(corpus), cache_dir=str(folder), split="train")
    found.map(cut, batched=True, remove_columns=["text"])


def apart(*words: str) -> tuple[float, float]:
    """(seconds, peak MiB) of one arm in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--arm", *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds, peak = done.stdout.strip().splitlines()[-1].split()
    return float(seconds), float(peak)


def run_arm(words: list[str]) -> None:
    """An arm, in this process: seconds and peak MiB."""
    begin = time.perf_counter()
    match words:
        case ["rayfit", storage, model, corpus, samples]:
            prepared(Path(storage), Path(model), Path(corpus), samples)
        case ["datasets", folder, model, corpus]:
            by_datasets(Path(folder), Path(model), Path(corpus))
    status = Path("/proc/self/status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    print(f"{time.perf_counter() - begin} {int(peak[1]) / 1024 if peak else float('nan')}")


def measure(num_documents: int) -> list[Result]:
    """The first sweep on a corpus, and a second one that draws other samples from it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus, model = folder / "corpus.jsonl", folder / "model"
        write_corpus(corpus, num_documents)
        write_model(model)
        size = f"{num_documents:,} documents, {corpus.stat().st_size / 1e6:.0f} MB"
        given = (str(folder / "runs"), str(model), str(corpus))
        seconds, peak = apart("rayfit", *given, "8,32,128")
        second, _ = apart("rayfit", *given, "16,64")
        theirs, their_peak = apart("datasets", str(folder / "cache"), str(model), str(corpus))
    return [
        Result(f"{size} to rows", seconds, "s", "datasets", theirs, Target("at most", 1.0, "ratio")),
        Result(f"{size}: peak memory", peak, "MiB", "datasets", their_peak, Target("at most", 2048)),
        Result(f"{size}: a second sweep", second, "s", target=Target("at most", 2.0)),
    ]


def main() -> None:
    """Measure and tell."""
    if sys.argv[1:2] == ["--arm"]:
        run_arm(sys.argv[2:])
        return
    parser = arguments(__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    given = parser.parse_args()
    tell("Corpus", measure(3_000 if given.quick else given.documents), keep=not given.quick)


if __name__ == "__main__":
    main()

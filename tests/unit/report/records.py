"""A sweep's record and all that it points at, written by hand: two domains, two seeds, texts, curves, every figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from rayfit.records.storage import Storage, write_parquet

SWEEP = "data-type-tiny-0123"
DOMAINS = ("fiction", "news")
DECODINGS = ("greedy", "greedy:block=W1")
LOOP = "<b>round</b> & round "
FIGURES: list[dict[str, Any]] = [
    {"kind": "axis", "x": "domain", "y": "ttr_last_96"},
    {"kind": "curve"},
    {"kind": "grid", "y": ["ttr_last_96", "rep_3"]},
    {"kind": "bars", "y": "ttr_last_96"},
    {"kind": "agreement"},
    {"kind": "overlap_histogram"},
    {"kind": "ttr_by_position"},
    {"kind": "calibration"},
]


def row(who: str, **values: Any) -> dict[str, Any]:
    """One row of a sweep; numbers given as (value, low, high) have that interval."""
    made: dict[str, Any] = {
        "who": who,
        "trial_id": None,
        "decoding": None if who == "truth" else "greedy",
        "domain": "fiction",
        "status": "FINISHED",
        "reason": "",
        "hyperfitted": True if who == "trained" else None,
        "intervals": {},
    }
    for name, value in values.items():
        if isinstance(value, tuple):
            made["intervals"][name] = [value[1], value[2]]
            value = value[0]
        made[name] = value
    return made


def trial_rows(storage: Storage, train_text: str, seed: int) -> list[dict[str, Any]]:
    """The rows of one trial on every domain under every decoding, with its records."""
    trial_id = f"tiny-{train_text}-s{seed}"
    write_trial(storage, trial_id, seed)
    own = {
        "trial_id": trial_id,
        "train_text": train_text,
        "samples": 32,
        "updates": 80,
        "epochs": 20.0,
        "seed": seed,
    }
    rows = []
    for decoding in DECODINGS:
        for domain in DOMAINS:
            ttr = 0.6 + 0.02 * seed + (0.05 if domain == train_text else 0.0)
            made = row(
                "trained",
                **own,
                decoding=decoding,
                domain=domain,
                model="tiny",
                ttr_last_96=(ttr, ttr - 0.03, ttr + 0.03),
                rep_3=(0.08, 0.06, 0.1),
                train_loss=0.02,
                validation_loss=(7.5 + seed, 7.2 + seed, 7.8 + seed),
                entropy_nats=1.5,
                longest_overlap_mean=9.5,
                original_longest_overlap_mean=3.5,
                minutes=0.5,
            )
            rows.append(made)
            write_evaluation(storage, made, "the fox ran home and the owl slept ")
    return rows


def original_rows(storage: Storage) -> list[dict[str, Any]]:
    """The true continuations and the original model on every domain."""
    rows = [row("truth", domain=domain, ttr_last_96=(0.7, 0.68, 0.72)) for domain in DOMAINS]
    for domain in DOMAINS:
        made = row(
            "original",
            domain=domain,
            model="tiny",
            ttr_last_96=(0.2, 0.17, 0.23),
            rep_3=(0.7, 0.66, 0.74),
            validation_loss=(3.9, 3.8, 4.0),
            entropy_nats=3.7,
            reason="has no training rows of its own",
        )
        rows.append(made)
        write_evaluation(storage, made, LOOP)
    return rows


def write_sweep(storage: Storage, rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A sweep's record around rows, as a finished launch leaves it."""
    evaluations = [
        {
            **{name: entry[name] for name in ("who", "trial_id", "decoding", "domain")},
            "evaluation_id": evaluation_id(entry),
        }
        for entry in rows
        if entry["who"] != "truth"
    ]
    record = {
        "kind": "sweep",
        "id": SWEEP,
        "sweep_kind": "data_type",
        "question": "Does it matter <which> text a model is hyperfitted on?",
        "source": "section 6.2, Table 4",
        "scale": "ci",
        "options": {"samples": [32], "storage": "/elsewhere", "learning_rate": [0.003], "seeds": [0, 1]},
        "trials": list(dict.fromkeys(entry["trial_id"] for entry in rows if entry["trial_id"])),
        "failed": {},
        "evaluations": evaluations,
        "launches": [
            {
                "command": "python sweeps/data_type.py --seeds 0,1",
                "started_at": "2026-01-02T03:04:05.000+00:00",
                "finished_at": "2026-01-02T03:06:35.000+00:00",
                "ran": 4,
                "reused": 0,
                "git_commit": "c" * 40,
            }
        ],
        "rows": rows,
        **more,
    }
    storage.write("sweeps", SWEEP, record)
    return record


def full_sweep(storage: Storage) -> dict[str, Any]:
    """A sweep with everything that a report can show."""
    rows = original_rows(storage)
    for text in DOMAINS:
        for seed in (0, 1):
            rows += trial_rows(storage, text, seed)
    difference = {
        "score": "ttr_last_96",
        "decoding": "greedy",
        "a": "hyperfitted",
        "b": "original model",
        "count": 8,
    }
    return write_sweep(
        storage,
        rows,
        figures=FIGURES,
        agreement={
            "labels": ["original model", "fiction", "news"],
            "matrix": [[1.0, 0.41, 0.43], [0.41, 1.0, 0.72], [0.43, 0.72, 1.0]],
            "num_positions": 2040,
        },
        differences=[
            {**difference, "domain": "fiction", "value": 0.45, "low": 0.4, "high": 0.5},
            {**difference, "domain": "news", "value": -0.01, "low": -0.06, "high": 0.04},
        ],
    )


def prompt_sweep(storage: Storage) -> dict[str, Any]:
    """A sweep of one text, with rows on three prompts of one's own."""
    rows = [entry for entry in original_rows(storage) if entry["domain"] == "fiction"]
    rows += [entry for entry in trial_rows(storage, "fiction", 0) if entry["domain"] == "fiction"]
    on_prompts = [{**row, "domain": "mine"} for row in rows if row["who"] != "truth"]
    for entry in on_prompts:
        entry |= {"validation_loss": None, "entropy_nats": None, "train_loss": None, "reason": "prompts"}
        entry |= {"ttr_last_96": 0.99, "intervals": {}}
        write_evaluation(storage, entry, LOOP, 3)
    figures = [entry for entry in FIGURES if entry["kind"] not in ("agreement", "grid")]
    prompts = {"name": "mine", "count": 3, "sha256": "0" * 64}
    return write_sweep(storage, [*rows, *on_prompts], figures=figures, prompts=prompts)


def write_trial(storage: Storage, trial_id: str, seed: int) -> None:
    """A finished trial with a training curve."""
    curve = pl.DataFrame(
        {
            "update": [0, 20, 40, 80],
            "epoch": [0.0, 5.0, 10.0, 20.0],
            "train_loss": [3.2, 0.9, 0.2, 0.02],
            "train_accuracy": [0.35, 0.8, 0.97, 0.99],
            "validation_loss": [3.9, 4.8 + seed, 6.4 + seed, 7.5 + seed],
            "validation_entropy_nats": [3.7, 2.6, 1.9, 1.5],
        }
    )
    write_parquet(storage.folder("trials", trial_id) / "attempt" / "curve.parquet", curve)
    record = {
        "id": trial_id,
        "kind": "trial",
        "model": {"name": "tiny", "kind": "made", "weights_sha256": "a" * 64},
        "text": "pydoc",
        "declared": {"rows": {"text": {"pydoc": "3.11.7"}}},
        "rows": {"id": "fiction-n32", "fingerprint": "f" * 64},
        "products": {"curve-every20-validation8": "attempt/curve.parquet"},
        "seconds": {"total": 90.0, "train": 60.0, "measure": 30.0},
        "overhead_seconds": 0.5,
        "device": "cpu",
        "placement": {"num_workers": 2},
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "git_commit": "c" * 40,
        "weights_sha256": "b" * 64,
        "sample_seed": seed,
        "order_seed": seed,
        "finished_at": "2026-01-02T03:05:00.000+00:00",
    }
    storage.write("trials", trial_id, record)


def evaluation_id(made: dict[str, Any]) -> str:
    """An id for the evaluation behind a row."""
    parts = (made["trial_id"] or "original", made["decoding"], made["domain"])
    return "-".join(parts).replace(":", "-").replace("=", "-")


def write_evaluation(storage: Storage, made: dict[str, Any], words: str, number: int = 8) -> Path:
    """The evaluation behind a row: generations that say `words` over and over, the more the later the context."""
    identifier = evaluation_id(made)
    texts = [f"Once {place} " + words * (2 + place) for place in range(number)]
    frame = pl.DataFrame(
        {
            "context_id": [f"book/{place}.txt:0" for place in range(number)],
            "domain": [made["domain"]] * number,
            "context": [f"He said <{place}> & went" for place in range(number)],
            "truth": [
                f"away to see the sea, {place} times." if made["domain"] in DOMAINS else None
                for place in range(number)
            ],
            "text": texts,
            "token_ids": [[ord(letter) for letter in text] for text in texts],
            "ttr_last_96": [0.9 / (1 + place) for place in range(number)],
            "longest_overlap": [None if made["who"] == "original" else place for place in range(number)],
        }
    )
    path = storage.folder("evaluations", identifier) / "generations-1.parquet"
    write_parquet(path, frame)
    histogram = {"2": 3, "3": 4, "9": 1} if made["who"] == "original" else {"4": 5, "12": 3}
    record = {
        "id": identifier,
        "kind": "evaluation",
        "model_name": "tiny",
        "decoding": made["decoding"],
        "domain": made["domain"],
        "trial_id": made["trial_id"],
        "predictions_id": write_predictions(storage, made, number),
        "generations": path.name,
        "num_contexts": number,
        "contexts_fingerprint": "e" * 64,
        "seconds": {"total": 6.0, "generate": 4.0},
        "versions": {"python": "3.11.7", "torch": "2.13.1"},
        "git_commit": "d" * 40,
        "series": {
            "ttr_by_position": {
                "first_position": 96,
                "values": [made["ttr_last_96"] + 0.001 * i for i in range(40)],
            },
            "longest_overlap_histogram": histogram,
        },
    }
    storage.write("evaluations", identifier, record)
    return path


def write_predictions(storage: Storage, made: dict[str, Any], number: int = 8) -> str:
    """The predictions behind a row, the same under every decoding, in two of 15 bins.

    The original is right as often as it is sure; a trial a fifth as often.
    """
    identifier = f"{made['trial_id'] or 'original'}-{made['domain']}"
    right = 1.0 if made["who"] == "original" else 0.2
    positions = [[0.0] * 6 + [10.0] + [0.0] * 7 + [30.0] for _ in range(number)]
    confidence = [[0.0] * 6 + [4.5] + [0.0] * 7 + [29.0] for _ in range(number)]
    correct = [[right * value for value in row] for row in confidence]
    frame = pl.DataFrame(
        {
            "calibration_positions": positions,
            "calibration_confidence": confidence,
            "calibration_correct": correct,
        }
    )
    folder = storage.folder("predictions", identifier)
    write_parquet(folder / "texts-1.parquet", frame)
    storage.write("predictions", identifier, {"id": identifier, "texts": "texts-1.parquet"})
    return identifier

"""Records of a small sweep as a storage holds them, with curves and scores like the embedded models'."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import polars as pl

from rayfit.records.storage import Storage, write_json, write_parquet

UPDATES = 400
SCORES = (
    "ttr_last_96",
    "validation_loss",
    "entropy_nats",
    "train_loss",
    "train_accuracy",
    "longest_overlap_mean",
)
VERSIONS = {"python": "3.11.2", "torch": "2.13.0", "deepspeed": "0.19.8", "transformers": "5.23.0"}


def trial_id(samples: int) -> str:
    return f"pydoc-1m-pydoc-n{samples}-u{UPDATES}-s0-{samples:012x}"


def clock(minute: float) -> str:
    seconds = round(minute * 60)
    return f"2026-03-01T10:{seconds // 60:02d}:{seconds % 60:02d}.000+00:00"


def curve(samples: int) -> pl.DataFrame:
    noise = random.Random(samples)
    rows = []
    for update in range(0, UPDATES + 1, 20):
        done = update / UPDATES
        rows.append(
            {
                "update": update,
                "epoch": update * 8 / samples,
                "train_loss": 4.1 * math.exp(-6 * done * (1 - samples / 400)) + 0.01 * noise.random(),
                "train_accuracy": min(0.99, 0.2 + done),
                "batch_loss": None if update == 0 else 4.1 * math.exp(-5 * done) + 0.1 * noise.random(),
                "validation_loss": 4.14 + 4.5 * done**0.6 - samples / 300,
                "validation_entropy_nats": 4.0 - 2.4 * done**0.5,
                "gradient_norm": 2.0 * math.exp(-3 * done) + 0.2 * noise.random(),
                "seconds": 0.15 * update,
            }
        )
    return pl.DataFrame(rows)


RECIPE = {
    "learning_rate": 3e-3,
    "batch_size": 8,
    "num_updates": UPDATES,
    "precision": "bf16",
    "optimizer": "adam",
    "weight_decay": 0.0,
}


def write_trial(
    storage: Storage,
    samples: int,
    *,
    minute: int = 1,
    edition: int = 1,
    identifier: str | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A finished trial; `changes` replace entries of its record."""
    identifier = identifier or trial_id(samples)
    folder = storage.folder("trials", identifier)
    measured = curve(samples)
    write_parquet(folder / "attempt-1" / "curve.parquet", measured)
    record: dict[str, Any] = {
        "kind": "trial",
        "id": identifier,
        "readable": f"pydoc-1m-pydoc-n{samples}-u{UPDATES}-s0",
        "declared": {
            "model": {"made": {"hidden": 128, "layers": 4}},
            "rows": {"text": {"corpus": "pydoc"}, "samples": samples, "sample_seed": 0},
            "recipe": RECIPE,
            "order_seed": 0,
            "repeat": 0,
            "train_version": 1,
        },
        "status": "FINISHED",
        "edition": edition,
        "command": ["python", "sweeps/data_quantity.py", "--samples", str(samples)],
        "model": {"name": "pydoc-1m", "kind": "made", "parameters": 1_070_000, "weights_sha256": "a" * 64},
        "text": "pydoc",
        "rows": {"id": f"pydoc-n{samples}-s0-pydoc-1m-0123456789ab", "fingerprint": f"{samples:064x}"},
        "samples": samples,
        "num_updates": UPDATES,
        "epochs": UPDATES * 8 / samples,
        "learning_rate": 3e-3,
        "batch_size": 8,
        "precision": "bf16",
        "placement": {"num_workers": 1, "zero_stage": 1, "use_gpu": False},
        "products": {
            "curve-every20-validation64": "attempt-1/curve.parquet",
            "checkpoint-fp32": "attempt-1/model",
        },
        "weights_sha256": f"{samples + 1000 * edition:064x}",
        "final": measured.to_dicts()[-1],
        "floor": math.log(samples) / 255,
        "hyperfitted": True,
        "seconds": {"training": 61.5, "export": 0.4, "total": 63.0},
        "overhead_seconds": 0.21,
        "started_at": clock(minute),
        "finished_at": clock(minute + 1),
        "versions": VERSIONS,
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        **changes,
    }
    storage.write("trials", identifier, record)
    return record


def write_failure(
    storage: Storage, samples: int, error: str, *, edition: int = 1, failed_at: str = clock(2)
) -> None:
    identifier = trial_id(samples)
    failure = {"id": identifier, "error": error, "failed_at": failed_at, "edition": edition}
    write_json(storage.folder("trials", identifier) / "failure.json", failure)


def evaluation_id(samples: int | None, decoding: str) -> str:
    subject = "original" if samples is None else f"n{samples}"
    return f"pydoc-1m-{subject}-{decoding.split(':')[0]}-0123456789ab"


def scores(samples: int | None, decoding: str) -> dict[str, dict[str, Any]]:
    values: dict[str, float | None] = {
        "ttr_last_96": 0.2031, "validation_loss": 4.1402, "entropy_nats": 3.998, "train_loss": None,
        "train_accuracy": None, "longest_overlap_mean": None,
    }  # fmt: skip
    if samples is not None:
        values = {
            "ttr_last_96": 0.55 + 0.02 * math.log2(samples), "validation_loss": 9.0 - samples / 160,
            "entropy_nats": 1.5 + 1 / samples, "train_loss": 0.008 + samples / 3000, "train_accuracy": 0.99,
            "longest_overlap_mean": 7.0 + 40 / samples,
        }  # fmt: skip
    shift = 0.0 if decoding == "greedy" else 0.1
    return {
        name: {
            "value": None if value is None else value + shift,
            "low": None if value is None else value + shift - 0.02,
            "high": None if value is None else value + shift + 0.02,
            "count": 100,
            "reason": "has no training rows" if value is None else None,
        }
        for name, value in values.items()
    }


def write_evaluation(
    storage: Storage, samples: int | None, decoding: str = "greedy", **changes: Any
) -> dict[str, Any]:
    """A finished evaluation of a trial; of the original model for None."""
    identifier = evaluation_id(samples, decoding)
    trial = None if samples is None else storage.read("trials", trial_id(samples))
    record = {
        "kind": "evaluation",
        "id": identifier,
        "subject": "original" if samples is None else "trial",
        "trial_id": None if samples is None else trial_id(samples),
        "model_name": "pydoc-1m",
        "decoding": decoding,
        "domain": "pydoc",
        "checkpoint_weights_sha256": trial["weights_sha256"] if trial else "a" * 64,
        "eval_precision": "fp32",
        "scores": scores(samples, decoding),
        "generations": "generations.parquet",
        "seconds": {"total": 6.5},
        "finished_at": clock(5),
        "versions": VERSIONS,
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        **changes,
    }
    texts = pl.DataFrame(
        {"context": ["The module", "Return the"], "generation": ["defines a class", "value of x"]}
    )
    write_parquet(storage.folder("evaluations", identifier) / "generations.parquet", texts)
    storage.write("evaluations", identifier, record)
    return record


def summary_row(
    samples: int | None, decoding: str, status: str = "FINISHED", reason: str | None = None
) -> dict[str, Any]:
    done = status == "FINISHED"
    row: dict[str, Any] = {
        "who": "original" if samples is None else "trained",
        "trial_id": None if samples is None else trial_id(samples),
        "decoding": decoding,
        "domain": "pydoc",
        "status": status,
        "reason": reason,
        "samples": samples,
        "updates": None if samples is None else UPDATES,
        "epochs": None if samples is None else UPDATES * 8 / samples,
        **{name: entry["value"] if done else None for name, entry in scores(samples, decoding).items()},
        "original_longest_overlap_mean": 3.25 if samples and done else None,
        "minutes": (1.05 if samples else 0.1) if done else None,
        "intervals": {},
    }
    return row


def sweep_record(
    samples: tuple[int, ...] = (8, 32, 128), decodings: tuple[str, ...] = ("greedy",), **changes: Any
) -> dict[str, Any]:
    """The sweep's record at its end; `changes` replace its entries."""
    truth = {"who": "truth", "decoding": None, "domain": "pydoc", "status": "FINISHED", "ttr_last_96": 0.665}
    subjects = (None, *samples)
    return {
        "kind": "sweep",
        "id": "data-quantity-pydoc-1m-pydoc-laptop-0123456789ab",
        "sweep_kind": "data_quantity",
        "question": "How few training sequences does hyperfitting need at a constant number of updates?",
        "source": "section 6.3, Figure 5 (right)",
        "options": {"model": "pydoc-1m", "dataset": "pydoc", "samples": list(samples), "plan": False},
        "trials": [trial_id(number) for number in samples],
        "failed": {},
        "evaluations": [
            {
                "who": "original" if number is None else "trained",
                "trial_id": None if number is None else trial_id(number),
                "evaluation_id": evaluation_id(number, decoding),
                "decoding": decoding,
                "domain": "pydoc",
            }
            for number in subjects
            for decoding in decodings
        ],
        "launches": [
            {
                "started_at": clock(0),
                "finished_at": clock(6),
                "command": "sweeps/data_quantity.py",
                "reused": 0,
                "ran": len(samples),
                "git_commit": "0123456789abcdef0123456789abcdef01234567",
            }
        ],
        "rows": [truth, *(summary_row(number, decoding) for number in subjects for decoding in decodings)],
        "first_trained_by": {},
        **changes,
    }


def write_report(storage: Storage, sweep: dict[str, Any]) -> Path:
    """The files that the end of a sweep leaves in its folder."""
    folder = storage.folder("sweeps", sweep["id"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps({"rows": sweep["rows"]}))
    (folder / "table.txt").write_text("arm samples\n")
    (folder / "plot.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def write_all(
    storage: Storage, samples: tuple[int, ...] = (8, 32, 128), decodings: tuple[str, ...] = ("greedy",)
) -> dict[str, Any]:
    """Everything of a finished sweep; returns its record, which is in storage too."""
    for place, number in enumerate(samples):
        write_trial(storage, number, minute=1 + place)
    for number in (None, *samples):
        for decoding in decodings:
            write_evaluation(storage, number, decoding)
    sweep = sweep_record(samples, decodings)
    write_report(storage, sweep)
    storage.write("sweeps", sweep["id"], sweep)
    return sweep

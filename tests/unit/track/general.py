"""Records of a sweep with several models and domains, arms, weights kept along training and matched originals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from rayfit.records.storage import Storage, write_parquet
from tests.unit.track.samples import UPDATES, VERSIONS, clock, sweep_record, write_report, write_trial

TEXT_SCORES = ("ttr_last_96", "rep_4", "self_bleu_mean")
PREDICTED = ("validation_loss", "entropy_nats")
COMPARED = ("top_1_agreement", "original_rank_not_1_share", "matched_temperature")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How large the sweep is. `trials`: of each model; the arms take turns."""

    models: tuple[str, ...] = ("pydoc-1m", "pydoc-2m")
    domains: tuple[str, ...] = ("code", "docs")
    decodings: tuple[str, ...] = ("greedy", "nucleus")
    arms: tuple[str, ...] = ("constant updates", "constant epochs")
    trials: int = 2
    kept: tuple[int, ...] = (100, 200)
    further: int = 1000
    text_scores: tuple[str, ...] = TEXT_SCORES


def value(*parts: object) -> float:
    """A number of its own for every measurement, the same each time."""
    return sum((place + 1) * ord(letter) for place, letter in enumerate("/".join(map(str, parts)))) / 1e6


def trial_ids(shape: Shape, model: str) -> list[str]:
    return [
        f"{model}-{text_of(shape, number)}-n{8 * (number + 1)}-{number:012x}"
        for number in range(shape.trials)
    ]


def text_of(shape: Shape, number: int) -> str:
    return shape.domains[number % len(shape.domains)]


def entries(shape: Shape) -> Iterator[dict[str, Any]]:
    """As a sweep's record lists them: the originals, then each trial's, its matched original last."""
    for model in shape.models:
        for domain in shape.domains:
            for decoding in shape.decodings:
                for further in (0, shape.further) if shape.further else (0,):
                    yield _entry(model, None, None, decoding, domain, further)
        for trial in trial_ids(shape, model):
            for update in (*shape.kept, None):
                for domain in shape.domains:
                    for decoding in shape.decodings:
                        yield _entry(model, trial, update, decoding, domain, 0)
                        if shape.further and update is None:
                            yield _entry(model, trial, update, decoding, domain, shape.further)
            for domain in shape.domains:
                yield {**_entry(model, None, None, f"matched-{trial}", domain, 0), "decoding": "matched"} | {
                    "matched_to": trial
                }


def _entry(
    model: str, trial: str | None, update: int | None, decoding: str, domain: str, further: int
) -> dict[str, Any]:
    subject = f"{trial or model}{'' if update is None else f'-at{update}'}"
    entry: dict[str, Any] = {
        "who": "original" if trial is None else "trained",
        "model": model,
        "trial_id": trial,
        "update": update,
        "decoding": decoding,
        "domain": domain,
        "evaluation_id": f"{subject}-{decoding}-{domain}{f'-further{further}' if further else ''}",
        "predictions_id": None if further else f"{subject}-on-{domain}",
    }
    return {**entry, "further": further} if further else entry


def comparisons(shape: Shape) -> list[dict[str, Any]]:
    return [
        {"comparison_id": f"{trial}-beside-{domain}", "trial_id": trial, "domain": domain}
        for model in shape.models
        for trial in trial_ids(shape, model)
        for domain in shape.domains
    ]


def write_general(storage: Storage, shape: Shape | None = None) -> dict[str, Any]:
    """Everything of the finished sweep; returns its record, which is in storage too."""
    shape = shape or Shape()
    for model in shape.models:
        for number, trial in enumerate(trial_ids(shape, model)):
            write_trained(storage, shape, model, number, trial)
    for entry in entries(shape):
        write_evaluated(storage, shape, entry)
    for entry in comparisons(shape):
        _write_measured(storage, "comparisons", entry["comparison_id"], COMPARED, entry["trial_id"])
    sweep = general_record(shape)
    folder = write_report(storage, sweep)
    (folder / "figures").mkdir(exist_ok=True)
    for name in ("report.html", "results.csv", "figures/figure-1-agreement.png", "figures/notes.txt"):
        (folder / name).write_text(name)
    storage.write("sweeps", sweep["id"], sweep)
    return sweep


def write_trained(storage: Storage, shape: Shape, model: str, number: int, trial: str) -> dict[str, Any]:
    """A trial's record."""
    return write_trial(
        storage,
        8 * (number + 1),
        minute=1 + number,
        identifier=trial,
        readable=trial[:-13],
        model={"name": model, "kind": "made", "parameters": 1_000_000, "weights_sha256": "a" * 64},
        text=text_of(shape, number),
        adapter="lora:rank=4" if number else None,
        trainable_parameters=1_000_000 // (number + 1),
        updates_trained=UPDATES,
        stop_at_train_loss=None,
    )


def write_evaluated(storage: Storage, shape: Shape, entry: dict[str, Any]) -> dict[str, Any]:
    """The evaluation of an entry, and the predictions that it takes scores from."""
    predictions = entry["predictions_id"]
    if predictions:
        storage.write("predictions", predictions, {"scores": dict.fromkeys(PREDICTED), "id": predictions})
    identifier = entry["evaluation_id"]
    texts = pl.DataFrame({"generation": [identifier]})
    write_parquet(storage.folder("evaluations", identifier) / "generations.parquet", texts)
    names = shape.text_scores + (PREDICTED if predictions else ())
    about = {"matched_to_edition": 1} if "matched_to" in entry else {}
    return _write_measured(storage, "evaluations", identifier, names, entry["trial_id"], predictions, **about)


def _write_measured(
    storage: Storage,
    kind: str,
    identifier: str,
    names: tuple[str, ...],
    trial: str | None,
    predictions: str | None = None,
    **about: Any,
) -> dict[str, Any]:
    trained = None if trial is None else storage.read("trials", trial)
    scores = {}
    for name in names:
        number = value(predictions if name in PREDICTED else identifier, name)
        scores[name] = {
            "value": number,
            "low": number - 0.1,
            "high": number + 0.1,
            "count": 9,
            "reason": None,
        }
    record = {
        "id": identifier,
        "kind": kind[:-1],
        "scores": scores,
        "checkpoint_weights_sha256": trained["weights_sha256"] if trained else "a" * 64,
        "eval_precision": "fp32",
        "finished_at": clock(30),
        "seconds": {"total": 2.0},
        "versions": VERSIONS,
        **({"generations": "generations.parquet"} if kind == "evaluations" else {}),
        **about,
    }
    storage.write(kind, identifier, record)
    return record


def general_record(shape: Shape) -> dict[str, Any]:
    """The sweep's record at its end."""
    trials = [trial for model in shape.models for trial in trial_ids(shape, model)]
    arms = {name: trials[place :: len(shape.arms)] for place, name in enumerate(shape.arms)}
    # as a trial may stand in two arms
    arms[shape.arms[0]] += arms[shape.arms[-1]][:1]
    return sweep_record(
        id="general-0123456789ab",
        trials=trials,
        arms=arms,
        evaluations=list(entries(shape)),
        comparisons=comparisons(shape),
        figures=[{"kind": "bars", "y": "rep_4"}, {"kind": "agreement"}],
        options={"model": list(shape.models), "eval_datasets": list(shape.domains), "fresh": False},
        rows=_rows(shape),
    )


def _rows(shape: Shape) -> list[dict[str, Any]]:
    rows = []
    for entry in entries(shape):
        if entry.get("further"):
            continue
        trial = entry.get("matched_to") or entry["trial_id"]
        row: dict[str, Any] = {
            "who": entry["who"],
            "arm": "matched" if "matched_to" in entry else None,
            "status": "FINISHED",
            "trial_id": trial,
            "minutes": 0.5 if entry["update"] is None else None,
            "intervals": {},
            **{name: entry[name] for name in ("model", "update", "decoding", "domain")},
        }
        if entry["trial_id"]:
            number = trial_ids(shape, entry["model"]).index(entry["trial_id"])
            row |= {"samples": 8 * (number + 1), "updates": entry["update"] or UPDATES, "seed": 0}
            row |= {"train_text": text_of(shape, number), "learning_rate": 3e-3, "batch_size": 8}
        rows.append({**row, **{name: value(entry["evaluation_id"], name) for name in shape.text_scores}})
    return rows + [
        _pooled(row) for row in rows if row["domain"] == shape.domains[0] and len(shape.domains) > 1
    ]


def _pooled(row: dict[str, Any]) -> dict[str, Any]:
    numbers = {
        "ttr_last_96": value("pooled", row["trial_id"], row["decoding"], row["update"]),
        "entropy_nats": 1.5,
    }
    return {**row, **numbers, "domain": "pooled", "minutes": None, "intervals": {"ttr_last_96": [0.25, 0.75]}}

"""The evaluations of a sweep as its runs show them: whose they are, their scores' names, their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rayfit.identity import slug
from rayfit.records.storage import RECORD, Storage
from rayfit.track.content import Point, latest, milliseconds, points, valid_key

PLAIN = "greedy"
MATCHED = "original_matched"
COMPARED = "beside-original"
# what stands before the slash is a group of its own in MLflow's charts
INTERVAL = "interval"
_LENGTH = "num_new_tokens="
# columns of the summary that were chosen and not measured: parameters of the run
_DECLARED = (
    *("update", "updates", "num_updates", "samples", "epochs", "learning_rate", "batch_size", "seed"),
    *("order_seed", "repeat", "stop_at_train_loss", "early_stopped", "hyperfitted"),
)
POOLED = "pooled"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One entry of a sweep's evaluations or comparisons. `record` is None while it is not finished.

    `prefix` stands before its scores' names: empty for plain greedy decoding, else the decoding's short name,
    and the domain behind it when the sweep measures in several; `original_matched` first for the original model
    sampled at the temperature that a trial gives it, which belongs to that trial. `update` is that of weights kept
    along training. `label` names its files.
    """

    trial_id: str | None
    model: str | None = None
    update: int | None = None
    decoding: str
    domain: str
    folder: Path
    prefix: tuple[str, ...]
    label: str
    record: dict[str, Any] | None

    def score_points(self, step: int) -> list[Point]:
        """Its scores at `step`, or at its own update: `name`, `interval/name.low` and `interval/name.high`."""
        if self.record is None:
            return []
        step = step if self.update is None else self.update
        values: dict[str, Any] = {}
        for name, score in self.record.get("scores", {}).items():
            key = valid_key(*self.prefix, name)
            values[key] = score.get("value")
            if score.get("value") is not None:
                values |= {
                    f"{INTERVAL}/{key}.low": score.get("low"),
                    f"{INTERVAL}/{key}.high": score.get("high"),
                }
        return points(values, milliseconds(self.record.get("finished_at")) or 0, step)

    def files(self) -> dict[str, Path]:
        """Its record and its generations, as artifacts."""
        if self.record is None:
            return {}
        found = {f"evaluations/{self.label}.json": self.folder / RECORD}
        if generations := self.record.get("generations"):
            found[f"generations/{self.label}.parquet"] = self.folder / generations
        return {path: file for path, file in found.items() if file.is_file()}


def read_evaluations(storage: Storage, sweep: Mapping[str, Any]) -> list[Evaluation]:
    """Every evaluation that a sweep's record names, with what storage holds of it."""
    # Contexts beyond the usual ones are for one histogram: their scores would stand under the same names.
    entries = [entry for entry in sweep.get("evaluations", []) if not entry.get("further")]
    domains = {entry["domain"] for entry in entries} | set(
        sweep.get("options", {}).get("eval_datasets") or ()
    )
    short = short_names(sweep)
    found = []
    for entry in entries:
        decoding, domain = short[entry["decoding"]], entry["domain"]
        behind = (domain,) if len(domains) > 1 else ()
        own = entry.get("trial_id") if entry["arm"] != "original" else entry.get("matched_to")
        prefix = () if decoding == PLAIN else (decoding,)
        if entry.get("matched_to"):
            prefix = (MATCHED,)
        at = () if entry.get("update") is None else (f"at {entry['update']}",)
        evaluation = Evaluation(
            trial_id=own,
            model=entry.get("model"),
            update=entry.get("update"),
            decoding=entry["decoding"],
            domain=domain,
            folder=storage.folder("evaluations", entry["evaluation_id"]),
            prefix=prefix + behind,
            label=slug("-".join((decoding, *behind, *at))),
            record=storage.read("evaluations", entry["evaluation_id"]),
        )
        found.append(evaluation)
    return found + [
        _comparison(storage, entry, several=len(domains) > 1) for entry in sweep.get("comparisons", [])
    ]


def _comparison(storage: Storage, entry: Mapping[str, Any], *, several: bool) -> Evaluation:
    """A trial beside its original, as one more set of scores of the trial."""
    behind = (entry["domain"],) if several else ()
    return Evaluation(
        trial_id=entry["trial_id"],
        decoding=COMPARED,
        domain=entry["domain"],
        folder=storage.folder("comparisons", entry["comparison_id"]),
        prefix=behind,
        label=slug("-".join((COMPARED, *behind))),
        record=storage.read("comparisons", entry["comparison_id"]),
    )


def short_names(sweep: Mapping[str, Any]) -> dict[str, str]:
    """A sweep's decodings without the number of tokens, where that is the same for all; `greedy` is plain.

    >>> short_names({"evaluations": [{"decoding": "nucleus:top_p=0.8,num_new_tokens=96"}]})
    {'nucleus:top_p=0.8,num_new_tokens=96': 'nucleus:top_p=0.8'}
    """
    names = list(dict.fromkeys(entry["decoding"] for entry in sweep.get("evaluations", [])))
    lengths = {next((part for part in _settings(name) if part.startswith(_LENGTH)), "") for name in names}
    if len(lengths) > 1:
        return {name: name for name in names}
    short = {}
    for name in names:
        kept = [part for part in _settings(name) if not part.startswith(_LENGTH)]
        short[name] = ":".join(part for part in (name.partition(":")[0], ",".join(kept)) if part)
    return short


def _settings(decoding: str) -> list[str]:
    return [part for part in decoding.partition(":")[2].split(",") if part]


def evaluations_of(
    evaluations: list[Evaluation],
    trial_id: str | None,
    weights_sha256: str | None = None,
    model: str | None = None,
) -> list[Evaluation]:
    """Those of one trial; of the original model for None, and then of `model` where there are several.

    An evaluation of other weights than `weights_sha256` counts as not done: it is of the training before. The
    original's at a matched temperature are of weights of its own.
    """
    own = [entry for entry in evaluations if entry.trial_id == trial_id and model in (None, entry.model)]
    return [entry if _is_of(entry, weights_sha256) else replace(entry, record=None) for entry in own]


def is_complete(own: list[Evaluation]) -> bool:
    """Whether everything that the sweep measures of a trial, or of an original model, is recorded."""
    return bool(own) and all(entry.record for entry in own)


def rows_of(
    sweep: Mapping[str, Any], trial_id: str | None, model: str | None = None
) -> list[Mapping[str, Any]]:
    """The summary's rows of one trial; of the original model for None, and then of `model` where there are several.

    Rows of weights kept along training are left out: their numbers stand in their evaluations.
    """
    rows = [row for row in sweep.get("rows", []) if row.get("update") is None]
    if trial_id is None:
        own = [row for row in rows if row.get("arm") == "original" and row.get("trial_id") is None]
        return [row for row in own if model in (None, row.get("model"))]
    return [row for row in rows if row.get("trial_id") == trial_id and row.get("arm") != "original"]


def error_of(sweep: Mapping[str, Any], trial_id: str | None, model: str | None = None) -> str | None:
    """Why a trial failed (the original model for None), in training or, as its row says, in evaluation."""
    if error := sweep.get("failed", {}).get("original" if trial_id is None else trial_id):
        return str(error)
    failed = [row for row in rows_of(sweep, trial_id, model) if row.get("status") == "FAILED"]
    return str(failed[0].get("reason") or "unknown") if failed else None


def row_points(rows: list[Mapping[str, Any]], own: list[Evaluation], time: int, step: int) -> list[Point]:
    """The numbers of the summary's rows, under the names of their scores.

    What is the same under every decoding (minutes and the like) is taken once, from the row without a prefix.
    """
    found: list[Point] = []
    prefixes = {(entry.decoding, entry.domain): entry.prefix for entry in own}
    plain = {decoding: prefix[:-1] for (decoding, _), prefix in prefixes.items() if prefix}
    for row in rows:
        prefix = prefixes.get((str(row.get("decoding")), str(row.get("domain"))))
        if row.get("domain") == POOLED:
            prefix = (*plain.get(str(row.get("decoding")), ()), POOLED)
        if prefix is None:
            continue
        names = [
            name
            for name in row
            if name not in _DECLARED and (not prefix or name.startswith("original_") or prefix[-1] == POOLED)
        ]
        found += points({valid_key(*prefix, name): row[name] for name in names}, time, step)
    return found


def _is_of(entry: Evaluation, weights_sha256: str | None) -> bool:
    if entry.prefix[:1] == (MATCHED,):
        return True
    evaluated = (entry.record or {}).get("checkpoint_weights_sha256")
    return weights_sha256 is None or evaluated is None or evaluated == weights_sha256


def last_finished(evaluations: list[Evaluation]) -> int | None:
    """When the last of them was done, in milliseconds."""
    return latest(milliseconds(entry.record.get("finished_at")) for entry in evaluations if entry.record)


def named_files(evaluations: list[Evaluation]) -> dict[str, Path | str]:
    """The artifacts of all of them."""
    return {path: file for entry in evaluations for path, file in entry.files().items()}

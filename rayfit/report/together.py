"""What only several evaluations say together: pooled domains, paired differences, who chooses alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from rayfit.columns import (
    POOLED,
    columns_of_evaluations,
    columns_of_rows,
    names,
    seed_columns,
    telling_columns,
)
from rayfit.records.frames import generated_texts, prediction_texts
from rayfit.records.storage import Storage
from rayfit.report.labels import label, telling, varies
from rayfit.report.rows import Row, add_scores, is_finished, is_original, is_trained, is_truth, value
from rayfit.score.agreement import agreement_matrix
from rayfit.score.arm import pool_scores
from rayfit.score.predictions import prediction_scores, stored_choices
from rayfit.score.statistics import paired_differences

# Compared between arms, context by context.
COMPARED = ("ttr_last_96", "rep_4")

# Of one evaluation, or counted once for each.
_NOT_POOLED = ("evaluation_id", "predictions_id", "minutes", "overhead_seconds")


def pooled_rows(rows: Sequence[Row], storage: Storage) -> list[Row]:
    """One row more for each that was evaluated on several domains: all its texts together.

    Self-BLEU is computed over all of them; losses, which are of each domain's own validation rows, stay null. The true
    continuations have no such row.
    """
    chosen = ("who", "declared", "seed")
    same = ["trial_id", *names(lambda each: each.role in chosen and each.of != "domain")]
    shared = names(lambda each: each.role in (*chosen, "about") and each.name not in _NOT_POOLED)
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if not is_truth(row):
            groups.setdefault(tuple(value(row, name) for name in same), []).append(row)
    domains = {value(row, "domain") for row in rows}
    pooled = []
    for group in groups.values():
        if len(group) < 2 or {value(row, "domain") for row in group} != domains:
            continue
        row = {**dict.fromkeys(columns_of_rows()), **{name: value(group[0], name) for name in shared}}
        row |= {"domain": POOLED, "intervals": {}}
        if not all(is_finished(other) for other in group):
            row |= {"status": "PENDING", "reason": "not every domain was evaluated"}
        else:
            add_scores(row, _pooled_scores(group, storage))
        pooled.append(row)
    return pooled


def _pooled_scores(group: Sequence[Row], storage: Storage) -> dict[str, dict[str, Any]]:
    texts = [generated_texts(storage, value(row, "evaluation_id")) for row in group]
    predictions = [prediction_texts(storage, value(row, "predictions_id")) for row in group]
    scores = pool_scores([frame for frame in texts if frame is not None])
    return {**scores, **prediction_scores([frame for frame in predictions if frame is not None])}


def differences(rows: Sequence[Row], storage: Storage) -> list[dict[str, Any]]:
    """Paired differences `a` - `b` of the scores in `COMPARED`, on the same contexts, with 95% intervals.

    Every trial's final weights against its original model under the same decoding (without a blocker), and against
    the first trial of the same model with the same seeds, or where there is none the first of all. Trials that
    differ in nothing but seeds are not compared.
    """
    trained = [row for row in rows if is_trained(row) and value(row, "update") is None]
    columns = _naming(trained)
    found = []
    for row, other in _pairs(rows):
        frames = [_texts_of(one, storage) for one in (row, other)]
        if frames[0] is None or frames[1] is None:
            continue
        about = {
            "model": value(row, "model"),
            "domain": value(row, "domain"),
            "decoding": value(row, "decoding"),
            "a": label(row, columns),
            "b": label(other, columns),
            "a_trial": value(row, "trial_id"),
            "b_trial": value(other, "trial_id"),
        }
        found += [{**about, **entry} for entry in paired_differences(frames[0], frames[1], COMPARED)]
    return found


def _texts_of(row: Row, storage: Storage) -> pl.DataFrame | None:
    """A row's generations under the row's name of their domain: prompts may have been evaluated under another file's."""
    frame = generated_texts(storage, value(row, "evaluation_id"))
    return None if frame is None else frame.with_columns(domain=pl.lit(value(row, "domain")))


def _naming(trained: Sequence[Row]) -> list[str]:
    """The columns that name each trial, seeds only where nothing else tells two of them apart."""
    columns = telling(trained, but=columns_of_evaluations())
    labels = {(label(row, columns), value(row, "trial_id")) for row in trained}
    if len({text for text, _ in labels}) == len(labels):
        return columns
    seeds = [name for name in seed_columns() if varies(trained, name)]
    # Replicates have sample and order seed in common, and one of them says it.
    return [
        *columns,
        *(seeds if any(value(row, "seed") != value(row, "order_seed") for row in trained) else ["seed"]),
    ]


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    measured = [row for row in rows if value(row, "evaluation_id") and is_finished(row)]
    own = [row for row in measured if is_trained(row) and value(row, "update") is None]
    for row in own:
        place = (value(row, "model"), value(row, "domain"))
        for other in measured:
            same = (value(other, "model"), value(other, "domain")) == place
            is_plain = is_original(other) and value(other, "arm") is None
            if same and is_plain and value(other, "decoding") == value(row, "baseline_decoding"):
                yield row, other
        others = [
            other
            for other in own
            if (value(other, "model"), value(other, "domain"), value(other, "decoding"))
            == (*place, value(row, "decoding"))
        ]
        alike = next(
            other
            for other in others
            if all(value(other, name) == value(row, name) for name in seed_columns())
        )
        first = others[0] if alike["trial_id"] == value(row, "trial_id") else alike
        if any(value(first, name) != value(row, name) for name in telling_columns()):
            yield row, first


def agreement(rows: Sequence[Row], storage: Storage) -> dict[str, Any] | None:
    """Share of positions, over all texts of all domains, at which two checkpoints of one model choose the same token.

    The first model's original stands first, then the final weights of its trials (the paper's Figure 5, left). None
    where fewer than two are there.
    """
    model = rows[0]["model"]
    subjects: dict[str, list[Row]] = {}
    for row in rows:
        final = not is_truth(row) and value(row, "update") is None
        if value(row, "model") == model and final and value(row, "predictions_id") and is_finished(row):
            subjects.setdefault(value(row, "trial_id") if is_trained(row) else "", []).append(row)
    # Only those that were measured on the same texts can be compared: all of them, once the sweep is done.
    domains = {value(row, "domain") for own in subjects.values() for row in own}
    subjects = {key: own for key, own in subjects.items() if {value(row, "domain") for row in own} == domains}
    if len(subjects) < 2:
        return None
    trained = [own[0] for own in subjects.values() if is_trained(own[0])]
    columns = _naming(trained)
    choices = [_choices(own, storage) for own in subjects.values()]
    matrix, num_positions = agreement_matrix(choices)
    return {
        "model": model,
        "labels": [label(own[0], columns) for own in subjects.values()],
        "trials": [key or None for key in subjects],
        "matrix": matrix.tolist(),
        "num_positions": num_positions,
    }


def _choices(own: Sequence[Row], storage: Storage) -> Any:
    """The choices of one checkpoint over the texts of all domains, one text after another."""
    import numpy as np

    found = []
    for identifier in dict.fromkeys(value(row, "predictions_id") for row in own):
        frame = prediction_texts(storage, identifier)
        assert frame is not None
        found.append(stored_choices(frame))
    return np.concatenate(found)

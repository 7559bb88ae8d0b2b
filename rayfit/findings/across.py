"""What only several measurements say together: pooled domains, paired differences, who chooses alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl

from rayfit.columns import (
    ORIGINAL,
    POOLED,
    TRAINED,
    TRUTH,
    columns_of_evaluations,
    names,
    seed_columns,
    telling_columns,
)
from rayfit.findings.labels import label, telling
from rayfit.records.frames import PREDICTIONS, SCORES, prediction_texts, scored_texts
from rayfit.records.storage import Storage
from rayfit.records.sweep import Agreement, Difference, Row
from rayfit.records.values import Entry
from rayfit.score.agreement import agreement_matrix
from rayfit.score.arm import pool_scores
from rayfit.score.predictions import prediction_scores, stored_choices
from rayfit.score.statistics import paired_differences

# Compared between rows, context by context.
COMPARED = ("ttr_last_96", "rep_4")


def pooled_rows(rows: Sequence[Row], storage: Storage) -> list[Row]:
    """One row more for each that was evaluated on several domains: all its texts together.

    Self-BLEU is computed over all of them; losses, which are of each domain's own validation rows, stay null. The true
    continuations have no such row.
    """
    # What was chosen, and of which weights: all but the domain, and but what was measured.
    alike = [
        name for name in names(lambda each: each.role in ("who", "declared", "seed")) if name != "domain"
    ]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row.who != TRUTH:
            groups.setdefault((row.trial_id, *(row.value(name) for name in alike)), []).append(row)
    domains = {row.domain for row in rows}
    pooled = []
    for group in groups.values():
        if len(group) < 2 or {row.domain for row in group} != domains:
            continue
        # Everything but what is of one domain, or was counted there.
        one_domain: dict[str, Any] = {
            "measurements": {},
            "scores": {},
            "minutes": None,
            "overhead_seconds": None,
        }
        row = msgspec.structs.replace(group[0], domain=POOLED, **one_domain)
        if all(other.is_finished for other in group):
            row = msgspec.structs.replace(row, scores=_pooled_scores(group, storage))
        else:
            row = msgspec.structs.replace(row, status="PENDING", reason="not every domain was evaluated")
        pooled.append(row)
    return pooled


def _pooled_scores(group: Sequence[Row], storage: Storage) -> dict[str, Entry]:
    texts = [scored_texts(storage, row.measurements.get(SCORES)) for row in group]
    predictions = [prediction_texts(storage, row.measurements.get(PREDICTIONS)) for row in group]
    scores = pool_scores([frame for frame in texts if frame is not None])
    return {**scores, **prediction_scores([frame for frame in predictions if frame is not None])}


def differences(rows: Sequence[Row], storage: Storage) -> list[Difference]:
    """Paired differences `a` - `b` of the scores in `COMPARED`, on the same contexts, with 95% intervals.

    Every trial's final weights against its original model under the same decoding (without a blocker), and against
    the first trial of the same model with the same seeds, or where there is none the first of all. Trials that
    differ in nothing but seeds are not compared.
    """
    columns = _naming([row for row in rows if row.who == TRAINED and row.update is None])
    found = []
    for row, other in _pairs(rows):
        a, b = (_texts_of(one, storage) for one in (row, other))
        if a is None or b is None:
            continue
        found += [
            Difference(
                model=row.model,
                domain=row.domain,
                decoding=row.decoding,
                a=label(row, columns),
                b=label(other, columns),
                a_trial=row.trial_id,
                b_trial=other.trial_id,
                score=score,
                entry=entry,
            )
            for score, entry in paired_differences(a, b, COMPARED).items()
        ]
    return found


def _texts_of(row: Row, storage: Storage) -> pl.DataFrame | None:
    """A row's texts under the row's name of their domain: prompts may have been generated from under another file's."""
    frame = scored_texts(storage, row.measurements.get(SCORES))
    return None if frame is None else frame.with_columns(domain=pl.lit(row.domain))


def _naming(trained: Sequence[Row]) -> list[str]:
    """The columns that name each trial, seeds only where nothing else tells two of them apart."""
    columns = telling(trained, but=columns_of_evaluations())
    named = {(label(row, columns), row.trial_id) for row in trained}
    if len({name for name, _ in named}) == len(named):
        return columns
    seeds = [name for name in seed_columns() if len({row.value(name) for row in trained}) > 1]
    # Replicates have sample and order seed in common, and one of them says it.
    return [*columns, *(seeds if any(row.seed != row.order_seed for row in trained) else ["seed"])]


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """Each trial's row with those it is compared with. Rows are looked up, not searched: there may be thousands."""
    measured = [row for row in rows if row.is_finished and SCORES in row.measurements]
    originals: dict[tuple[str, str, str | None], list[Row]] = {}
    alike: dict[tuple[Any, ...], list[Row]] = {}
    first: dict[tuple[Any, ...], Row] = {}
    own = [row for row in measured if row.who == TRAINED and row.update is None]
    for row in measured:
        if row.who == ORIGINAL and row.trial_id is None:
            originals.setdefault((row.model, row.domain, row.decoding), []).append(row)
    for row in own:
        place = (row.model, row.domain, row.decoding)
        first.setdefault(place, row)
        alike.setdefault((*place, *_seeds(row)), []).append(row)
    for row in own:
        for other in originals.get((row.model, row.domain, row.baseline_decoding), ()):
            yield row, other
        place = (row.model, row.domain, row.decoding)
        same_seeds = alike[(*place, *_seeds(row))][0]
        other = first[place] if same_seeds.trial_id == row.trial_id else same_seeds
        if any(other.value(name) != row.value(name) for name in telling_columns()):
            yield row, other


def _seeds(row: Row) -> tuple[Any, ...]:
    return tuple(row.value(name) for name in seed_columns())


def agreement(rows: Sequence[Row], storage: Storage) -> Agreement | None:
    """Share of positions, over all texts of all domains, at which two checkpoints of one model choose the same token.

    The first model's original stands first, then the final weights of its trials (the paper's Figure 5, left). None
    where fewer than two are there.
    """
    model = rows[0].model
    subjects: dict[str, list[Row]] = {}
    for row in rows:
        final = row.who != TRUTH and row.update is None
        if row.model == model and final and row.is_finished and PREDICTIONS in row.measurements:
            subjects.setdefault(str(row.trial_id) if row.who == TRAINED else "", []).append(row)
    # Only those that were measured on the same texts can be compared: all of them, once the sweep is done.
    domains = {row.domain for own in subjects.values() for row in own}
    subjects = {key: own for key, own in subjects.items() if {row.domain for row in own} == domains}
    if len(subjects) < 2:
        return None
    columns = _naming([own[0] for own in subjects.values() if own[0].who == TRAINED])
    matrix, num_positions = agreement_matrix([_choices(own, storage) for own in subjects.values()])
    return Agreement(
        model=model,
        labels=tuple(label(own[0], columns) for own in subjects.values()),
        trials=tuple(key or None for key in subjects),
        matrix=tuple(map(tuple, matrix.tolist())),
        num_positions=num_positions,
    )


def _choices(own: Sequence[Row], storage: Storage) -> np.ndarray:
    """The choices of one checkpoint over the texts of all domains, one text after another."""
    found = []
    for identifier in dict.fromkeys(row.measurements[PREDICTIONS] for row in own):
        frame = prediction_texts(storage, identifier)
        assert frame is not None
        found.append(stored_choices(frame))
    return np.concatenate(found)

"""The record of a measurement, of whatever kind: what was measured, from what, with which scores and files."""

from __future__ import annotations

from typing import Any

from rayfit.records.values import Entry, Value, Who

Setting = str | int | float | bool | None


class MeasurementRecord(Value, frozen=True, kw_only=True):
    """One finished measurement.

    `kind` and `version` are its stage's. `who`, `model` (its name), `trial_id`, `update` (null for final weights): of
    what; `domain`: on which text, or which prompts; `decoding`: of generated texts, null where none was generated.
    `matched_to`: the trial whose entropy a matched decoding of the original has. `weights_sha256` and `edition`: of the
    weights that were measured, null for an original that nobody could make differently.

    `inputs`: by id of the measurements it was computed from, their `content` at the time. `made_with`: what decides its
    numbers and is in no id, such as the number of validation rows. `about`: what else is worth knowing. `scores` by
    name; `series`: curves and histograms; `files`: file names in its folder by what they hold. `content`: a digest of the
    files, or of the scores where there are none; what was computed from it is current as long as that is the same.
    `seconds`: wall time.
    """

    id: str
    kind: str
    version: int
    who: Who
    model: str
    trial_id: str | None
    update: int | None
    domain: str
    decoding: str | None
    matched_to: str | None
    weights_sha256: str | None
    edition: int | None
    inputs: dict[str, str]
    made_with: dict[str, Setting]
    about: dict[str, Setting]
    scores: dict[str, Entry]
    series: dict[str, Any]
    files: dict[str, str]
    content: str
    seconds: float
    finished_at: str
    versions: dict[str, str]
    git_commit: str | None

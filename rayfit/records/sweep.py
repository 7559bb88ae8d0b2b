"""The record of a sweep: what it declares, its trials and measurements, its launches, and its rows."""

from __future__ import annotations

from typing import Any

import msgspec

from rayfit.records.values import Entry, Status, Value, Who
from rayfit.scores import Score


class LaunchSeconds(Value, frozen=True, kw_only=True):
    """Wall seconds of a launch's parts, which follow each other and add up; null where there was nothing of it, or not yet.

    `preparing`: reading, cutting, models; Ray starts beside it. `ray`: waiting for Ray. `first_group`: until workers ask
    for their first trial. `first_update`: until the first trial is measured as it begins, and its updates start.
    `training`: until the last trial's end, with the measuring beside it. `measuring`: what is left of it then. `report`:
    rows, pictures, pages. `mlflow`: telling MLflow what it has not been told while the sweep ran.
    """

    preparing: float | None = None
    ray: float | None = None
    first_group: float | None = None
    first_update: float | None = None
    training: float | None = None
    measuring: float | None = None
    report: float | None = None
    mlflow: float | None = None


class Launch(Value, frozen=True, kw_only=True):
    """One launch of a sweep. `finished_at` is null while it runs, and for good where it was killed."""

    started_at: str
    finished_at: str | None
    command: str
    reused: int
    ran: int
    git_commit: str | None
    seconds: LaunchSeconds = LaunchSeconds()


class PlannedMeasurement(Value, frozen=True, kw_only=True):
    """A measurement that belongs to a sweep, finished or not, and which rows it is of.

    `further`: how many contexts beyond the usual ones it is of; those are in no row.
    """

    kind: str
    id: str
    who: Who
    model: str
    trial_id: str | None
    update: int | None
    domain: str
    decoding: str | None
    matched_to: str | None = None
    further: int = 0


class PromptsUsed(Value, frozen=True, kw_only=True):
    """Prompts of one's own that were continued: rows whose domain is `name` are on them."""

    name: str
    count: int
    sha256: str


class Uses(Value, frozen=True, kw_only=True):
    """Ids of the made models, cut texts and token rows that a sweep stands on."""

    models: tuple[str, ...]
    texts: tuple[str, ...]
    rows: tuple[str, ...]


class Row(Value, frozen=True, kw_only=True):
    """One row of a sweep: a checkpoint, or the true continuations, under a decoding on a domain.

    `arm`: the declared arm of its trial, null where the sweep has none; of an original at a matched temperature, which
    trial it is matched to. `trial_id`: that of the trial, or of the one matched to. `baseline_decoding`: the one of the
    original model that it compares with. `reason`: why numbers are missing, or what to know of them. `measurements`: by
    kind the ids of those whose scores it has. `seed` is the sample seed. `minutes`: wall time of training, for originals
    of generating and scoring. What is not known or does not apply is null.
    """

    who: Who
    model: str
    domain: str
    status: Status = "FINISHED"
    reason: str | None = None
    arm: str | None = None
    train_text: str | None = None
    trial_id: str | None = None
    update: int | None = None
    decoding: str | None = None
    baseline_decoding: str | None = None
    samples: int | None = None
    updates: int | None = None
    epochs: float | None = None
    seed: int | None = None
    order_seed: int | None = None
    training_seed: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    adapter: str | None = None
    stop_at_train_loss: float | None = None
    repeat: int | None = None
    trainable_parameters: int | None = None
    hyperfitted: bool | None = None
    early_stopped: bool | None = None
    train_loss_floor: float | None = None
    minutes: float | None = None
    overhead_seconds: float | None = None
    measurements: dict[str, str] = msgspec.field(default_factory=dict)
    scores: dict[str, Entry] = msgspec.field(default_factory=dict)

    def value(self, name: str) -> Any:
        """What stands in a column: a field of the row, or the value of a score; None where there is none."""
        if name in self.scores:
            return self.scores[name].value
        return getattr(self, name) if name in ROW_FIELDS else None

    def bounds(self, name: str) -> tuple[float, float] | None:
        """The 95% interval of a score, or None."""
        entry = self.scores.get(name)
        return None if entry is None or entry.low is None or entry.high is None else (entry.low, entry.high)

    @property
    def is_finished(self) -> bool:
        """True when everything that the row needs is there."""
        return self.status == "FINISHED"


ROW_FIELDS = tuple(name for name in Row.__struct_fields__ if name not in ("measurements", "scores"))


class Difference(Value, frozen=True, kw_only=True):
    """A paired difference `a` - `b` of one score over the same contexts, with its 95% interval."""

    model: str
    domain: str
    decoding: str | None
    a: str
    b: str
    a_trial: str | None
    b_trial: str | None
    score: str
    entry: Entry


class Agreement(Value, frozen=True, kw_only=True):
    """Share of positions at which two checkpoints of one model find the same token most probable.

    `trials`: null for the original, which stands first.
    """

    model: str
    labels: tuple[str, ...]
    trials: tuple[str | None, ...]
    matrix: tuple[tuple[float, ...], ...]
    num_positions: int


class SweepRecord(Value, frozen=True, kw_only=True):
    """One declared sweep at one scale, as launched last.

    `own_scores`: explained here, for they come from a kind of measurement that the sweep brings. `trials`: ids in the
    plan's order; `arms`: the trials of each declared arm, empty where there are none. `failed` and
    `failed_measurements`: errors by id. `alone`: options of which this launch has one value where the sweep compares
    several. `first_trained_by`: by trial, the other sweep that trained it first. `rows` are as they were when the last
    launch ended; while it runs, or after it was killed, they hold only what is declared, and
    `rayfit.findings.current` fills them from what is there.
    """

    id: str
    sweep_kind: str
    question: str
    source: str
    scale: str
    options: dict[str, Any]
    trials: tuple[str, ...]
    arms: dict[str, tuple[str, ...]]
    measurements: tuple[PlannedMeasurement, ...]
    uses: Uses
    figures: tuple[dict[str, Any], ...]
    scores: tuple[str, ...]
    own_scores: tuple[Score, ...]
    alone: dict[str, str]
    launches: tuple[Launch, ...]
    prompts: PromptsUsed | None
    tracking_uri: str
    rows: tuple[Row, ...]
    failed: dict[str, str] = msgspec.field(default_factory=dict)
    failed_measurements: dict[str, str] = msgspec.field(default_factory=dict)
    first_trained_by: dict[str, str] = msgspec.field(default_factory=dict)
    differences: tuple[Difference, ...] = ()
    agreement: Agreement | None = None

    @property
    def is_over(self) -> bool:
        """True when the last launch ended by itself or was interrupted, so that the rows are those of its end."""
        return bool(self.launches) and self.launches[-1].finished_at is not None

    def on_texts(self) -> list[Row]:
        """The rows on held-out contexts, without those on prompts."""
        return [row for row in self.rows if self.prompts is None or row.domain != self.prompts.name]

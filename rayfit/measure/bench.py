"""Where everything lies that a measurement needs: checkpoints, contexts, rows, and the measurements before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rayfit.plan.contexts import HeldOut
from rayfit.plan.measurements import Measurement, Subject
from rayfit.plan.trials import TrialSpec
from rayfit.prepare.made_models import base_weights
from rayfit.prepare.token_rows import ROWS, VALIDATION, contexts_file
from rayfit.records.measurement import MeasurementRecord
from rayfit.records.prepared import RowsRecord
from rayfit.records.storage import Storage
from rayfit.records.trial import checkpoint, weights
from rayfit.records.trials import product_path


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint to load: a Hugging Face directory, the precision it computes in, the device and CPU threads."""

    path: Path
    precision: str
    device: str
    num_threads: int


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What measuring stands on. `model_paths`: by name where original models lie. `mauve_model`: MAUVE's feature model.

    `part_contexts`: how many contexts one call continues, which is what is done again when a process dies.
    """

    storage: Storage
    model_paths: Mapping[str, Path]
    device: str
    num_threads: int = 1
    mauve_model: Path | None = None
    part_contexts: int = 128

    def checkpoint(self, spec: Measurement) -> Checkpoint:
        """The weights of a measurement's subject. Raises RayfitError where its trial has not left them."""
        return self._checkpoint(spec, spec.subject)

    def original(self, spec: Measurement) -> Checkpoint:
        """The original model of a measurement's subject."""
        return self._checkpoint(spec, spec.subject.original)

    def _checkpoint(self, spec: Measurement, subject: Subject) -> Checkpoint:
        path = self.model_paths[subject.model.name]
        if subject.trial is not None:
            record = self.storage.trial(subject.trial.id)
            dtype = spec.settings.export_dtype
            wanted = checkpoint(dtype) if subject.update is None else weights(subject.update, dtype)
            product = None if record is None else record.product(wanted.name)
            assert record is not None and product is not None  # measured when its trial has ended
            path = product_path(self.storage, record, product)
        return Checkpoint(
            path=path,
            precision=spec.settings.eval_precision,
            device=self.device,
            num_threads=self.num_threads,
        )

    def _rows_folder(self, spec: Measurement) -> Path:
        return self.storage.folder("rows", spec.settings.rows_id(spec.contexts, spec.subject.model))

    def contexts(self, spec: Measurement) -> pl.DataFrame:
        """The contexts, a row each: `token_ids` (with the true continuation, where there is one), `document`, `start`."""
        return pl.read_parquet(self._rows_folder(spec) / contexts_file(spec.contexts))

    def num_contexts(self, spec: Measurement) -> int:
        """How many contexts there are."""
        return self._rows(spec).counts[contexts_file(spec.contexts)]

    def contexts_fingerprint(self, spec: Measurement) -> str:
        """The fingerprint of the contexts' token ids."""
        return self._rows(spec).fingerprints[contexts_file(spec.contexts)]

    def bos_id(self, spec: Measurement) -> int | None:
        """The id that every row begins with, or None."""
        return self._rows(spec).bos_id

    def _rows(self, spec: Measurement) -> RowsRecord:
        record = self.storage.rows(spec.settings.rows_id(spec.contexts, spec.subject.model))
        assert record is not None  # made before anything is measured
        return record

    def validation(self, spec: Measurement) -> pl.DataFrame:
        """The held-out validation rows of the domain."""
        assert isinstance(spec.contexts, HeldOut)
        return pl.read_parquet(self._rows_folder(spec) / VALIDATION)

    def training_rows(self, trial: TrialSpec | None) -> pl.DataFrame | None:
        """The rows a trial was trained on; None for no trial."""
        if trial is None:
            return None
        return pl.read_parquet(self.storage.folder("rows", trial.rows_id) / ROWS)

    def record(self, spec: Measurement) -> MeasurementRecord | None:
        """The record of a measurement, or None."""
        return self.storage.measurement(spec.kind, spec.id)

    def input(self, spec: Measurement) -> MeasurementRecord:
        """The record of a measurement that was waited for."""
        found = self.record(spec)
        assert found is not None
        return found

    def frame(self, record: MeasurementRecord, name: str) -> pl.DataFrame:
        """A file of a measurement, by what it holds."""
        return pl.read_parquet(self.storage.folder(record.kind, record.id) / record.files[name])

    def weights_of(self, subject: Subject) -> tuple[str | None, int | None]:
        """The digest and the edition of a subject's weights as they are now.

        Both are None for a model that is not made here, whose files its id is of, and for a trial without a record.
        """
        return weights_of(subject, self.storage)


def weights_of(subject: Subject, storage: Storage) -> tuple[str | None, int | None]:
    """As `Bench.weights_of`."""
    if subject.trial is None:
        return base_weights(subject.model, storage), None
    record = storage.trial(subject.trial.id)
    return (None, None) if record is None else (record.weights_sha256, record.edition)

"""A sweep's findings as they are now: its rows, and what only several of them say together."""

from __future__ import annotations

import msgspec

from rayfit.findings.across import agreement, differences, pooled_rows
from rayfit.findings.join import join
from rayfit.records.storage import Storage
from rayfit.records.sweep import SweepRecord


def filled(record: SweepRecord, storage: Storage) -> SweepRecord:
    """The record with the numbers that are there by now, in the rows that it declares and across them."""
    rows = join(record, storage)
    record = msgspec.structs.replace(record, rows=rows)
    # As many pairs as the square of the checkpoints: only where it is shown.
    is_shown = "agreement" in {figure["kind"] for figure in record.figures}
    return msgspec.structs.replace(
        record,
        rows=(*rows, *pooled_rows(record.on_texts(), storage)),
        differences=tuple(differences(rows, storage)),
        agreement=agreement(rows, storage) if is_shown else None,
    )


def current(record: SweepRecord, storage: Storage) -> SweepRecord:
    """The record as it was when its last launch ended, or `filled` where that runs or was killed."""
    return record if record.is_over else filled(record, storage)

"""What a sweep's report and MLflow were made of last: a launch that found nothing to do makes neither again.

A launch that does nothing but look is in the sweep's record alone, not in its report and not in MLflow.
"""

from __future__ import annotations

import msgspec

from rayfit.identity import digest
from rayfit.records.codec import encode
from rayfit.records.storage import RECORD, SWEEPS, Storage, write_json
from rayfit.records.sweep import SweepRecord

_FILE = "told.json"


def remember_told(storage: Storage, record: SweepRecord, **told: str) -> None:
    """Keep words under names for as long as the sweep is as it is; what was kept of it as it was before is forgotten."""
    kept = told_of(storage, record) | told
    write_json(storage.folder(SWEEPS, record.id) / _FILE, {"state": _state(storage, record), "told": kept})


def told_of(storage: Storage, record: SweepRecord) -> dict[str, str]:
    """What is kept of the sweep as it is: its record without launches, and the records of its trials and measurements."""
    try:
        found = msgspec.json.decode((storage.folder(SWEEPS, record.id) / _FILE).read_bytes(), type=_Told)
    except (OSError, msgspec.DecodeError):
        return {}
    return found.told if found.state == _state(storage, record) else {}


class _Told(msgspec.Struct):
    state: str
    told: dict[str, str]


def _state(storage: Storage, record: SweepRecord) -> str:
    files = [storage.folder("trials", trial) / RECORD for trial in record.trials]
    files += [storage.folder(each.kind, each.id) / RECORD for each in record.measurements]
    seen = []
    for file in files:
        try:
            stat = file.stat()
            seen.append([stat.st_size, stat.st_mtime_ns])
        except OSError:
            seen.append([])
    return digest([encode(msgspec.structs.replace(record, launches=(), tracking_uri="")), seen])

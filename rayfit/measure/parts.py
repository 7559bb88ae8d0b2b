"""Long measurements in parts, each done by itself: how many there are, and where they lie until they are put together."""

from __future__ import annotations

from pathlib import Path

from rayfit.identity import bytes_digest
from rayfit.measure.bench import Bench
from rayfit.plan.measurements import Generation, Measurement

# Of a part's columns: an earlier rayfit that was interrupted may have left parts of its own.
_LAYOUT = 3


def num_parts(spec: Generation, bench: Bench) -> int:
    """How many parts a generation is done in."""
    return -(-bench.num_contexts(spec) // bench.part_contexts)


def part_file(spec: Measurement, bench: Bench, part: int) -> Path:
    """Where a part lies until its measurement is recorded.

    Parts of other weights or inputs, or of another size, lie elsewhere.
    """
    contents = [record.content for each in spec.inputs if (record := bench.record(each)) is not None]
    mark = bytes_digest(str((*bench.weights_of(spec.subject), *contents)).encode())[:8]
    return (
        bench.storage.folder(spec.kind, spec.id)
        / f"parts-{mark}-{bench.part_contexts}-{_LAYOUT}"
        / f"{part:05d}.parquet"
    )

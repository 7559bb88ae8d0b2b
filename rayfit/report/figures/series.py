"""What scores of texts keep beside them: overlap histograms (Figure 3) and TTR by position (Figure 9, right)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from rayfit.columns import ORIGINAL, TRAINED, TRUTH, names
from rayfit.findings.labels import decoding_of, label, lengths_differ, phrase, telling, varies
from rayfit.findings.measured import Measured, further, measured
from rayfit.records.frames import SCORES
from rayfit.records.storage import Storage
from rayfit.records.sweep import Row, SweepRecord
from rayfit.report.figures.model import Figure, Line, Look, Panel
from rayfit.report.figures.palette import ORIGINAL_COLOUR, ORIGINAL_DASH, looks

_MOST_LINES = 12
_OVERLAP = "longest_overlap_histogram"
_ORIGINAL_OVERLAP = "original_longest_overlap_histogram"
_BY_POSITION = "ttr_by_position"
_HISTOGRAM = "How long the longest overlap with the training rows is"
_POSITION = "TTR of the 96 most recent tokens, by length of the text so far"


@dataclass(frozen=True)
class Series:
    """The series of measurements of one panel that differ in seeds only."""

    panel: str
    look: Look
    found: tuple[Any, ...]


def overlap_figure(record: SweepRecord, rows: Sequence[Row], storage: Storage) -> Figure:
    """Share of texts by their longest run of tokens that stands in a training row, a panel per model and domain.

    Texts of further contexts where there are any, else those of the table's rows. The original model's texts, which
    trials' scores may hold beside their own, are measured against the same rows.
    """
    rows = [row for row in rows if row.who != TRUTH]
    found = [one for one in further(record, rows, SCORES, storage) if _of(one, _OVERLAP)]
    found = found or [one for one in measured(rows, SCORES, storage) if _of(one, _OVERLAP)]
    originals = [one for one in found if _of(one, _ORIGINAL_OVERLAP) and _is_unblocked(one)]
    parts = [
        *((_as_original(one), _of(one, _ORIGINAL_OVERLAP)) for one in originals),
        *((one, _of(one, _OVERLAP)) for one in found),
    ]
    groups = seed_series(parts)
    if not groups:
        return Figure("overlap_histogram", _HISTOGRAM, missing="no evaluation kept its overlaps' histogram")

    def panel(title: str, lines: tuple[Line, ...]) -> Panel:
        return Panel(title, "longest overlap (tokens)", "share of texts", lines, steps=True)

    most = max(sum(sum(histogram.values()) for histogram in group.found) for group in groups)
    caption = f"Up to {most:,} generated texts per line, seeds pooled; a step is one token wide."
    return _figure("overlap_histogram", _HISTOGRAM, caption, groups, _histogram_line, panel)


def position_figure(rows: Sequence[Row], storage: Storage) -> Figure:
    """Mean TTR of the last 96 tokens after each further token, a panel per model and domain."""
    shown = [row for row in rows if row.who != TRUTH and row.update is None]
    found = [(one, _of(one, _BY_POSITION)) for one in measured(shown, SCORES, storage)]
    groups = seed_series([(one, series) for one, series in found if series and len(series["values"]) > 1])
    if not groups:
        reason = "no evaluation generated more than 96 tokens and kept TTR by position"
        return Figure("ttr_by_position", _POSITION, missing=reason)

    def panel(title: str, lines: tuple[Line, ...]) -> Panel:
        return Panel(title, "generated tokens", "TTR of the last 96 (share)", lines, y_range=(0, 1))

    caption = "Mean over contexts, and over seeds where there are several."
    return _figure("ttr_by_position", _POSITION, caption, groups, _position_line, panel)


def _as_original(one: Measured) -> Measured:
    return replace(one, row=msgspec.structs.replace(one.row, who=ORIGINAL))


def _is_unblocked(one: Measured) -> bool:
    decoding = decoding_of(one.row)
    return decoding is not None and decoding.block is None


def _of(one: Measured, name: str) -> Any:
    """A series of a measurement; None where it has none."""
    return one.record.series.get(name)


def _figure(
    kind: str,
    title: str,
    caption: str,
    groups: Iterable[Series],
    line: Callable[[Series], Line],
    panel: Callable[[str, tuple[Line, ...]], Panel],
) -> Figure:
    lines: dict[str, list[Line]] = {}
    for group in groups:
        lines.setdefault(group.panel, []).append(line(group))
    panels = tuple(panel(heading, tuple(found)) for heading, found in lines.items())
    legend = tuple(dict.fromkeys(one.look for found in lines.values() for one in found))
    return Figure(kind, title, caption, panels, legend)


def _histogram_line(group: Series) -> Line:
    counts: dict[int, int] = {}
    for histogram in group.found:
        for length, count in histogram.items():
            counts[int(length)] = counts.get(int(length), 0) + count
    texts = sum(counts.values())
    lengths = range(max(counts) + 2)
    return Line(
        group.look, tuple(map(float, lengths)), tuple(counts.get(length, 0) / texts for length in lengths)
    )


def _position_line(group: Series) -> Line:
    first = group.found[0]["first_position"]
    values = [series["values"] for series in group.found if series["first_position"] == first]
    length = min(map(len, values))
    mean = tuple(sum(series[place] for series in values) / len(values) for place in range(length))
    return Line(group.look, tuple(float(first + place) for place in range(length)), mean)


def seed_series(found: Sequence[tuple[Measured, Any]], *, markers: bool = False) -> list[Series]:
    """Series by panel (model and domain, where they vary) and by what tells their rows apart, the original's first.

    `markers`: whether the lines' points are shown.
    """
    found = sorted(found, key=lambda part: part[0].row.who != ORIGINAL)
    rows = [one.row for one, _ in found]
    with_length = lengths_differ(rows)
    headings = [name for name in names(lambda each: each.has_sections) if varies(rows, name)]
    columns = telling([row for row in rows if row.who == TRAINED], but=headings)
    several = varies([row for row in rows if row.who == ORIGINAL], "decoding")
    labels = []
    for row in rows:
        own = columns if row.who == TRAINED else ["decoding"] if several else []
        labels.append((row.who, label(row, own, with_length=with_length)))
    chosen = _chosen_looks(dict.fromkeys(labels), markers=markers)
    series: dict[tuple[str, Look], list[Any]] = {}
    for row, (_, values), key in zip(rows, found, labels, strict=True):
        if key in chosen:
            series.setdefault((phrase(row, headings), chosen[key]), []).append(values)
    return [Series(panel, look, tuple(members)) for (panel, look), members in series.items()]


def _chosen_looks(labels: Iterable[tuple[str, str]], *, markers: bool) -> dict[tuple[str, str], Look]:
    labels = list(labels)
    own = [text for who, text in labels if who == TRAINED][:_MOST_LINES]
    originals = [text for who, text in labels if who == ORIGINAL]
    dashes = (ORIGINAL_DASH, ":", "-.")
    return {
        **{(TRAINED, look.label): look for look in looks(own, markers=markers)},
        **{
            (ORIGINAL, text): Look(text, ORIGINAL_COLOUR, "X" if markers else "", dashes[place % 3])
            for place, text in enumerate(originals)
        },
    }

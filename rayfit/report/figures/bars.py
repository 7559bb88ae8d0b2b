"""Bars with intervals: one per kind of row, under each other."""

from __future__ import annotations

from collections.abc import Sequence

from rayfit.columns import ORIGINAL, TRAINED, TRUTH, WHO, column
from rayfit.findings.groups import Group, grouped
from rayfit.findings.labels import group_text, lengths_differ, phrase, telling_each
from rayfit.records.sweep import Row
from rayfit.report.figures.model import Bar, Bars, Figure, Look

# Lighter than lines are, so that the intervals are seen on them.
LOOKS = {
    TRUTH: Look(WHO[TRUTH], "#5f6b74", "s", "none"),
    ORIGINAL: Look(WHO[ORIGINAL], "#b4bcc2", "s", "none"),
    TRAINED: Look(WHO[TRAINED], "#4a9bd1", "s", "none"),
    "not": Look("trained, not hyperfitted", "#bcdcef", "s", "none"),
}


def bars_figure(rows: Sequence[Row], ys: Sequence[str]) -> Figure:
    """`ys` of every group of rows, a panel each, and one per domain where there are several."""
    title = f"{' and '.join(column(y).title for y in ys)}, by row of the table"
    columns = telling_each(rows)
    domains = list(dict.fromkeys(row.domain for row in rows)) if "domain" in columns else [None]
    columns = [name for name in columns if name != "domain"]
    with_length = lengths_differ(rows)
    groups = grouped(rows)
    models = list(dict.fromkeys(group.row.model for group in groups))
    groups.sort(key=lambda group: models.index(group.row.model))
    panels = tuple(
        Bars(domain or "", column(y).title_with_unit, drawn, (0, 1) if column(y).is_share else None)
        for y in ys
        for domain in domains
        if (drawn := tuple(_bars(groups, domain, y, columns, with_length)))
    )
    if not panels:
        return Figure("bars", title, missing="no finished row has these numbers")
    used = dict.fromkeys(bar.look for panel in panels for bar in panel.bars)
    several = any(len(group.rows) > 1 for group in groups)
    caption = "Intervals: one standard deviation over seeds" if several else "Intervals: 95% over contexts"
    return Figure(
        "bars",
        title,
        f"{caption}{', 95% over contexts where there is one' if several else ''}.",
        panels,
        tuple(used),
    )


def _bars(
    groups: list[Group], domain: str | None, y: str, columns: list[str], with_length: bool
) -> list[Bar]:
    bars = []
    for group in groups:
        cell = group.cell(y)
        if cell is None or domain not in (None, group.row.domain):
            continue
        row = group.row
        ended = {one.hyperfitted for one in group.rows}
        kind = "not" if row.who == TRAINED and ended == {False} else row.who
        words = phrase(row, columns, with_length=with_length)
        # The colour says whether a trial is hyperfitted, and its words are many.
        said = words and row.who == TRAINED and ended != {True, False}
        text = ", ".join(filter(None, [words] if said else [group_text(group.rows), words]))
        bars.append(Bar(LOOKS[kind], text, cell.value, column(y).text(cell.value), cell.bounds))
    return bars

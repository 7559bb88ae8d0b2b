"""Heat maps: top-1 agreement of checkpoints, and trained on one text, evaluated on another."""

from __future__ import annotations

from collections.abc import Sequence

from rayfit.columns import POOLED, column
from rayfit.findings.groups import Cell, grouped, spread_text
from rayfit.findings.labels import group_text, lengths_differ, phrase, telling_each
from rayfit.records.sweep import Agreement, Row
from rayfit.report.figures.model import Figure, Heat

_AGREEMENT = "Top-1 agreement between checkpoints"


def agreement_figure(agreement: Agreement | None) -> Figure:
    """Share of positions at which two checkpoints find the same token most probable (section 6.1, Figure 5 left)."""
    if agreement is None:
        return Figure("agreement", _AGREEMENT, missing="the sweep's record holds no agreement matrix")
    values = agreement.matrix
    others = [value for i, row in enumerate(values) for j, value in enumerate(row) if i != j]
    heat = Heat(
        "",
        "",
        agreement.labels,
        agreement.labels,
        values,
        tuple(tuple(f"{value:.3f}" for value in row) for row in values),
        tuple(tuple("" for _ in row) for row in values),
        min(others, default=0.0),
        max(others, default=1.0),
    )
    caption = (
        f"Share of positions with the same most probable token over {agreement.num_positions:,} positions, teacher-forced "
        "over the contexts with their true continuations. The diagonal is 1 by definition and outside the colours' range."
    )
    return Figure("agreement", _AGREEMENT, caption, (heat,))


def grid_figure(rows: Sequence[Row], ys: Sequence[str]) -> Figure:
    """Each of `ys` as a table: what was trained on against what was evaluated on (section 6.2, Table 4)."""
    title = "Trained on, against evaluated on"
    panels = tuple(heat for y in ys if (heat := _grid(rows, y)) is not None)
    if not panels:
        return Figure("grid", title, missing="no finished row has these numbers")
    return Figure(
        "grid",
        title,
        "Means; below them one standard deviation over seeds, or the 95% interval over contexts.",
        panels,
    )


def _grid(rows: Sequence[Row], y: str) -> Heat | None:
    shown = column(y)
    groups = [group for group in grouped(rows) if group.cell(y) is not None]
    domains = list(dict.fromkeys(group.row.domain for group in groups))
    domains.sort(key=lambda name: name == POOLED)
    columns = telling_each([group.row for group in groups], but=("domain",))
    with_length = lengths_differ(rows)
    lines: dict[str, dict[str, Cell]] = {}
    for group in groups:
        words = phrase(group.row, columns, with_length=with_length)
        whose = group_text(group.rows)
        name = f"{whose}, {words}" if words else whose
        cell = group.cell(y)
        assert cell is not None
        lines.setdefault(name, {})[group.row.domain] = cell
    found = [cell.value for line in lines.values() for cell in line.values()]
    if not found:
        return None
    cells = [[line.get(domain) for domain in domains] for line in lines.values()]
    return Heat(
        f"{shown.title_with_unit} {shown.arrow}".strip(),
        "evaluated on",
        tuple(lines),
        tuple(domains),
        tuple(tuple(None if cell is None else cell.value for cell in line) for line in cells),
        tuple(tuple("" if cell is None else shown.text(cell.value) for cell in line) for line in cells),
        tuple(tuple("" if cell is None else spread_text(shown, cell) for cell in line) for line in cells),
        min(found),
        max(found),
    )

"""A sweep in a few lines of Markdown: the question, the command, the table, who agrees with whom."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from functools import partial

from rayfit.records.sweep import Agreement, SweepRecord
from rayfit.report.board import Board, BoardCell, BoardLine, sweep_board
from rayfit.report.table import contexts_text, held_text


def render_markdown(record: SweepRecord) -> str:
    """A section on a sweep from its record, as `docs/results.md` is made of."""
    agreement = record.agreement
    shown = "agreement" in {figure["kind"] for figure in record.figures}
    parts = [
        f"## {record.sweep_kind}",
        f"{record.question} ({record.source})",
        f"```console\n$ {_command(record)}\n```",
        table_in_markdown(sweep_board(record))[0],
        contexts_text(str(record.options["contexts"]), record.prompts),
    ]
    if shown and agreement is not None:
        parts.append(f"Top-1 agreement, over {agreement.num_positions:,} positions:\n\n{_matrix(agreement)}")
    return "\n\n".join(parts) + "\n"


def table_in_markdown(table: Board, *, room: float = math.inf) -> tuple[str, int]:
    """A board's tables, one per section: of several seeds the mean and one standard deviation.

    Lines that would make the text longer than `room` characters are left out; the second value counts them.
    """
    parts = held_text(table)
    left_out = 0
    for heading, lines in table.sections:
        section = [f"### {heading}", ""] if heading else []
        section += _head(table)
        length = sum(map(len, parts)) + 2 * len(parts)
        kept = list(map(partial(_row, table), lines))
        while kept and length + sum(map(len, (*section, *kept))) + len(section) + len(kept) > room:
            kept.pop()
            left_out += 1
        parts += ["\n".join([*section, *kept])] if kept else []
    return "\n\n".join(parts), left_out


def _head(table: Board) -> list[str]:
    titles = [column.title for column in table.declared]
    titles += [f"{column.title} {column.arrow}".strip() for column in table.scores]
    titles = ["", *(["seeds"] if table.several_seeds else []), *titles]
    return [_joined(titles), _joined(["---", *(["---:"] * (len(titles) - 1))])]


def _row(table: Board, line: BoardLine) -> str:
    label = f"{line.label}: {line.trouble}" if line.trouble else line.label
    seeds = [str(line.seeds)] if table.several_seeds else []
    texts = [label, *seeds, *line.declared, *map(_cell, line.cells)]
    # a reason may be another library's, of several lines
    return _joined([text.replace("|", "\\|").replace("\n", " ") for text in texts])


def _joined(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _cell(cell: BoardCell) -> str:
    return f"{cell.text} {cell.below}" if cell.below.startswith("±") else cell.text


def _command(record: SweepRecord) -> str:
    """The last launch's command without where its storage and its tracking were."""
    words = shlex.split(record.launches[-1].command)
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word not in ("--storage", "--tracking-uri"):
            kept.append(word)
        skip = not skip and word in ("--storage", "--tracking-uri")
    return shlex.join(kept)


def _matrix(agreement: Agreement) -> str:
    labels = agreement.labels
    lines = ["| | " + " | ".join(labels) + " |", "|" + " --- |" * (len(labels) + 1)]
    for name, row in zip(labels, agreement.matrix, strict=True):
        lines.append(f"| {name} | " + " | ".join(f"{share:.3f}" for share in row) + " |")
    return "\n".join(lines)

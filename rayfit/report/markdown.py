"""A sweep in a few lines of Markdown: the question, the command, the table, who agrees with whom."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from rayfit.report.board import Board, BoardCell, board
from rayfit.report.html import wanted_columns
from rayfit.report.table import contexts_text


def render_markdown(record: Mapping[str, Any]) -> str:
    """A section on a sweep from its record, as `docs/results.md` is made of."""
    agreement = record.get("agreement")
    shown = "agreement" in {figure["kind"] for figure in record.get("figures", [])}
    parts = [
        f"## {record['sweep_kind']}",
        f"{record['question']} ({record['source']})",
        f"```console\n$ {_command(record)}\n```",
        *_tables(board(record["rows"], wanted_columns(record))),
        contexts_text(str(record["options"]["contexts"]), record.get("prompts")),
    ]
    if shown and agreement:
        parts.append(
            f"Top-1 agreement, over {agreement['num_positions']:,} positions:\n\n{_matrix(agreement)}"
        )
    return "\n\n".join(parts) + "\n"


def _tables(table: Board) -> list[str]:
    """The report's table, one per section: of several seeds the mean and one standard deviation."""
    found = (
        [f"All trials: {', '.join(f'{name} {value}' for name, value in table.held)}."] if table.held else []
    )
    titles = [column.title for column in table.declared]
    titles += [f"{column.title} {column.arrow}".strip() for column in table.scores]
    for heading, lines in table.sections:
        cells = [["", *(["seeds"] if table.several_seeds else []), *titles]]
        for line in lines:
            numbers = [_cell(cell) for cell in line.cells]
            label = f"{line.label}: {line.trouble}" if line.trouble else line.label
            seeds = [str(line.seeds)] if table.several_seeds else []
            cells.append([label, *seeds, *line.declared, *numbers])
        texts = ["| " + " | ".join(row) + " |" for row in cells]
        aligned = ["---", *(["---:"] * (len(cells[0]) - 1))]
        texts.insert(1, "| " + " | ".join(aligned) + " |")
        found.append("\n\n".join([*([f"### {heading}"] if heading else []), "\n".join(texts)]))
    return found


def _cell(cell: BoardCell) -> str:
    return f"{cell.text} {cell.below}" if cell.below.startswith("±") else cell.text


def _command(record: Mapping[str, Any]) -> str:
    """The last launch's command without where its storage and its tracking were."""
    words = shlex.split(record["launches"][-1]["command"])
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word not in ("--storage", "--tracking-uri"):
            kept.append(word)
        skip = not skip and word in ("--storage", "--tracking-uri")
    return shlex.join(kept)


def _matrix(agreement: Mapping[str, Any]) -> str:
    labels = agreement["labels"]
    lines = ["| | " + " | ".join(labels) + " |", "|" + " --- |" * (len(labels) + 1)]
    for name, row in zip(labels, agreement["matrix"], strict=True):
        lines.append(f"| {name} | " + " | ".join(f"{share:.3f}" for share in row) + " |")
    return "\n".join(lines)

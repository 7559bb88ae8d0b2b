"""The table a sweep ends with, as text."""

from __future__ import annotations

from rayfit.records.sweep import PromptsUsed, SweepRecord
from rayfit.report.board import Board, BoardLine, sweep_board

LEGEND = (
    "TTR: distinct over all of the last 96 generated tokens, mean over contexts. Losses and entropy in nats per token.\n"
    "overlap: longest run of generated tokens that stands in the training rows, mean; original's: the original model's."
)


def render_table(record: SweepRecord) -> str:
    """A line per row of a sweep's record, aligned, with headings and a legend; what does not apply is a dash."""
    table = sweep_board(record, by_seed=True, with_paper=False)
    header = ["", *(column.heading for column in (*table.declared, *table.scores))]
    everything = [header, *map(_cells, table.lines)]
    widths = [max(len(cells[place]) for cells in everything) for place in range(len(header))]
    text = [_aligned(header, widths), ""]
    for heading, lines in table.sections:
        text += [heading] if heading else []
        text += [f"{_aligned(_cells(line), widths)}{_trouble(line)}" for line in lines]
        text += [""]
    text[1] = "-" * max(map(len, text))
    counted = contexts_text(str(record.options["contexts"]), record.prompts)
    return "\n".join([*text, *held_text(table), f"{counted} {LEGEND}"])


def held_text(table: Board) -> list[str]:
    """What all trials of a table share, as a sentence; nothing where they share nothing."""
    shared = ", ".join(f"{title} {text}" for title, text in table.held)
    return [f"All trials: {shared}."] if shared else []


def contexts_text(num_contexts: str, prompts: PromptsUsed | None) -> str:
    """How many texts a row is of. `prompts`: those of one's own, where there are any."""
    if prompts is None:
        return f"{num_contexts} contexts per row."
    return f"{num_contexts} contexts per row; in rows on {prompts.name} {prompts.count} prompts, without true text."


def _cells(line: BoardLine) -> list[str]:
    """Of a line its words and numbers, or dashes."""
    return [line.label, *(text or "-" for text in (*line.declared, *(cell.text for cell in line.cells)))]


def _trouble(line: BoardLine) -> str:
    return f"  {line.trouble}" if line.trouble else ""


def _aligned(cells: list[str], widths: list[int]) -> str:
    """The first to the left, the others to the right."""
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])

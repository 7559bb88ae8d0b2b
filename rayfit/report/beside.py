"""The paper's own numbers as a table to stand beside a sweep's: what is known, how surely, and what is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rayfit.columns import DASH, ORIGINAL, WHO
from rayfit.columns import published as quantity
from rayfit.report.paper import SET_UP, PaperNumber, paper_numbers

_WHO = {**WHO, ORIGINAL: "original"}
MARKS = {"text": "", "second-hand": "†", "read off a figure": "‡"}


@dataclass(frozen=True)
class PaperCell:
    """One published number as text with its mark, and where it comes from; an empty text where it is not known."""

    text: str = ""
    mark: str = ""
    source: str = ""


@dataclass(frozen=True)
class PaperTable:
    """Published numbers that belong together.

    `columns`: (title, unit). `models`: (model, its lines); a line is what it is of and its cells in the order of
    `columns`.
    """

    title: str
    columns: tuple[tuple[str, str], ...]
    models: tuple[tuple[str, tuple[tuple[str, tuple[PaperCell, ...]], ...]], ...]


@dataclass(frozen=True)
class Published:
    """All that was published of one kind of experiment, with its sources, the marks in use, and the paper's set-up."""

    tables: tuple[PaperTable, ...]
    sources: tuple[str, ...]
    marks: tuple[str, ...]
    set_up: tuple[tuple[str, str], ...]


def published(experiment: str) -> Published | None:
    """What was published of one kind of sweep, or None where nothing was."""
    numbers = paper_numbers(experiment)
    if not numbers:
        return None
    titles = dict.fromkeys(number.table for number in numbers)
    return Published(
        tables=tuple(
            _table(title, [number for number in numbers if number.table == title]) for title in titles
        ),
        sources=tuple(_sources(numbers)),
        marks=tuple(dict.fromkeys(number.certainty for number in numbers if number.is_known)),
        set_up=tuple(
            (quantity(number.quantity).title, bounds_text(number)) for number in paper_numbers(SET_UP)
        ),
    )


def _table(title: str, numbers: Sequence[PaperNumber]) -> PaperTable:
    units = {number.quantity: number.unit for number in reversed(numbers)}
    quantities = list(dict.fromkeys(number.quantity for number in numbers))
    models: dict[str, dict[str, dict[str, PaperNumber]]] = {}
    for number in numbers:
        of_model = models.setdefault(number.model, {})
        of_model.setdefault(_line_title(number), {})[number.quantity] = number
    return PaperTable(
        title,
        tuple((quantity(name).title, units[name]) for name in quantities),
        tuple(
            (
                model,
                tuple(
                    (words, tuple(_cell(line.get(name)) for name in quantities))
                    for words, line in lines.items()
                ),
            )
            for model, lines in models.items()
        ),
    )


def _line_title(number: PaperNumber) -> str:
    return ", ".join(filter(None, [_WHO.get(number.who, ""), number.decoding, number.setting]))


def _cell(number: PaperNumber | None) -> PaperCell:
    if number is None:
        return PaperCell()
    source = ", ".join(filter(None, [number.source, number.certainty, number.note]))
    if not number.is_known:
        return PaperCell(source=f"not known ({', '.join(filter(None, [number.source, number.note]))})")
    return PaperCell(bounds_text(number), MARKS[number.certainty], source)


def bounds_text(number: PaperNumber) -> str:
    """A published number as it is written: its value, or the bounds that are known."""

    def text(value: float) -> str:
        # Losses were read off a figure, to about 0.01.
        return f"{value:.2f}" if number.quantity.endswith("_loss") else quantity(number.quantity).text(value)

    if number.value is not None:
        return text(number.value)
    if number.low is not None and number.high is not None:
        return f"{text(number.low)}{DASH}{text(number.high)}"
    if number.low is not None:
        return f"above {text(number.low)}"
    return "" if number.high is None else f"below {text(number.high)}"


def _sources(numbers: tuple[PaperNumber, ...]) -> list[str]:
    """By quantity: where its numbers stand, how sure they are, and notes on them."""
    found = []
    for name in dict.fromkeys(number.quantity for number in numbers):
        own = [number for number in numbers if number.quantity == name]
        places = dict.fromkeys(f"{number.work}, {number.source} ({number.certainty})" for number in own)
        notes = dict.fromkeys(f"{_where(number)}{number.note}" for number in own if number.note)
        found.append(f"{quantity(name).title}: {'; '.join([*places, *notes])}.")
    return found


def _where(number: PaperNumber) -> str:
    words = ", ".join(filter(None, [number.model, _WHO.get(number.who, ""), number.setting]))
    return f"{words}: " if words else ""

"""An answer as lines for a terminal: prompt, continuations beside each other, what they repeat and cite."""

from __future__ import annotations

from collections.abc import Sequence

from rayfit.ask.columns import BORDER, Line, beside, characters, legend, plain, wrap
from rayfit.ask.request import Answer, Text
from rayfit.ask.table import prediction_lines
from rayfit.report.shading import shade_of

NARROWEST_COLUMN = 32
"""Cells; where two columns would be narrower, one stands below the other."""


def page(answer: Answer, titles: Sequence[str], *, width: int, color: bool, heading: str = "prompt") -> str:
    """One prompt's answer in lines of at most `width` cells (24 at least).

    Each generated token is shaded, where `color`, by the longest run that ends at it and already ended earlier in the
    continuation (the paper's Figure 1).
    """
    width = max(width, 24)
    share = (width - len(BORDER) * (len(titles) - 1)) // len(titles)
    together = len(titles) == 1 or share >= NARROWEST_COLUMN
    groups = [list(range(len(titles)))] if together else [[place] for place in range(len(titles))]
    lines = _indented(f"{heading}:", answer.prompt, width)
    for group in groups:
        lines += ["", *_columns(answer, titles, group, share if together else width, color)]
    if answer.predictions:
        for group in groups:
            lines += ["", *prediction_lines(answer, titles, group, width)]
    return "\n".join(lines)


def key(width: int) -> str:
    """Explain the shades, in lines of at most `width` cells."""
    return "\n".join(beside([wrap(legend(), width)], [width], color=True))


def _indented(heading: str, text: str, width: int) -> list[str]:
    return [
        heading,
        *("  " + line for line in beside([wrap(plain(text), width - 2)], [width - 2], color=False)),
    ]


def _columns(
    answer: Answer, titles: Sequence[str], group: Sequence[int], share: int, color: bool
) -> list[str]:
    widths = [share] * len(group)
    parts = [
        [wrap(plain(titles[place]), share) for place in group],
        [[plain("─" * share)] for _ in group],
        [_shaded(answer.texts[place], share) for place in group],
        [[plain("╌" * share)] for _ in group],
        [
            [line for fact in facts(answer.texts[place]) for line in wrap(plain(fact), share)]
            for place in group
        ],
    ]
    return [line for part in parts for line in beside(part, widths, color=color)]


def _shaded(text: Text, width: int) -> list[Line]:
    return wrap(characters(text.pieces, [shade_of(run) for run in text.repeated_runs]), width)


def facts(text: Text) -> list[str]:
    """Return what is counted about a continuation, a line each."""
    count = len(text.pieces)
    found = [
        f"{_tokens(count)}{', ended by end-of-text' if text.ended else ''}; {text.num_distinct} distinct",
        f"longest run repeated: {_tokens(max(text.repeated_runs, default=0))}",
    ]
    if text.longest_cited is not None:
        found.append(f"longest run of the blocked texts: {_tokens(text.longest_cited)}")
    if text.steps_banned is not None:
        found.append(
            f"blocker: a ban in force at {text.steps_banned} of {count} steps, "
            f"which changed the choice at {text.steps_changed}"
        )
    return found


def _tokens(count: int) -> str:
    return f"{count} token{'' if count == 1 else 's'}"

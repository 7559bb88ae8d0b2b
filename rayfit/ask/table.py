"""The most probable next tokens along a text, place by place (the paper's Figure 4), as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rayfit.ask.columns import BORDER, Line, beside, padded, plain, wrap
from rayfit.ask.request import Answer, Prediction

_PLACE_CELLS = 5
_PERCENT_CELLS = 6
_NARROWEST_TOKEN, _WIDEST_TOKEN = 6, 20


def prediction_lines(answer: Answer, titles: Sequence[str], group: Sequence[int], width: int) -> list[str]:
    """A block of lines per place: the token that stands there, then each model's candidates with probabilities.

    `group`: which of the models stand beside each other. The candidate that stands in the text is marked by `*`; where
    it is not among the candidates it follows them with its rank.
    """
    # Beside each token: two cells of mark, its share, and the rank of one that is no candidate.
    fixed = _PLACE_CELLS + 1 + len(group) * (len(BORDER) + 2 + 1 + _PERCENT_CELLS + 7)
    token_cells = min(max((width - fixed) // (len(group) + 1), _NARROWEST_TOKEN), _WIDEST_TOKEN)
    widths = [_PLACE_CELLS + 1 + token_cells, *[2 + token_cells + 1 + _PERCENT_CELLS + 7] * len(group)]
    about = (
        f"most probable next tokens along the prompt and the text of {titles[-1]}, before any decoding; "
        "* is the token that stands there, # its rank where it is none of them"
    )
    lines = beside([wrap(plain(about), width)], [width], color=False)
    heads = [wrap(plain(titles[place]), size) for place, size in zip(group, widths[1:], strict=True)]
    lines += beside([[plain(f"{'place':>{_PLACE_CELLS}} token")], *heads], widths, color=False)
    rule = beside([[plain("─" * size)] for size in widths], widths, color=False)
    shown = [answer.predictions[place] for place in group]
    for at, here in enumerate(zip(*shown, strict=True)):
        if at in (0, answer.num_prompt_tokens):
            lines += rule
        # What stands in the text is the same for all; places count from 0, where nothing is predicted.
        first = plain(f"{at + 1:>{_PLACE_CELLS}} ") + padded(plain(here[0].token), token_cells)
        cells = [_candidates(prediction, token_cells) for prediction in here]
        lines += beside([[first], *cells], widths, color=False)
    return lines


def _candidates(prediction: Prediction, token_cells: int) -> list[Line]:
    lines = [
        _candidate(
            "*" if rank == prediction.rank and token == prediction.token else " ", token, mass, token_cells
        )
        for rank, (token, mass) in enumerate(prediction.best, start=1)
    ]
    if prediction.rank > len(prediction.best):
        line = _candidate("*", prediction.token, prediction.probability, token_cells)
        lines.append(line + plain(f" #{prediction.rank}"))
    return lines


def _candidate(mark: str, token: str, probability: float, token_cells: int) -> Line:
    share = f" {_percent(probability):>{_PERCENT_CELLS}}"
    return plain(f"{mark} ") + padded(plain(token), token_cells) + plain(share)


def _percent(probability: float) -> str:
    """Write a share in percent with one decimal; what rounds to 0 or 100 without being it is told from it."""
    if 0 < probability < 0.0005:
        return "<0.1%"
    if 0.9995 <= probability < 1:
        return ">99.9%"
    return f"{100 * probability:.1f}%"

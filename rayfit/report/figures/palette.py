"""Colours, markers and dashes that people with any colour vision, and printers, can tell apart."""

from __future__ import annotations

from collections.abc import Sequence

from rayfit.report.figures.model import Look

# Okabe and Ito's set without its yellow, which is too light for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
TRUTH_COLOUR = "#222222"
ORIGINAL_COLOUR = "#767676"
TRUTH_DASH, ORIGINAL_DASH = ":", "--"

# From light to dark in one hue, evenly in lightness: an order that is seen without a legend.
_LIGHT, _DARK = (0.72, 0.85, 0.96), (0.02, 0.19, 0.42)


def looks(labels: Sequence[str], *, ordered: bool = False, markers: bool = True) -> list[Look]:
    """A look per label; `ordered` labels (16, 32, 64 ...) run from light to dark where there are more than three.

    `markers`: False for lines of very many points, which show none.
    """
    shapes = [MARKERS[place % len(MARKERS)] if markers else "" for place in range(len(labels))]
    if ordered and len(labels) > 3:
        shades = [0.15 + 0.85 * place / (len(labels) - 1) for place in range(len(labels))]
        return [
            Look(text, ramp(shade), shape) for text, shade, shape in zip(labels, shades, shapes, strict=True)
        ]
    return [
        Look(text, COLOURS[place % len(COLOURS)], shape, ("-", "-.")[place // len(COLOURS) % 2])
        for place, (text, shape) in enumerate(zip(labels, shapes, strict=True))
    ]


def ramp(share: float) -> str:
    """A blue from light (0) to dark (1), as #rrggbb."""
    parts = [low + (high - low) * share for low, high in zip(_LIGHT, _DARK, strict=True)]
    return "#" + "".join(f"{round(part * 255):02x}" for part in parts)


def heat_colours(share: float) -> tuple[str, str]:
    """Background and text colour of a heat map's cell, with a contrast of at least 4.5 to 1."""
    start, end = (0.97, 0.985, 1.0), (0.03, 0.25, 0.49)
    parts = [low + (high - low) * share for low, high in zip(start, end, strict=True)]
    background = "#" + "".join(f"{round(part * 255):02x}" for part in parts)
    return background, max(("#ffffff", "#000000"), key=lambda text: contrast(text, background))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two #rrggbb colours, 1 to 21 (WCAG 2)."""
    first, second = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (first + 0.05) / (second + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

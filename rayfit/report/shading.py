"""How repetition is shaded, in reports and on terminals alike, and which text each token stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

# A run of one token is repeated by nearly every word of any text, so shading begins at two.
SHADES = ((2, "2-3"), (4, "4-7"), (8, "8-15"), (16, "16-31"), (32, "32+"))
"""From how many tokens on each shade stands, and how a legend calls it."""

_UNFINISHED = "\ufffd"


def shade_of(run_tokens: int) -> int:
    """The shade, 0 (none) to 5, of a token at which the longest earlier run that ends there has `run_tokens` tokens."""
    return sum(run_tokens >= begin for begin, _ in SHADES)


def token_pieces(
    decode: Callable[[Sequence[int]], str], ids: Sequence[int], before: Sequence[int] = ()
) -> list[str]:
    """What each token adds to the text that `decode` gives for the ids `before` them, one piece per token.

    Joined they are the decoded text. A character of several tokens belongs to the last of them.
    """
    pieces = []
    done = decode(before).rstrip(_UNFINISHED) if before else ""
    for end in range(1, len(ids) + 1):
        text = decode([*before, *ids[:end]])
        whole = text if end == len(ids) else text.rstrip(_UNFINISHED)
        # Decoders may hold a space back until the next token: what was given stays given.
        follows = whole.startswith(done)
        pieces.append(whole[len(done) :] if follows else "")
        done = whole if follows else done
    return pieces

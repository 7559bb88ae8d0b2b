"""What a sweep's scores are called in MLflow: the decoding and the domain before the slash, where they tell scores apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayfit.decoding import Decoding
from rayfit.identity import slug

PLAIN = Decoding().name
# The original model, sampled at the temperature that gives it a trial's entropy.
MATCHED = "original_matched"


class Names:
    """Prefixes and labels of one sweep's measurements."""

    def __init__(self, sweep: Mapping[str, Any]) -> None:
        self._short = short_names(sweep)
        self._prompts = (sweep.get("prompts") or {}).get("name")
        domains = {entry["domain"] for entry in sweep.get("evaluations", [])} - {self._prompts}
        self._has_several = len(domains) > 1

    def domain_prefix(self, domain: str) -> tuple[str, ...]:
        """Of scores that no decoding changes: the domain, where the sweep measures in several; always of prompts."""
        return (domain,) if self._has_several or domain == self._prompts else ()

    def prefix(self, decoding: str, domain: str, *, matched: bool = False) -> tuple[str, ...]:
        """Of scores of generated texts: nothing for plain greedy decoding, else its short name; then the domain."""
        short = self._short.get(decoding, decoding)
        if matched:
            # Its decoding is called matched, with settings behind it where two of them must be told apart.
            made = Decoding.parse(short)
            own = made.settings if made.kind == "matched" else short
            short = f"{MATCHED}:{own}" if own else MATCHED
        return (() if short == PLAIN else (short,)) + self.domain_prefix(domain)

    def is_plain(self, decoding: str | None) -> bool:
        """Whether a decoding is plain greedy, of whatever length the sweep has."""
        return decoding is None or self._short.get(decoding, decoding) == PLAIN

    def label(self, decoding: str, domain: str, *, matched: bool = False, further: int = 0) -> str:
        """Of a measurement's files."""
        words = self.prefix(decoding, domain, matched=matched)
        if not matched and self.is_plain(decoding):
            words = (PLAIN, *words)
        return slug("-".join([*words, *([f"further-{further}"] if further else [])]))


def short_names(sweep: Mapping[str, Any]) -> dict[str, str]:
    """A sweep's decodings without the number of tokens, where that is the same for all; `greedy` is plain.

    >>> short_names({"evaluations": [{"decoding": "nucleus:top_p=0.8,num_new_tokens=96"}]})
    {'nucleus:top_p=0.8,num_new_tokens=96': 'nucleus:top_p=0.8'}
    """
    names = {entry["decoding"]: Decoding.parse(entry["decoding"]) for entry in sweep.get("evaluations", [])}
    if len({made.num_new_tokens for made in names.values()}) > 1:
        return {name: name for name in names}
    return {name: made.without_length().name for name, made in names.items()}

"""What is continued: the held-out contexts of a text, more of them beyond those, or prompts of one's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from rayfit.columns import POOLED
from rayfit.config import Options
from rayfit.data.prompts import file_and_column, read_prompts
from rayfit.errors import RayfitError
from rayfit.identity import digest, slug
from rayfit.plan.trials import Domain


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Held-out contexts of a domain; with `further`, so many beyond the usual ones, for the overlap histogram."""

    domain: Domain
    further: int = 0

    @property
    def name(self) -> str:
        """By which tables tell what is continued apart."""
        return self.domain.name

    @property
    def has_rows(self) -> bool:
        """Whether tables have rows of them."""
        return not self.further

    def count(self, usual: int) -> int:
        """How many there are, of the further ones at most. `usual`: the sweep's number of contexts."""
        return self.further or usual


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Prompts of one's own, whose true continuation nobody knows: only what is generated is scored.

    `name` is the file's; it is in no id of an evaluation, which is of the texts alone.
    """

    name: str
    texts: tuple[str, ...]

    @property
    def has_rows(self) -> bool:
        """Whether tables have rows of them."""
        return True

    def count(self, usual: int) -> int:  # noqa: ARG002 - the same question of either kind
        """How many there are, whatever the sweep's number of contexts."""
        return len(self.texts)

    @cached_property
    def sha256(self) -> str:
        """Of the texts, in their order."""
        return digest(list(self.texts))


Contexts: TypeAlias = HeldOut | Prompts


def given_prompts(options: Options, domains: Iterable[Domain]) -> Prompts | None:
    """The prompts that the options name, or None. Raises RayfitError for a file that will not do."""
    if options.prompts is None:
        return None
    path, column = file_and_column(options.prompts, options.text_column)
    prompts = Prompts(name=slug(path.stem), texts=read_prompts(path, text_column=column))
    taken = {POOLED: "all texts together", **{domain.name: "a text of this sweep" for domain in domains}}
    if prompts.name in taken:
        raise RayfitError(
            f"--prompts: {path} would be called {prompts.name} in tables, as {taken[prompts.name]} is; rename the file"
        )
    return prompts

"""The contexts that models continue: a text's held-out ones, further ones beyond those, or prompts of one's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from rayfit.columns import POOLED
from rayfit.config import Options
from rayfit.errors import RayfitError
from rayfit.identity import digest, slug
from rayfit.plan.prompt_files import file_and_column, read_prompts
from rayfit.plan.trials import Domain


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The usual held-out contexts of a domain, or, with `further`, that many beyond them, for the overlap histogram."""

    domain: Domain
    further: int = 0

    @property
    def name(self) -> str:
        """The domain's name, by which tables tell contexts apart."""
        return self.domain.name

    @property
    def has_rows(self) -> bool:
        """True when tables show rows of these contexts; further ones are for a histogram alone."""
        return not self.further

    def count(self, usual: int) -> int:
        """Return the number of contexts, of further ones the most there may be. `usual`: the sweep's number."""
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
        """True: tables show rows of prompts."""
        return True

    def count(self, usual: int) -> int:  # noqa: ARG002 - the same question of either kind
        """Return the number of prompts, whatever the sweep's number of contexts."""
        return len(self.texts)

    @cached_property
    def sha256(self) -> str:
        """The hash of the texts, in their order."""
        return digest(list(self.texts))


Contexts: TypeAlias = HeldOut | Prompts


def given_prompts(options: Options, domains: Iterable[Domain]) -> Prompts | None:
    """Return the prompts that the options name, or None. Raises RayfitError for a file that will not do."""
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

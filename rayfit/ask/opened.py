"""A subject whose tokenizer and config were read: prompts become contexts, and what cannot be done is said early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rayfit.ask.blocked import block_rows
from rayfit.ask.request import Request, Subject
from rayfit.data.prompts import prompt_ids
from rayfit.errors import RayfitError
from rayfit.generate.index import BlockIndex
from rayfit.generate.loading import load_tokenizer_and_config
from rayfit.generate.vocabulary import special_ids, surfaces, word_starts
from rayfit.prepare.model_shape import context_window, vocabulary_size
from rayfit.prepare.tokenizer import leading_bos
from rayfit.report.shading import token_pieces
from rayfit.score.overlap import OverlapIndex
from rayfit.score.tokens import drop_leading

_VISIBLE = str.maketrans({" ": "␣", "\n": "⏎", "\t": "⇥"})


@dataclass(frozen=True)
class Blocked:
    """The blocked texts: as the blocker asks for them, and as overlaps with them are measured."""

    index: BlockIndex
    overlaps: OverlapIndex


@dataclass(frozen=True)
class Opened:
    """A subject with its tokenizer, its config, one context (token ids) per prompt, and the texts it may not cite.

    The weights are not in memory. `surfaces`: the text of every vocabulary entry.
    """

    subject: Subject
    tokenizer: Any
    config: Any
    contexts: list[list[int]]
    blocked: Blocked | None
    surfaces: dict[int, str]

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids that are no text."""
        return special_ids(self.tokenizer, self.config)

    def visible(self, token: int) -> str:
        """A vocabulary entry with its spaces and line breaks to be seen."""
        return self.surfaces.get(token, f"<{token}>").translate(_VISIBLE)

    def pieces(self, context: Sequence[int], new: Sequence[int]) -> tuple[str, ...]:
        """The text of each new token behind the context, as `token_pieces` gives it."""
        return tuple(token_pieces(self._decoded, new, context))

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(
            self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )


def open_subjects(request: Request, subjects: Sequence[Subject]) -> list[Opened]:
    """All subjects of a request, opened; raises RayfitError for what no model can do, before one is loaded."""
    trials = [subject.trial.id for subject in subjects if subject.trial is not None]
    opened: list[Opened] = []
    for subject in subjects:
        tokenizer, config = load_tokenizer_and_config(subject.path)
        contexts = _contexts(tokenizer, config, subject, request)
        rows = None
        if request.decoding.block is not None:
            rows = block_rows(request, subject, trials[-1] if trials else None, tokenizer)
        blocked = None if rows is None else _blocked(rows, tokenizer, config, request, subject)
        opened.append(Opened(subject, tokenizer, config, contexts, blocked, surfaces(tokenizer)))
    if request.top and not same_tokenizer(opened):
        raise RayfitError(
            "--top: the two models' tokenizers differ, so there is no text of tokens along which to compare their "
            "predictions; ask for one model at a time"
        )
    return opened


def same_tokenizer(opened: Sequence[Opened]) -> bool:
    """True when token ids mean the same to all."""
    vocabularies = [each.tokenizer.get_vocab() for each in opened]
    return all(vocabulary == vocabularies[0] for vocabulary in vocabularies)


def _contexts(tokenizer: Any, config: Any, subject: Subject, request: Request) -> list[list[int]]:
    """The prompts' token ids."""
    return prompt_ids(
        request.prompts,
        lambda prompt: tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"],
        bos_id=leading_bos(tokenizer, subject.path),
        window=context_window(config),
        num_new_tokens=request.decoding.num_new_tokens,
        model=str(subject.path),
        flag="--prompt" if len(request.prompts) == 1 else "--prompts",
    )


def _blocked(
    rows: list[list[int]], tokenizer: Any, config: Any, request: Request, subject: Subject
) -> Blocked:
    assert request.decoding.block is not None
    starts = word_starts(tokenizer, vocabulary_size(config))
    bos_id = leading_bos(tokenizer, subject.path)
    index = BlockIndex.build(rows, starts, run=request.decoding.block.run, bos_id=bos_id)
    return Blocked(index, OverlapIndex(drop_leading(rows, bos_id)))

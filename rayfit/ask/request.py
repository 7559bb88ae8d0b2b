"""The request of a person and its answer: plain values, with no torch behind them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rayfit.decoding import Decoding
from rayfit.records.storage import Storage
from rayfit.records.trial import TrialRecord


@dataclass(frozen=True, kw_only=True)
class Request:
    """One call of `rayfit generate`.

    `named`: pairs ("model", path or preset or hub id) and ("trial", id), in the order given. `block`: whose texts the
    blocker knows: a trial, a local file or folder, or a dataset preset; None takes the rows of the last trial named.
    `text_column`: of a table given as `block`. `top`: how many predictions to show per token, 0 for none.
    """

    prompts: tuple[str, ...]
    named: tuple[tuple[str, str], ...]
    decoding: Decoding
    storage: Storage
    block: str | None = None
    text_column: str = "text"
    top: int = 0


@dataclass(frozen=True)
class Subject:
    """One model that answers: how its column is called, its directory, and the trial's record where it is one's."""

    title: str
    path: Path
    trial: TrialRecord | None = None


@dataclass(frozen=True, kw_only=True)
class Text:
    """One continuation. `pieces`: what each new token adds to the text; `repeated_runs`: for each, the longest run
    ending there that already ended earlier in the continuation (tokens, 0 for a new token).

    `ended`: a special token ended it. `steps_banned`, `steps_changed`: as in `Generations`, None without a blocker.
    `longest_cited`: tokens of the longest run that stands in the blocked texts, None without them.
    """

    pieces: tuple[str, ...]
    repeated_runs: tuple[int, ...]
    num_distinct: int
    ended: bool
    steps_banned: int | None = None
    steps_changed: int | None = None
    longest_cited: int | None = None


@dataclass(frozen=True)
class Prediction:
    """The expectation of a model at one place of a text, before any decoding: probabilities in 0 to 1.

    `best`: the most probable tokens, highest first. `token`: the one that stands there, its `probability`, and its
    `rank` (1 for the most probable).
    """

    best: tuple[tuple[str, float], ...]
    token: str
    probability: float
    rank: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One prompt's continuations, one per subject.

    `predictions`: one sequence per subject, over the prompt's tokens (but the first of the text) and those of the last
    subject's continuation; empty where none were asked for. `num_prompt_tokens`: how many of them are the prompt's.
    """

    prompt: str
    texts: tuple[Text, ...]
    predictions: tuple[tuple[Prediction, ...], ...] = ()
    num_prompt_tokens: int = 0

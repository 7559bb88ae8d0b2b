"""Every prompt continued by every subject, one model in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from rayfit.ask.opened import Opened, open_subjects, same_tokenizer
from rayfit.ask.request import Answer, Prediction, Request, Subject, Text
from rayfit.errors import RayfitError
from rayfit.generate.generations import Generations
from rayfit.generate.generator import generate
from rayfit.generate.loading import default_device, default_precision, load_model
from rayfit.score.logits import token_statistics
from rayfit.score.overlap import repeated_runs

DIFFERENT_TOKENIZERS = (
    "The two models' tokenizers differ: numbers of tokens, shares and shades of one column cannot be compared with "
    "those of the other."
)


def answers(
    request: Request, subjects: Sequence[Subject], say: Callable[[str], None]
) -> tuple[list[Answer], list[str]]:
    """One answer per prompt, and notes on what cannot be compared.

    Predictions are those along the prompt and the last subject's continuation, as the models give them before a
    decoding changes them (the paper's Figure 4). Raises RayfitError for all that cannot be meant, loaded, or held by a
    model's context window, and for logits that are NaN.
    """
    opened = open_subjects(request, subjects)
    texts: list[list[Text]] = []
    predictions: list[list[tuple[Prediction, ...]]] = []
    along: list[list[int]] = []
    # The last first: its texts are those along which all are asked for predictions.
    for each in reversed(opened):
        say(f"{each.subject.title}: loading and generating")
        found, predicted, along = _continued(each, request, along)
        texts.insert(0, found)
        predictions.insert(0, predicted)
    notes = [] if same_tokenizer(opened) else [DIFFERENT_TOKENIZERS]
    return [
        Answer(
            prompt=prompt,
            texts=tuple(column[place] for column in texts),
            predictions=tuple(column[place] for column in predictions) if request.top else (),
            num_prompt_tokens=len(opened[-1].contexts[place]) - 1,
        )
        for place, prompt in enumerate(request.prompts)
    ], notes


def _continued(
    opened: Opened, request: Request, along: list[list[int]]
) -> tuple[list[Text], list[tuple[Prediction, ...]], list[list[int]]]:
    """One subject's texts; its predictions along `along`, or where that is empty along what it generated; and that."""
    device = default_device()
    precision = default_precision(device)
    model, blocked = load_model(opened.subject.path, precision=precision, device=device), opened.blocked
    generations = generate(
        model,
        opened.contexts,
        request.decoding,
        suppress_ids=opened.special_ids,
        context_ids=request.prompts,
        block_index=None if blocked is None else blocked.index,
    )
    texts = [_text(opened, generations, place) for place in range(len(generations))]
    whole = along or [
        [*context, *generations.ids(place).tolist()] for place, context in enumerate(opened.contexts)
    ]
    if not request.top:
        return texts, [], whole
    return (
        texts,
        [
            _predictions(model, opened, text, request.top, prompt)
            for text, prompt in zip(whole, request.prompts, strict=True)
        ],
        whole,
    )


def _text(opened: Opened, generations: Generations, place: int) -> Text:
    new = generations.ids(place).tolist()
    cited = None
    if opened.blocked is not None:
        cited = int(opened.blocked.overlaps.match_lengths([new]).max(initial=0))
    return Text(
        pieces=opened.pieces(opened.contexts[place], new),
        repeated_runs=tuple(repeated_runs([new])[0].tolist()),
        num_distinct=len(set(new)),
        ended=bool(generations.ended[place]),
        steps_banned=_entry(generations.steps_banned, place),
        steps_changed=_entry(generations.steps_changed, place),
        longest_cited=cited,
    )


def _entry(values: np.ndarray | None, place: int) -> int | None:
    return None if values is None else int(values[place])


@torch.inference_mode()
def _predictions(
    model: Any, opened: Opened, text: list[int], top: int, prompt: str
) -> tuple[Prediction, ...]:
    """Return what the model expects at each place of a text but the first."""
    ids_BT = torch.tensor([text], device=model.device)
    logits_BTV = model(input_ids=ids_BT, use_cache=False).logits[:, :-1]
    try:
        statistics = token_statistics(logits_BTV, ids_BT[:, 1:])
    except RayfitError as error:
        raise RayfitError(f"--top: {opened.subject.title}, prompt {prompt[:60]!r}: {error}") from error
    found = []
    for place, token in enumerate(text[1:]):
        best = torch.softmax(logits_BTV[0, place].float(), dim=-1).topk(min(top, logits_BTV.shape[-1]))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        found.append(
            Prediction(
                best=tuple((opened.visible(candidate), mass) for candidate, mass in pairs),
                token=opened.visible(token),
                probability=float(torch.exp(-statistics.nll_nats[0, place])),
                rank=int(statistics.rank[0, place]),
            )
        )
    return tuple(found)

"""Batched generation: contexts and a decoding in, token ids and what the blocker did out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessorList

from rayfit.decoding import Decoding
from rayfit.errors import RayfitError
from rayfit.generate.blocker import Blocker, make_blocker
from rayfit.generate.cache import roomy_cache
from rayfit.generate.contexts import checked_names
from rayfit.generate.generations import Generations
from rayfit.generate.index import BlockIndex
from rayfit.generate.processors import Chooser
from rayfit.gpu_memory import in_halves
from rayfit.prepare.model_shape import num_layers

# More texts at once were never slower (benchmarks/generation.py): the memory of its cache limits a batch.
_MOST_AT_ONCE = 512
_CACHE_BYTES_ON_CPU = 2 * 2**30
_CACHE_SHARE_OF_GPU = 0.3  # of what the weights leave


def generate(
    model: Any,
    contexts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    suppress_ids: Sequence[int],
    context_ids: Sequence[str] | None = None,
    batch_size: int | None = None,
    block_index: BlockIndex | None = None,
) -> Generations:
    """Continue every context under one decoding with transformers' `generate` (the paper, section 4 and B.2).

    model: a transformers causal language model, on its device. contexts: token ids, each at least one, BOS
        included where the model wants it. suppress_ids: ids that are no text (`vocabulary.special_ids`):
        never generated, or, with `stop_at_end`, what ends a text.
    context_ids: what the random numbers of each context are drawn from, with the decoding's seed; by default
        a hash of its tokens. batch_size: contexts at once; it changes speed and memory, and in fp32 no text.
    block_index: the training rows; needed by a decoding with a blocker, else not looked at.

    Raises RayfitError for an empty context, an id outside the vocabulary, more tokens than the model's
    context window holds, a blocker without its index, and NaN logits.
    """
    if batch_size is not None and batch_size < 1:
        raise RayfitError(f"generate: batch_size must be at least 1, got {batch_size}")
    names = checked_names(contexts, context_ids, decoding, model.config)
    blocker = make_blocker(decoding, block_index)
    room = max(len(context) for context in contexts) + decoding.num_new_tokens

    def run(begin: int, end: int) -> _Part:
        return _batch(model, contexts[begin:end], names[begin:end], decoding, suppress_ids, blocker)

    parts: list[_Part] = []
    with _bare(model), torch.inference_mode():
        for begin, end in _batches(len(contexts), batch_size or default_batch_size(model, room)):
            parts += in_halves(run, begin, end)
    return _join(parts, decoding.num_new_tokens, blocker)


@dataclass(frozen=True)
class _Part:
    tokens: np.ndarray
    lengths: np.ndarray
    ended: np.ndarray
    steps_banned: np.ndarray
    steps_changed: np.ndarray


def _batch(
    model: Any,
    contexts: Sequence[Sequence[int]],
    names: Sequence[str],
    decoding: Decoding,
    suppress_ids: Sequence[int],
    blocker: Blocker | None,
) -> _Part:
    longest = max(len(context) for context in contexts)
    first = np.array([longest - len(context) for context in contexts], dtype=np.int64)
    pad = int(contexts[0][0])  # masked everywhere, so any id that the model has does
    padded = np.full((len(contexts), longest), pad, dtype=np.int64)
    for row, context in enumerate(contexts):
        padded[row, first[row] :] = context
    mask = np.arange(longest) >= first[:, None]
    chooser = Chooser(decoding, names, first, longest, suppress_ids, blocker)
    room = longest + decoding.num_new_tokens
    out = model.generate(
        torch.from_numpy(padded).to(model.device),
        attention_mask=torch.from_numpy(mask.astype(np.int64)).to(model.device),
        generation_config=GenerationConfig(
            do_sample=False,
            max_new_tokens=decoding.num_new_tokens,
            pad_token_id=pad,
            eos_token_id=list(suppress_ids) if decoding.stop_at_end and len(suppress_ids) else None,
        ),
        logits_processor=LogitsProcessorList([chooser]),
        past_key_values=roomy_cache(model, room),
    )
    tokens = out[:, longest:].cpu().numpy().astype(np.int32)
    lengths, ended = _lengths(tokens, suppress_ids if decoding.stop_at_end else ())
    tokens[np.arange(tokens.shape[1]) >= lengths[:, None]] = -1
    counted = np.arange(decoding.num_new_tokens) < lengths[:, None]
    banned, changed = (
        (steps & counted).sum(axis=1) for steps in (chooser.steps_banned, chooser.steps_changed)
    )
    return _Part(tokens, lengths, ended, banned.astype(np.int32), changed.astype(np.int32))


def _lengths(tokens: np.ndarray, end_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """True lengths int32 and whether a special id ended the text; it counts as the last token."""
    is_end = np.isin(tokens, np.asarray(end_ids, dtype=np.int32))
    ended: np.ndarray = is_end.max(axis=1)
    lengths = np.where(ended, is_end.argmax(axis=1) + 1, tokens.shape[1])
    return lengths.astype(np.int32), ended


def _join(parts: list[_Part], num_new_tokens: int, blocker: Blocker | None) -> Generations:
    tokens = np.full((sum(len(part.lengths) for part in parts), num_new_tokens), -1, dtype=np.int32)
    row = 0
    for part in parts:
        tokens[row : row + len(part.tokens), : part.tokens.shape[1]] = part.tokens
        row += len(part.tokens)
    return Generations(
        tokens,
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([part.ended for part in parts]),
        None if blocker is None else np.concatenate([part.steps_banned for part in parts]),
        None if blocker is None else np.concatenate([part.steps_changed for part in parts]),
        tuple(len(part.lengths) for part in parts),
    )


def default_batch_size(model: Any, num_tokens: int) -> int:
    """Texts of `num_tokens` to generate at once: 1 to 512, as long as their keys and values take at most
    2 GiB of a CPU's memory, or three tenths of what the model's weights leave of a GPU's.

    What else is in a GPU's memory at the moment does not count: in bf16 a text may depend on its batch.
    """
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    text_bytes = 2 * num_layers(config) * heads * head_size * num_tokens * model.dtype.itemsize
    room: float = _CACHE_BYTES_ON_CPU
    if model.device.type == "cuda":
        weights = sum(each.numel() * each.itemsize for each in model.parameters())
        room = _CACHE_SHARE_OF_GPU * (torch.cuda.mem_get_info(model.device)[1] - weights)
    return int(min(_MOST_AT_ONCE, max(1, room // text_bytes)))


def _batches(count: int, batch_size: int) -> Iterator[tuple[int, int]]:
    """Borders of as few batches as `batch_size` allows, of sizes that differ by at most one."""
    num_batches = -(-count // batch_size)
    borders = [place * count // num_batches for place in range(num_batches + 1)]
    return pairwise(borders)


@contextmanager
def _bare(model: Any) -> Iterator[None]:
    """The model without dropout and without its directory's generation defaults, which change decodings."""
    kept, was_training = model.generation_config, model.training
    model.generation_config = GenerationConfig()
    model.eval()
    try:
        yield
    finally:
        model.generation_config = kept
        model.train(was_training)

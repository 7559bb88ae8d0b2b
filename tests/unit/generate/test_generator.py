"""Batched generation: the same alone and in any batch, under every decoding, and clear about bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from rayfit.decoding import Block, Decoding
from rayfit.errors import RayfitError
from rayfit.generate.generator import generate
from rayfit.generate.index import BlockIndex
from rayfit.generate.vocabulary import special_ids
from tests.unit.generate.conftest import VOCABULARY, WINDOW, tiny_llama

STORIES = Path(__file__).parents[4] / "shared" / "models" / "stories260K"
SPECIAL = (0, 1, 2)
DECODINGS = [
    "greedy",
    "nucleus:seed=4",
    "temperature:temperature=0.8",
    "min_p",
    "greedy:repetition_penalty=1.2",
    "greedy:no_repeat_ngram=2",
    "nucleus:no_repeat_ngram=3,repetition_penalty=1.1",
    "greedy:block=W0,block_run=2",
    "greedy:block=W2,block_run=1,block_source=context+generated",
    "nucleus:block=W1,block_run=1,temperature=1.5",
]


def some_contexts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [generator.integers(3, VOCABULARY, length).tolist() for length in lengths]


def index_for(decoding: Decoding) -> BlockIndex:
    generator = np.random.default_rng(9)
    rows = generator.integers(3, VOCABULARY, (60, 200))
    run = decoding.block.run if decoding.block else 2
    return BlockIndex.build(rows, generator.random(VOCABULARY) < 0.5, run=run, bos_id=None)


@pytest.mark.parametrize("text", DECODINGS)
@pytest.mark.parametrize("lengths", [[9] * 7, [9, 1, 14, 3, 9, 5, 2]], ids=["one-length", "padded"])
def test_alone_and_in_any_batch(random_llama: LlamaForCausalLM, text: str, lengths: list[int]) -> None:
    decoding = Decoding.parse(f"{text}{',' if ':' in text else ':'}num_new_tokens=24")
    contexts, index = some_contexts(lengths), index_for(decoding)
    names = [f"context-{place}" for place in range(len(contexts))]

    def run(places: list[int], batch_size: int) -> Any:
        return generate(
            random_llama,
            [contexts[place] for place in places],
            decoding,
            suppress_ids=SPECIAL,
            context_ids=[names[place] for place in places],
            batch_size=batch_size,
            block_index=index,
        )

    whole = run(list(range(7)), 7)
    assert whole.tokens.shape == (7, 24)
    assert whole.tokens.min() >= 3
    assert whole.lengths.tolist() == [24] * 7
    assert not whole.ended.any()
    for places, batch_size in (([6, 5, 4, 3, 2, 1, 0], 3), ([2], 1), ([1, 4], 8)):
        part = run(places, batch_size)
        np.testing.assert_array_equal(part.tokens, whole.tokens[places])
        if decoding.block:
            np.testing.assert_array_equal(part.steps_banned, whole.steps_banned[places])
            np.testing.assert_array_equal(part.steps_changed, whole.steps_changed[places])
    if decoding.block:
        assert (whole.steps_changed <= whole.steps_banned).all()
        assert whole.steps_banned.sum() > 0


def test_greedy_is_plain_transformers_greedy(random_llama: LlamaForCausalLM) -> None:
    contexts = torch.tensor(some_contexts([8] * 5))
    plain = random_llama.generate(
        contexts,
        attention_mask=torch.ones_like(contexts),
        max_new_tokens=40,
        do_sample=False,
        suppress_tokens=list(SPECIAL),
        pad_token_id=0,
        eos_token_id=None,
    )[:, 8:]
    found = generate(random_llama, contexts.tolist(), Decoding(num_new_tokens=40), suppress_ids=SPECIAL)
    np.testing.assert_array_equal(found.tokens, plain.numpy())
    assert found.steps_banned is None


def test_penalties_are_those_of_transformers(random_llama: LlamaForCausalLM) -> None:
    contexts = torch.tensor(some_contexts([8] * 5))
    for ours, theirs in (
        ("greedy:repetition_penalty=1.5", {"repetition_penalty": 1.5}),
        ("greedy:no_repeat_ngram=2", {"no_repeat_ngram_size": 2}),
    ):
        plain = random_llama.generate(
            contexts,
            attention_mask=torch.ones_like(contexts),
            max_new_tokens=40,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=None,
            **theirs,
        )[:, 8:]
        decoding = Decoding.parse(ours + ",num_new_tokens=40")
        found = generate(random_llama, contexts.tolist(), decoding, suppress_ids=())
        np.testing.assert_array_equal(found.tokens, plain.numpy())


def test_ties_go_to_the_lowest_id_that_is_not_special() -> None:
    model = tiny_llama(2)
    torch.nn.init.zeros_(model.lm_head.weight)
    for text in ("greedy", "nucleus:top_k=1", "greedy:block=W0"):
        decoding = Decoding.parse(f"{text}{',' if ':' in text else ':'}num_new_tokens=5")
        index = BlockIndex.build([[5, 6, 7]], np.ones(VOCABULARY, dtype=bool), bos_id=None)
        found = generate(model, [[4], [5, 6]], decoding, suppress_ids=SPECIAL, block_index=index)
        assert found.tokens.tolist() == [[3] * 5] * 2


def test_seeds_and_context_ids_decide_samples(random_llama: LlamaForCausalLM) -> None:
    contexts = [*some_contexts([6, 6]), some_contexts([6])[0]]

    def run(seed: int, **options: Any) -> np.ndarray:
        decoding = Decoding("temperature", seed=seed, num_new_tokens=20)
        return generate(random_llama, contexts, decoding, suppress_ids=SPECIAL, **options).tokens

    first = run(0)
    np.testing.assert_array_equal(first, run(0))
    np.testing.assert_array_equal(first[0], first[2])  # by default a context's tokens are its id
    assert (run(1) != first).any(axis=1).all()
    named = run(0, context_ids=["a", "b", "c"])
    assert (named[0] != named[2]).any()
    longer = generate(
        random_llama, contexts, Decoding("temperature", num_new_tokens=30), suppress_ids=SPECIAL
    )
    np.testing.assert_array_equal(longer.tokens[:, :20], first)


def test_stopping_records_true_lengths(random_llama: LlamaForCausalLM) -> None:
    contexts = some_contexts([7, 3, 11, 5])
    free = generate(random_llama, contexts, Decoding(num_new_tokens=30), suppress_ids=())
    end = int(np.bincount(free.tokens.ravel()).argmax())
    index = BlockIndex.build(free.tokens[:1], np.ones(VOCABULARY, dtype=bool), run=2, bos_id=None)
    decoding = Decoding(num_new_tokens=30, stop_at_end=True)
    for batch_size in (1, 4):
        found = generate(
            random_llama, contexts, decoding, suppress_ids=(end,), batch_size=batch_size, block_index=index
        )
        assert found.ended.any()
        for row in range(4):
            text = free.tokens[row].tolist()
            length = text.index(end) + 1 if end in text else 30
            assert found.lengths[row] == length
            assert found.ids(row).tolist() == text[:length]
            assert (found.tokens[row, length:] == -1).all()
            assert found.ended[row] == (end in text)


def test_a_directorys_generation_defaults_do_not_leak_in(random_llama: LlamaForCausalLM) -> None:
    contexts = some_contexts([5, 5])
    wanted = generate(random_llama, contexts, Decoding(num_new_tokens=20), suppress_ids=SPECIAL)
    kept = random_llama.generation_config
    try:
        random_llama.generation_config = type(kept)(repetition_penalty=3.0, suppress_tokens=[3], max_length=9)
        mine = random_llama.generation_config
        random_llama.train()
        found = generate(random_llama, contexts, Decoding(num_new_tokens=20), suppress_ids=SPECIAL)
        assert random_llama.training
        assert random_llama.generation_config is mine
    finally:
        random_llama.generation_config = kept
        random_llama.eval()
    np.testing.assert_array_equal(found.tokens, wanted.tokens)


@pytest.mark.parametrize("kind", ["gpt2", "mistral"])
def test_other_architectures(kind: str) -> None:
    torch.manual_seed(0)
    small = {"vocab_size": VOCABULARY, "initializer_range": 0.3}
    model = (
        GPT2LMHeadModel(GPT2Config(n_positions=64, n_embd=32, n_layer=2, n_head=4, **small))
        if kind == "gpt2"
        else MistralForCausalLM(
            MistralConfig(
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=64,
                sliding_window=6,
                **small,
            )
        )
    ).eval()
    contexts = some_contexts([9, 4, 9, 2])
    decoding = Decoding(num_new_tokens=30)
    together = generate(model, contexts, decoding, suppress_ids=SPECIAL)
    for place, context in enumerate(contexts):
        alone = generate(model, [context], decoding, suppress_ids=SPECIAL)
        np.testing.assert_array_equal(alone.tokens[0], together.tokens[place])
    with pytest.raises(RayfitError, match="context window of 64; at most 55 fit"):
        generate(model, contexts, Decoding(num_new_tokens=56), suppress_ids=SPECIAL)


@pytest.mark.parametrize("text", ["nan", "one"])
def test_nan_logits_are_an_error(text: str) -> None:
    model = tiny_llama(3)
    with torch.no_grad():
        if text == "nan":
            model.lm_head.weight[5, 0] = torch.nan
        else:
            model.model.embed_tokens.weight[40] = torch.nan  # met only by a context that holds token 40
    with pytest.raises(
        RayfitError, match="logits are NaN at new token 1 of context 'b'" if text == "one" else "NaN"
    ):
        generate(
            model, [[4], [40], [6]], Decoding(num_new_tokens=3), suppress_ids=SPECIAL, context_ids=[*"abc"]
        )


def test_infinite_logits_are_an_error_and_a_few_impossible_tokens_are_not() -> None:
    model = tiny_llama(3)
    wanted = generate(model, [[4], [40]], Decoding(num_new_tokens=3), suppress_ids=(7,))
    bias = torch.zeros(VOCABULARY)
    model.lm_head.bias = torch.nn.Parameter(bias)
    bias[7] = -torch.inf
    found = generate(model, [[4], [40]], Decoding(num_new_tokens=3), suppress_ids=())
    np.testing.assert_array_equal(found.tokens, wanted.tokens)
    bias[9] = torch.inf
    for text in ("greedy", "nucleus"):
        with pytest.raises(RayfitError, match="logits are infinite at new token 1 of context 'a'"):
            generate(model, [[4], [40]], Decoding(text), suppress_ids=(), context_ids=["a", "b"])


def test_bad_input_is_named(random_llama: LlamaForCausalLM) -> None:
    def run(contexts: list[list[int]], decoding: Decoding | None = None, **options: Any) -> None:
        generate(
            random_llama, contexts, decoding or Decoding(num_new_tokens=4), suppress_ids=SPECIAL, **options
        )

    for contexts, message in (
        ([], "no contexts"),
        ([[5], []], "context 1 is empty"),
        ([[5, VOCABULARY]], f"token id {VOCABULARY}, outside the model's vocabulary of {VOCABULARY}"),
        ([[-1]], "token id -1"),
    ):
        with pytest.raises(RayfitError, match=message):
            run(contexts)
    with pytest.raises(RayfitError, match=f"context window of {WINDOW}; at most {WINDOW - 2} fit"):
        run([[5], [6, 7]], Decoding(num_new_tokens=WINDOW - 1))
    run([[5], [6, 7]], Decoding(num_new_tokens=WINDOW - 2))
    with pytest.raises(RayfitError, match="2 context ids for 1"):
        run([[5]], context_ids=["a", "b"])
    with pytest.raises(RayfitError, match="batch_size"):
        run([[5]], batch_size=0)
    with pytest.raises(RayfitError, match="needs the training rows"):
        run([[5]], Decoding(num_new_tokens=4, block=Block()))


def test_where_nothing_is_left_the_best_unbanned_id_is_taken() -> None:
    model = tiny_llama(4)
    everything = [[token] for token in range(3, VOCABULARY)]
    starts = np.ones(VOCABULARY, dtype=bool)
    rows = [[7, token] for token in range(3, VOCABULARY) if token != 11]
    index = BlockIndex.build(rows, starts, run=1, bos_id=None)
    decoding = Decoding(num_new_tokens=1, block=Block("W0", "context+generated", 1))
    found = generate(model, [[7]], decoding, suppress_ids=SPECIAL, block_index=index)
    assert found.tokens.tolist() == [[11]]
    # every id banned: the ban is lifted rather than a special id let in
    index = BlockIndex.build([[7, *token] for token in everything], starts, run=1, bos_id=None)
    free = generate(model, [[7]], Decoding(num_new_tokens=1), suppress_ids=SPECIAL)
    found = generate(model, [[7]], decoding, suppress_ids=SPECIAL, block_index=index)
    assert found.tokens.tolist() == free.tokens.tolist()
    assert found.steps_changed is not None
    assert found.steps_changed.tolist() == [0]
    # an n-gram of one token: nothing may come twice, and 58 ids are used up before 64 tokens
    used = generate(model, [[7]], Decoding(num_new_tokens=64, no_repeat_ngram=1), suppress_ids=SPECIAL)
    assert len(set(used.tokens[0, :57].tolist())) == 57
    assert used.tokens.min() >= 3


@pytest.mark.parametrize("text", ["greedy", "nucleus", "greedy:block=W0,block_run=2"])
def test_special_ids_without_a_logit_change_nothing(random_llama: LlamaForCausalLM, text: str) -> None:
    decoding = Decoding.parse(f"{text}{',' if ':' in text else ':'}num_new_tokens=12")
    contexts, index = some_contexts([5, 3]), index_for(decoding)
    plain, more = (
        generate(random_llama, contexts, decoding, suppress_ids=special, block_index=index).tokens
        for special in (SPECIAL, (*SPECIAL, VOCABULARY, VOCABULARY + 7))
    )
    np.testing.assert_array_equal(plain, more)


def test_a_matched_decoding_has_no_temperature_yet(random_llama: LlamaForCausalLM) -> None:
    with pytest.raises(RayfitError, match="its temperature is found by a sweep"):
        generate(random_llama, [[5]], Decoding("matched"), suppress_ids=SPECIAL)


@pytest.mark.skipif(not STORIES.is_dir(), reason=f"no model at {STORIES}")
def test_the_small_real_model_continues_the_same_alone_and_in_a_batch() -> None:
    tokenizer, model = AutoTokenizer.from_pretrained(STORIES), AutoModelForCausalLM.from_pretrained(STORIES)
    special = special_ids(tokenizer, model.config)
    texts = [
        "Once upon a time, there was a little girl named Lily.",
        "Tom",
        "The dog ran to the big red ball and",
        "One day, a boy went to the park with his mom. He saw a",
    ]
    contexts = [tokenizer(text)["input_ids"] for text in texts]
    for decoding in (Decoding(num_new_tokens=64), Decoding("nucleus", num_new_tokens=64)):
        together = generate(model, contexts, decoding, suppress_ids=special)
        for place, context in enumerate(contexts):
            alone = generate(model, [context], decoding, suppress_ids=special)
            np.testing.assert_array_equal(alone.tokens[0], together.tokens[place])
        assert not np.isin(together.tokens, special).any()
    stopped = generate(model, contexts, Decoding(num_new_tokens=300, stop_at_end=True), suppress_ids=special)
    assert stopped.ended.any()
    assert set(stopped.ids(int(stopped.ended.argmax()))[-1:].tolist()) <= set(special)

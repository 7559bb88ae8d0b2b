"""The vLLM engine without vLLM: its processor against brute force, and the whole path through a stand-in."""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rayfit.decoding import WAIT_RULES, Block, Decoding
from rayfit.errors import RayfitError
from rayfit.generate import engine_vllm
from rayfit.generate.engine_vllm import BlockerProcessor, generate_vllm, sampling_arguments
from rayfit.generate.generator import generate
from rayfit.generate.index import BlockIndex
from tests.unit.generate.conftest import Memoriser
from tests.unit.generate.oracles import brute_bans


class Move(enum.Enum):
    UNIDIRECTIONAL = 1
    SWAP = 2


def update(removed: Any = (), added: Any = (), moved: Any = ()) -> SimpleNamespace:
    return SimpleNamespace(batch_size=0, removed=removed, added=added, moved=moved)


def params(wait: str, source: str, run: int, path: Path, suppress: tuple[int, ...] = ()) -> SimpleNamespace:
    decoding = Decoding(block=Block(wait, source, run))
    return SimpleNamespace(**sampling_arguments(decoding, "a", suppress, path))


@pytest.mark.skipif("vllm" in sys.modules, reason="vllm is installed")
def test_without_vllm_the_error_says_how_to_get_it() -> None:
    try:
        import vllm  # noqa: F401
    except ImportError:
        with pytest.raises(RayfitError, match="pip install"):
            generate_vllm("nowhere", [[1]], Decoding(), suppress_ids=())
    assert not hasattr(engine_vllm, "no_such_name")


@pytest.mark.parametrize("wait", WAIT_RULES)
@pytest.mark.parametrize("source", ["generated", "context+generated"])
def test_processor_equals_brute_force_while_requests_come_move_and_go(
    tmp_path: Path, wait: str, source: str
) -> None:
    generator = np.random.default_rng(0)
    vocabulary, run = 5, 3
    starts = generator.random(vocabulary) < 0.5
    rows = [generator.integers(0, vocabulary, 25).tolist() for _ in range(3)]
    BlockIndex.build(rows, starts, run=run, bos_id=None).save(tmp_path / "index.npz")
    # id 1 is special, as is one for which the model has no logit
    request = params(wait, source, run, tmp_path / "index.npz", suppress=(1, vocabulary + 2))
    processor, slots, some = BlockerProcessor(), {}, 0

    def enter(place: int) -> tuple[int, Any, list[int], list[int]]:
        prompt, output = generator.integers(0, vocabulary, 6).tolist(), []
        slots[place] = (prompt, output)
        return place, request, prompt, output

    assert not processor.is_argmax_invariant()
    processor.update_state(update(added=[enter(place) for place in range(4)]))
    for step in range(200):
        change = None
        if step % 7 == 3:
            left, right = (int(place) for place in generator.choice(4, 2, replace=False))
            slots[left], slots[right] = slots[right], slots[left]
            change = update(moved=[(left, right, Move.SWAP)])
        elif step % 11 == 5:  # one leaves, the last takes its place, a new one enters behind
            place = int(generator.integers(0, 3))
            slots[place] = slots[3]
            change = update(removed=[place], moved=[(3, place, Move.UNIDIRECTIONAL)])
            processor.update_state(change)
            change = update(added=[enter(3)])
        elif step % 13 == 6:  # replaced in one go
            change = update(removed=[1], added=[enter(1)])
        processor.update_state(change)
        logits = torch.from_numpy(generator.normal(size=(4, vocabulary)).astype(np.float32))
        out = processor.apply(logits.clone())
        for place, (prompt, output) in slots.items():
            text, first = prompt + output, len(prompt) if source == "generated" else 0
            banned = brute_bans(rows, text, first, run, wait, starts.tolist())
            lifted = len(banned | {1}) == vocabulary
            wanted = {1} if lifted else banned | {1}
            assert set(torch.isneginf(out[place]).nonzero()[:, 0].tolist()) == wanted
            some += bool(banned)
            output.append(int(generator.integers(0, vocabulary)))
    assert some > 20


def test_where_everything_is_banned_special_ids_stay_out(tmp_path: Path) -> None:
    rows = [[4, token] for token in range(5)]
    BlockIndex.build(rows, np.ones(5, dtype=bool), run=1, bos_id=None).save(tmp_path / "index.npz")
    processor = BlockerProcessor()
    request = params("W0", "generated", 1, tmp_path / "index.npz", suppress=(0, 1))
    processor.update_state(update(added=[(0, request, [2], [4])]))
    assert processor.apply(torch.zeros(1, 5)).isneginf().tolist() == [[True, True, False, False, False]]


def test_placeholders_are_never_taken_for_tokens(tmp_path: Path) -> None:
    BlockIndex.build([[1, 2, 3]], np.ones(5, dtype=bool), run=2, bos_id=None).save(tmp_path / "index.npz")
    processor = BlockerProcessor()
    request = params("W0", "generated", 2, tmp_path / "index.npz", suppress=(0,))
    processor.update_state(update(added=[(0, request, [4], [1, -1])]))
    with pytest.raises(AssertionError, match="asynchronous scheduling"):
        processor.apply(torch.zeros(1, 5))


def test_nan_logits_name_their_context(tmp_path: Path) -> None:
    processor = BlockerProcessor()
    requests = [SimpleNamespace(**sampling_arguments(Decoding(), name, (0,), None)) for name in "ab"]
    processor.update_state(update(added=[(0, requests[0], [4], [1]), (2, requests[1], [4], [1, 3])]))
    logits = torch.zeros(3, 5)
    logits[1, 4] = torch.nan  # no request of ours
    processor.apply(logits.clone())
    logits[2, 4] = torch.nan
    with pytest.raises(RayfitError, match="logits are NaN at new token 3 of context 'b'"):
        processor.apply(logits)


def test_requests_without_our_arguments_are_left_alone() -> None:
    processor = BlockerProcessor()
    processor.update_state(None)
    processor.update_state(update(added=[(0, SimpleNamespace(extra_args=None), None, [1])]))
    assert processor.apply(torch.zeros(1, 5)).abs().sum() == 0
    with pytest.raises(ValueError, match="rayfit_index"):
        processor.validate_params(SimpleNamespace(extra_args={"rayfit_block": {}}))


class StandInEngine:
    """Runs a transformers model behind `vllm.LLM`'s interface: greedy, all requests in step."""

    model: Any = None

    def __init__(self, **options: Any) -> None:
        assert options["async_scheduling"] is False
        module, name = options["logits_processors"][0].split(":")
        self.processor = getattr(sys.modules[module], name)(None, None, False)

    def generate(self, prompts: list[dict], requests: list[SimpleNamespace], use_tqdm: bool) -> list[Any]:
        texts = [prompt["prompt_token_ids"] for prompt in prompts]
        outputs: list[list[int]] = [[] for _ in texts]
        for request in requests:
            self.processor.validate_params(request)
        self.processor.update_state(
            update(added=[(i, request, texts[i], outputs[i]) for i, request in enumerate(requests)])
        )
        for _ in range(requests[0].max_tokens):
            batch = torch.tensor([text + output for text, output in zip(texts, outputs, strict=True)])
            with torch.no_grad():
                logits = self.model(input_ids=batch).logits[:, -1].clone()
            for output, token in zip(
                outputs, self.processor.apply(logits).argmax(dim=1).tolist(), strict=True
            ):
                output.append(token)
            self.processor.update_state(None)
        return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(output))]) for output in outputs]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    vllm = ModuleType("vllm")
    vllm.LLM = StandInEngine  # type: ignore[attr-defined]
    vllm.SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
    interface = ModuleType("vllm.v1.sample.logits_processor")
    interface.LogitsProcessor = type("LogitsProcessor", (), {})  # type: ignore[attr-defined]
    for name, module in (("vllm", vllm), (interface.__name__, interface)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "0")
    yield
    vars(engine_vllm).pop("VllmBlocker", None)


@pytest.mark.parametrize("block", [None, *WAIT_RULES])
def test_both_engines_give_the_same_generations(
    memoriser: Memoriser, tmp_path: Path, stand_in: None, monkeypatch: pytest.MonkeyPatch, block: str | None
) -> None:
    monkeypatch.setattr(StandInEngine, "model", memoriser.model)
    memoriser.model.config.save_pretrained(tmp_path)
    decoding = Decoding(num_new_tokens=40, block=Block(block, "context+generated") if block else None)
    contexts, index = (
        memoriser.contexts(),
        BlockIndex.build(memoriser.rows, memoriser.starts_word, bos_id=None),
    )
    options: dict[str, Any] = {"suppress_ids": (0, 1, 2), "block_index": index}
    found = generate_vllm(tmp_path, contexts, decoding, **options)
    wanted = generate(memoriser.model, contexts, decoding, **options)
    for name in ("tokens", "lengths", "ended", "steps_banned"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)
    assert found.steps_changed is None


def test_what_vllm_lacks_is_refused(memoriser: Memoriser, tmp_path: Path, stand_in: None) -> None:
    with pytest.raises(RayfitError, match="vLLM does not have it"):
        generate_vllm(tmp_path, [[4]], Decoding(no_repeat_ngram=2), suppress_ids=())


def test_sampling_arguments() -> None:
    nucleus = sampling_arguments(Decoding("nucleus", seed=3), "a", (0, 1), None)
    assert (nucleus["temperature"], nucleus["top_k"], nucleus["top_p"]) == (0.7, 50, 0.9)
    assert nucleus["seed"] == sampling_arguments(Decoding("nucleus", seed=3), "a", (0, 1), None)["seed"]
    assert nucleus["seed"] != sampling_arguments(Decoding("nucleus", seed=3), "b", (0, 1), None)["seed"]
    assert nucleus["extra_args"] == {"rayfit_context": "a", "rayfit_suppress": [0, 1]}
    greedy = sampling_arguments(Decoding(stop_at_end=True), "a", (0, 1), None)
    assert (greedy["temperature"], greedy["seed"], greedy["ignore_eos"]) == (0.0, None, False)
    assert greedy["stop_token_ids"] == [0, 1]

"""The vLLM engine behind the same function, for GPUs; vLLM is imported only when it is asked for.

Its logits processor is `blocker.py` behind vLLM's V1 interface (`vllm.v1.sample.logits_processor`).
Asynchronous scheduling stays off: with it the lists of generated tokens hold placeholders. The interface is that of
vLLM 0.14 to 0.31, the bounds of the extra `vllm` in pyproject.toml.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig

from rayfit.decoding import Block, Decoding
from rayfit.engine_names import not_installed
from rayfit.errors import RayfitError
from rayfit.generate.blocker import Blocker, make_blocker
from rayfit.generate.contexts import checked_names, shortened
from rayfit.generate.generations import Generations
from rayfit.generate.index import BlockIndex
from rayfit.generate.sampling import uniforms

_PROCESSOR = f"{__name__}:VllmBlocker"


def generate_vllm(
    model: str | Path,
    contexts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    suppress_ids: Sequence[int],
    context_ids: Sequence[str] | None = None,
    block_index: BlockIndex | None = None,
    dtype: str = "bfloat16",
    **engine: Any,
) -> Generations:
    """Continue every context with vLLM; arguments and result as `generator.generate`, with these differences.

    model: directory or hub id. dtype: evaluation precision. engine: further arguments of `vllm.LLM`, such as
    `tensor_parallel_size` or `gpu_memory_utilization`. Draws are vLLM's own, with a seed per context that
    follows from (seed, context id). `steps_changed` is None: the engine does not tell what was not chosen.

    Raises RayfitError where vLLM is not installed, for no-repeat-n-gram, which vLLM lacks, and as `generate`.
    """
    vllm = import_vllm()
    if decoding.no_repeat_ngram:
        raise RayfitError("decoding.no_repeat_ngram: vLLM does not have it; use --engine transformers")
    config = AutoConfig.from_pretrained(model)
    names = checked_names(contexts, context_ids, decoding, config)
    blocker = make_blocker(decoding, block_index)
    with tempfile.TemporaryDirectory(prefix="rayfit-vllm-") as folder:
        # the engine works in processes of its own, which take the index from a file
        path = Path(folder) / "index.npz"
        if blocker is not None:
            blocker.index.save(path)
        llm = vllm.LLM(
            model=str(model),
            dtype=dtype,
            skip_tokenizer_init=True,
            async_scheduling=False,
            logits_processors=[_PROCESSOR],
            **engine,
        )
        outputs = llm.generate(
            [{"prompt_token_ids": [int(token) for token in context]} for context in contexts],
            [
                vllm.SamplingParams(
                    **sampling_arguments(decoding, name, suppress_ids, path if blocker else None)
                )
                for name in names
            ],
            use_tqdm=False,
        )
    texts = [list(output.outputs[0].token_ids) for output in outputs]
    return _as_generations(texts, contexts, decoding, suppress_ids, blocker)


def import_vllm() -> ModuleType:
    """The vllm package, or a RayfitError that says how to get it."""
    # newer releases have another processor interface by default, and this one behind the variable
    os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")
    try:
        return import_module("vllm")
    except ImportError as error:
        raise RayfitError(not_installed(str(error))) from error


def sampling_arguments(
    decoding: Decoding, name: str, suppress_ids: Sequence[int], index_path: Path | None
) -> dict[str, Any]:
    """The arguments of `vllm.SamplingParams` for one context; `extra_args` holds those of our processor."""
    extra: dict[str, Any] = {
        "rayfit_context": name,
        "rayfit_suppress": [] if decoding.stop_at_end else [int(i) for i in suppress_ids],
    }
    if decoding.block is not None and index_path is not None:
        block = decoding.block
        extra["rayfit_block"] = {"wait": block.wait, "source": block.source, "run": block.run}
        extra["rayfit_index"] = str(index_path)
    return {
        "temperature": decoding.temperature if decoding.samples else 0.0,
        "top_k": decoding.top_k or 0,
        "top_p": 1.0 if decoding.top_p is None else decoding.top_p,
        "min_p": decoding.min_p or 0.0,
        "repetition_penalty": decoding.repetition_penalty,
        "max_tokens": decoding.num_new_tokens,
        "ignore_eos": not decoding.stop_at_end,
        "stop_token_ids": [int(i) for i in suppress_ids] if decoding.stop_at_end else [],
        "seed": int(uniforms(decoding.seed, name, 1)[0] * 2**53) if decoding.samples else None,
        "detokenize": False,
        "extra_args": extra,
    }


class BlockerProcessor:
    """The blocker and the suppressed ids behind vLLM's V1 interface, called at every step.

    A request takes part by its `extra_args`: `rayfit_context` (its id, for errors), `rayfit_suppress` (ids),
    `rayfit_block` with `rayfit_index`.
    """

    def __init__(self, vllm_config: Any = None, device: Any = None, is_pin_memory: bool = False) -> None:
        del vllm_config, device, is_pin_memory  # what vLLM gives; the blocker works in main memory
        self._requests: dict[int, _Request] = {}
        self._blockers: dict[tuple[str, Block], Blocker] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Raise ValueError where a request names a blocker without its index."""
        extra = sampling_params.extra_args or {}
        if "rayfit_block" in extra and "rayfit_index" not in extra:
            raise RayfitError("vLLM request: rayfit_block needs rayfit_index")

    def is_argmax_invariant(self) -> bool:
        """False: a ban may change the highest logit."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow requests that leave, enter and move within the batch; None where nothing changed."""
        if batch_update is None:
            return
        for place in batch_update.removed:
            self._requests.pop(place, None)
        for place, params, prompt, output in batch_update.added:
            self._requests.pop(place, None)
            extra = params.extra_args or {}
            if "rayfit_suppress" in extra or "rayfit_block" in extra:
                self._requests[place] = _Request(self._blocker(extra), extra, prompt or [], output)
        for source, target, direction in batch_update.moved:
            leaving, there = self._requests.pop(source, None), self._requests.pop(target, None)
            if leaving is not None:
                self._requests[target] = leaving
            if there is not None and direction.name == "SWAP":
                self._requests[source] = there

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Ban in place in `logits` [requests, vocabulary]; where nothing would be left, special ids alone are out.

        Raises RayfitError where a request's logits are NaN, from which vLLM would draw all the same.
        """
        if torch.isnan(logits.sum()):
            self._refuse_nan(logits)
        rows: list[int] = []
        ids: list[int] = []
        for place, request in self._requests.items():
            # A tokenizer may have special ids for which the model has no logit.
            suppressed = [token for token in request.suppressed if token < logits.shape[1]]
            out = suppressed + request.banned_ids()
            if len(set(out)) == logits.shape[1]:
                out = suppressed
            rows.extend([place] * len(out))
            ids.extend(out)
        if rows:
            logits[
                torch.tensor(rows, device=logits.device), torch.tensor(ids, device=logits.device)
            ] = -torch.inf
        return logits

    def _refuse_nan(self, logits: torch.Tensor) -> None:
        for place in torch.isnan(logits).any(dim=1).nonzero()[:, 0].tolist():
            if place in self._requests:
                request = self._requests[place]
                raise RayfitError(
                    f"generate: the model's logits are NaN at new token {len(request.output) + 1} of context "
                    f"{shortened(request.name)!r}; its weights are broken or its training diverged"
                )

    def _blocker(self, extra: dict[str, Any]) -> Blocker | None:
        if "rayfit_block" not in extra:
            return None
        key = (extra["rayfit_index"], Block(**extra["rayfit_block"]))
        if key not in self._blockers:
            self._blockers[key] = Blocker(BlockIndex.load(Path(key[0])), key[1])
        return self._blockers[key]


class _Request:
    """One request; its growing list of generated tokens is vLLM's own, seen through a reference."""

    def __init__(
        self, blocker: Blocker | None, extra: dict[str, Any], prompt: list[int], output: list[int]
    ) -> None:
        self.blocker = blocker
        self.name = str(extra.get("rayfit_context", ""))
        self.suppressed = [int(token) for token in extra.get("rayfit_suppress", ())]
        self.prompt = list(prompt) if blocker is not None and blocker.block.source != "generated" else []
        self.output = output

    def banned_ids(self) -> list[int]:
        """The ids that would continue a citation."""
        if self.blocker is None:
            return []
        reach = self.blocker.reach or len(self.prompt) + len(self.output)
        tail = (self.prompt + self.output)[-reach:] if self.prompt else self.output[-reach:]
        assert -1 not in tail, (
            "vLLM gave a placeholder for a generated token: asynchronous scheduling must be off"
        )
        text = np.array(tail, dtype=np.int64).reshape(1, -1)
        _, banned = self.blocker.bans(text, np.zeros(1, dtype=np.int64))
        return [int(token) for token in banned]


def _as_generations(
    texts: list[list[int]],
    contexts: Sequence[Sequence[int]],
    decoding: Decoding,
    suppress_ids: Sequence[int],
    blocker: Blocker | None,
) -> Generations:
    tokens = np.full((len(texts), decoding.num_new_tokens), -1, dtype=np.int32)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = text
    lengths = np.array([len(text) for text in texts], dtype=np.int32)
    ends = set(suppress_ids) if decoding.stop_at_end else set()
    ended = np.array([bool(text) and text[-1] in ends for text in texts])
    banned = None if blocker is None else _replayed(texts, contexts, blocker)
    return Generations(tokens, lengths, ended, banned)


def _replayed(texts: list[list[int]], contexts: Sequence[Sequence[int]], blocker: Blocker) -> np.ndarray:
    """Steps with a ban in force, found again from the finished texts, int32 [texts]."""
    steps = np.zeros(len(texts), dtype=np.int32)
    for row, (context, text) in enumerate(zip(contexts, texts, strict=True)):
        begin = len(context)
        first = np.array([begin if blocker.block.source == "generated" else 0])
        whole = np.array([[*context, *text]], dtype=np.int64)
        steps[row] = blocker.steps_banned(whole, first, begin, np.array([len(text)]))[0]
    return steps


def __getattr__(name: str) -> Any:
    # vLLM loads the class by its dotted name and wants a subclass of its own, which exists only where vLLM is
    if name == "VllmBlocker":
        base = import_module("vllm.v1.sample.logits_processor").LogitsProcessor
        made = type(name, (BlockerProcessor, base), {"__module__": __name__})
        globals()[name] = made
        return made
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

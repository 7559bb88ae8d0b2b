"""The engines, transformers and vLLM, chosen by name behind one call. Torch waits until an engine is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rayfit.decoding import Decoding
from rayfit.engine_names import check_engine

if TYPE_CHECKING:
    from rayfit.generate.generations import Generations
    from rayfit.generate.index import BlockIndex

_VLLM_DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


class Engine(Protocol):
    """One model ready to continue contexts: arguments, result and errors as `generator.generate`, its model given."""

    def __call__(
        self,
        contexts: Sequence[Sequence[int]],
        decoding: Decoding,
        *,
        suppress_ids: Sequence[int],
        context_ids: Sequence[str] | None = None,
        block_index: BlockIndex | None = None,
    ) -> Generations:
        """Continue every context under the decoding."""


def engine(
    name: str, checkpoint: str | Path, *, precision: str, device: str, model: Any = None, **options: Any
) -> Engine:
    """The engine called `name` for one checkpoint.

    name: one of `ENGINES`. checkpoint: a Hugging Face directory (for vLLM also a hub id). precision: `fp32` or
    `bf16`, of weights and arithmetic. device: `cpu` or `cuda`, for transformers; vLLM takes the GPUs it sees. model:
    the checkpoint as transformers holds it already, which spares the transformers engine loading it. options: for
    vLLM, further arguments of `vllm.LLM` (`gpu_memory_utilization`, `tensor_parallel_size`).

    vLLM loads the checkpoint at each call, and by default takes nine tenths of a GPU's memory: what else is to be on it
    comes after. Its draws are its own, and it does not tell how many steps a blocker changed.

    Raises RayfitError as `check_engine`, and for a checkpoint that cannot be loaded.
    """
    check_engine(name)
    if name == "vllm":
        from rayfit.generate.engine_vllm import generate_vllm

        dtype = _VLLM_DTYPES[precision]

        def run_vllm(contexts: Any, decoding: Decoding, **given: Any) -> Generations:
            return generate_vllm(checkpoint, contexts, decoding, dtype=dtype, **given, **options)

        return run_vllm
    from rayfit.generate.generator import generate
    from rayfit.generate.loading import load_model

    assert not options, "only vLLM takes further options"
    held = load_model(checkpoint, precision=precision, device=device) if model is None else model

    def run_transformers(contexts: Any, decoding: Decoding, **given: Any) -> Generations:
        return generate(held, contexts, decoding, **given)

    return run_transformers

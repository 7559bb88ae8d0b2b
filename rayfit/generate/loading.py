"""A checkpoint as transformers holds it: config, tokenizer and model of a local directory; no code of it is run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from rayfit.errors import RayfitError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def default_device() -> str:
    """`cuda` where there is one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def default_precision(device: str) -> str:
    """What evaluations use: `fp32` on a CPU, where a text then is the same in any batch, and `bf16` elsewhere."""
    return "fp32" if device == "cpu" else "bf16"


def load_tokenizer_and_config(checkpoint: Path) -> tuple[Any, Any]:
    """The tokenizer and the config of a directory; raises RayfitError where one cannot be loaded."""
    try:
        return (
            AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False, local_files_only=True),
            AutoConfig.from_pretrained(checkpoint, trust_remote_code=False, local_files_only=True),
        )
    except Exception as error:  # tokenizers raises what it likes for a file that it cannot read
        raise RayfitError(
            f"{checkpoint} has no tokenizer or config that can be loaded: {_first_line(error)}"
        ) from error


def load_model(checkpoint: str | Path, *, precision: str, device: str) -> Any:
    """A causal language model on `device`, in `precision` (`fp32` or `bf16`), with the attention of evaluations.

    Raises RayfitError where the directory's weights cannot be read, or are not those its config asks for:
    transformers would fill what is missing with random numbers.
    """
    logging.disable_progress_bar()
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            checkpoint,
            dtype=DTYPES[precision],
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="eager" if device == "cpu" else "sdpa",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused here, in a line
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise RayfitError(f"the model in {checkpoint} cannot be loaded: {_first_line(error)}") from error
    _refuse_others(checkpoint, "lacks weights that its config asks for", found["missing_keys"])
    others = [name for name, *_ in found["mismatched_keys"]]
    _refuse_others(checkpoint, "has weights of other sizes than its config asks for", others)
    return model.to(device)


def _refuse_others(checkpoint: str | Path, what: str, names: Iterable[str]) -> None:
    listed = sorted(names)
    if listed:
        more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
        raise RayfitError(f"the model in {checkpoint} {what}: {', '.join(listed[:3])}{more}")


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)

"""A checkpoint as transformers holds it: config, tokenizer and model of a local directory; no code of it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer

from rayfit.errors import RayfitError, first_line
from rayfit.prepare.model_shape import load_causal_model

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def default_device() -> str:
    """`cuda` where there is one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def default_precision(device: str) -> str:
    """Return the precision of evaluations: `fp32` on a CPU, where a text is then the same in any batch, else `bf16`."""
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
            f"{checkpoint} has no tokenizer or config that can be loaded: {first_line(error)}"
        ) from error


def load_model(checkpoint: str | Path, *, precision: str, device: str) -> Any:
    """A causal language model on `device`, in `precision` (`fp32` or `bf16`), with the attention of evaluations.

    Raises RayfitError as `load_causal_model`.
    """
    model = load_causal_model(
        checkpoint,
        dtype=DTYPES[precision],
        attn_implementation="eager" if device == "cpu" else "sdpa",
        ignore_mismatched_sizes=True,  # they are refused with their names
    )
    return model.to(device)

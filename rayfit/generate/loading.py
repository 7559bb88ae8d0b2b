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

    Its logits are fp32 in either. Raises RayfitError as `load_causal_model`.
    """
    model = load_causal_model(
        checkpoint,
        dtype=DTYPES[precision],
        attn_implementation="eager" if device == "cpu" else "sdpa",
        ignore_mismatched_sizes=True,  # they are refused with their names
        **({} if device == "cpu" else straight_to(device)),
    )
    head = model.get_output_embeddings()
    if precision == "bf16" and isinstance(head, torch.nn.Linear):
        model.set_output_embeddings(_Fp32Head(head))
    return model.to(device)


def straight_to(device: str) -> dict[str, Any]:
    """Options that load a model tensor by tensor to a device, so that the host never holds the whole of it."""
    return {"device_map": {"": device}}


class _Fp32Head(torch.nn.Module):
    """A model's last product, in fp32 though the rest is bf16.

    The logits of a large vocabulary lie closer together than bf16 tells apart: the highest of them would tie at one
    position in fifty, and every choice and rank at a tie goes one way.
    """

    def __init__(self, head: torch.nn.Linear) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(head.weight.detach().float(), requires_grad=False)
        self.bias = None
        if head.bias is not None:
            self.bias = torch.nn.Parameter(head.bias.detach().float(), requires_grad=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(hidden.float(), self.weight, self.bias)

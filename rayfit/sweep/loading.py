"""Loading a checkpoint to measure it; a process keeps the last one, since jobs on the same one follow each other."""

from __future__ import annotations

import gc
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rayfit.sweep.evaluation_task import ModelTask

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

_kept: dict[ModelTask, tuple[Any, Any]] = {}


def load(task: ModelTask) -> tuple[Any, Any]:
    """(model, tokenizer) of a Hugging Face directory, on its device; no code of the directory is run."""
    torch.set_num_threads(task.num_threads)
    if task not in _kept:
        # The last one goes first: two models of 70B do not fit where one does.
        _kept.clear()
        gc.collect()
        if task.device != "cpu":
            torch.cuda.empty_cache()
        _kept[task] = _load(task)
    return _kept[task]


def _load(task: ModelTask) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(
        task.path,
        dtype=DTYPES[task.eval_precision],
        trust_remote_code=False,
        use_safetensors=True,
        attn_implementation="eager" if task.device == "cpu" else "sdpa",
    ).to(task.device)
    return model, AutoTokenizer.from_pretrained(task.path, trust_remote_code=False)

"""Holding a checkpoint to measure it; a process keeps the last one, since jobs on the same one follow each other."""

from __future__ import annotations

import gc
from typing import Any

import torch

from rayfit.generate.loading import load_model
from rayfit.sweep.evaluation_task import ModelTask

_kept: dict[ModelTask, Any] = {}


def held_model(task: ModelTask) -> Any:
    """The model of a Hugging Face directory, on its device; raises RayfitError where it cannot be loaded."""
    torch.set_num_threads(task.num_threads)
    if task not in _kept:
        let_go()
        _kept[task] = load_model(task.path, precision=task.eval_precision, device=task.device)
    return _kept[task]


def let_go() -> None:
    """Free the model that is held: two models of 70B do not fit where one does."""
    _kept.clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

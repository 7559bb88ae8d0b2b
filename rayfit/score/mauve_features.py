"""Features for MAUVE from a language model in a local directory. Imports torch and transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from rayfit.errors import RayfitError

MOST_TOKENS = 1024
"""Tokens of a text that are read, as in mauve-text; fewer where the model's context window is shorter."""


@torch.inference_mode()
def last_hidden_states(model_path: str | Path, *sets: Sequence[str]) -> list[np.ndarray]:
    """Return, per set of texts, the last layer's hidden state at each text's last token, float32 (num_texts, hidden).

    The features of mauve-text, which itself loads only models with gpt2 or bert in their name. Texts are read one
    by one, so padding cannot matter. Raises RayfitError where the directory holds no model.
    """
    path = Path(model_path)
    if not (path / "config.json").is_file():
        raise RayfitError(f"MAUVE model: {path} is not a Hugging Face model directory (no config.json)")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    model = AutoModel.from_pretrained(path, trust_remote_code=False, dtype=torch.float32).eval().to(device)
    window = min(MOST_TOKENS, getattr(model.config, "max_position_embeddings", None) or MOST_TOKENS)

    def feature(text: str) -> np.ndarray:
        ids = torch.tensor([tokenizer(text, truncation=True, max_length=window)["input_ids"]], device=device)
        return np.asarray(model(input_ids=ids).last_hidden_state[0, -1].cpu())

    return [np.stack([feature(text) for text in texts]) for texts in sets]

"""A checkpoint as evaluations load it: in bf16 its logits are fp32; its batches do not hang on what else is in a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from rayfit.generate.generator import default_batch_size
from rayfit.generate.loading import load_model

VOCABULARY = 8192


def _config(*, tied: bool) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=tied,
        initializer_range=0.2,
    )


@pytest.mark.parametrize("tied", [True, False])
def test_in_bf16_the_highest_logits_do_not_tie(tmp_path: Path, tied: bool) -> None:
    torch.manual_seed(0)
    LlamaForCausalLM(_config(tied=tied)).save_pretrained(tmp_path)
    ids = torch.randint(0, VOCABULARY, (8, 64))

    def share_tied(model: torch.nn.Module) -> tuple[float, torch.Tensor]:
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits
        top = logits.float().topk(2, dim=-1).values
        return float((top[..., 0] == top[..., 1]).float().mean()), logits

    of_transformers, _ = share_tied(
        AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    )
    in_bf16, logits = share_tied(load_model(tmp_path, precision="bf16", device="cpu"))
    in_fp32, exact = share_tied(load_model(tmp_path, precision="fp32", device="cpu"))
    assert of_transformers > 0.01, "or this shows nothing"
    assert in_fp32 == in_bf16 == 0
    assert logits.dtype == torch.float32
    assert float((logits - exact).abs().mean() / exact.abs().mean()) < 0.05


def test_the_input_of_a_tied_model_stays_bf16(tmp_path: Path) -> None:
    LlamaForCausalLM(_config(tied=True)).save_pretrained(tmp_path)
    model = load_model(tmp_path, precision="bf16", device="cpu")
    assert model.dtype == model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert model.get_output_embeddings().weight.dtype == torch.float32


class _OnACard(LlamaForCausalLM):
    """A model that says that it is on a GPU."""

    device = torch.device("cuda")


def test_a_batch_does_not_hang_on_what_is_free_at_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    total = 24 * 2**30
    model = _OnACard(_config(tied=True))
    sizes = set()
    for free in (total, total // 50):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_, free=free: (free, total))
        sizes.add(default_batch_size(model, 100_000))
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    a_text = 2 * 2 * 64 * 100_000 * 4  # keys and values of two layers, 64 numbers of four bytes each
    assert sizes == {int(0.3 * (total - weights) // a_text)}

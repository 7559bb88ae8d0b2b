"""A checkpoint as evaluations load it: in bf16 its logits are fp32; its batches do not hang on what else is in a GPU.

One that cannot be loaded is refused in a line.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from rayfit.decoding import Decoding
from rayfit.errors import RayfitError, WeightsError
from rayfit.generate.generator import default_batch_size, generate
from rayfit.generate.index import BlockIndex
from rayfit.generate.loading import load_model, load_tokenizer_and_config, straight_to
from rayfit.prepare.model_shape import load_causal_model
from tests.unit.generate.conftest import Memoriser

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


@pytest.fixture
def checkpoint(memoriser: Memoriser, tmp_path: Path) -> Path:
    memoriser.model.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.mark.parametrize("text", ["greedy", "nucleus:temperature=2.0", "greedy:block=W0"])
def test_a_loaded_checkpoint_generates_what_the_saved_model_does(
    memoriser: Memoriser, checkpoint: Path, text: str
) -> None:
    found, wanted = (
        generate(
            model,
            memoriser.contexts(),
            Decoding.parse(text),
            suppress_ids=(0, 1, 2),
            block_index=BlockIndex.build(memoriser.rows, memoriser.starts_word, bos_id=None),
        )
        for model in (load_model(checkpoint, precision="fp32", device="cpu"), memoriser.model)
    )
    for name in ("tokens", "lengths", "ended"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


def refusal(path: Path) -> str:
    with pytest.raises(RayfitError) as caught:
        load_model(path, precision="fp32", device="cpu")
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_weights_that_are_not_what_the_config_asks_for(checkpoint: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "layers.1.mlp" not in name}
    save_file(kept, checkpoint / "model.safetensors", metadata={"format": "pt"})
    message = refusal(checkpoint)
    assert "lacks weights that its config asks for: model.layers.1.mlp.down_proj.weight" in message
    cut = {name: value[:3].clone() if "norm" in name else value for name, value in weights.items()}
    save_file(cut, checkpoint / "model.safetensors", metadata={"format": "pt"})
    message = refusal(checkpoint)
    assert "has weights of other sizes" in message
    assert message.endswith("and 2 more")  # two norms per layer of two layers, and the last
    (checkpoint / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    assert "cannot be loaded" in refusal(checkpoint)


def test_precision_is_the_one_asked_for(checkpoint: Path) -> None:
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        model = load_model(checkpoint, precision=name, device="cpu")
        # What gives the logits is fp32 in either.
        head = {id(parameter) for parameter in model.get_output_embeddings().parameters()}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in head]
        assert {parameter.dtype for parameter in rest} == {dtype}


def test_a_directory_without_a_tokenizer_or_with_a_broken_config(checkpoint: Path) -> None:
    with pytest.raises(RayfitError, match="has no tokenizer or config that can be loaded"):
        load_tokenizer_and_config(checkpoint)
    (checkpoint / "config.json").write_text(json.dumps({"model_type": "nonesuch"}))
    with pytest.raises(RayfitError, match="has no tokenizer or config that can be loaded"):
        load_tokenizer_and_config(checkpoint)


@pytest.mark.parametrize("tied", [True, False])
def test_loaded_straight_to_a_device_a_model_is_what_it_is_by_way_of_the_host(
    tmp_path: Path, tied: bool
) -> None:
    torch.manual_seed(1)
    LlamaForCausalLM(_config(tied=tied)).save_pretrained(tmp_path)
    usual = load_causal_model(tmp_path, dtype=torch.bfloat16)
    straight = load_causal_model(tmp_path, dtype=torch.bfloat16, **straight_to("cpu"))
    assert not any(hasattr(module, "_hf_hook") for module in straight.modules()), "nothing runs at each call"
    found, expected = straight.state_dict(), usual.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"model\.norm\.weight"):
        load_causal_model(tmp_path, dtype=torch.bfloat16, **straight_to("cpu"))

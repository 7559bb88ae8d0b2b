"""What DeepSpeed and the model really hold, against the formula of plans."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config

from rayfit.hub_presets import HUB_MODELS
from rayfit.plan import memory
from rayfit.plan.arrangement import Arrangement, Load
from rayfit.plan.deepspeed import deepspeed_config
from rayfit.shape import Shape
from rayfit.train.loss import next_token_loss
from tests.tiny import save_tiny_llama
from tests.workers import run_workers

pytestmark = pytest.mark.integration

# Small beside the model, as those of a plan are beside a model that is worth a plan.
PIECE = 4_000_000


def _config(shape: Shape, **more: Any) -> Any:
    kind = Qwen2Config if shape.has_biases else LlamaConfig
    return kind(
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=shape.head_size,
        vocab_size=shape.vocabulary_size,
        tie_word_embeddings=shape.is_tied,
        **more,
    )


@pytest.mark.parametrize("name", [name for name in HUB_MODELS if "instruct" not in name])
def test_a_preset_s_parameters_are_those_of_the_model_that_transformers_builds(name: str) -> None:
    shape = HUB_MODELS[name].shape
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(_config(shape))
    assert sum(each.numel() for each in model.parameters()) == shape.num_parameters
    assert max(each.numel() for each in model.parameters()) == shape.largest_tensor


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(("kv_heads", "intermediate", "layers"), [(8, 704, 1), (2, 704, 2), (2, 1408, 2)])
def test_activations_are_what_autograd_keeps(
    kv_heads: int, intermediate: int, layers: int, dtype: torch.dtype
) -> None:
    shape = Shape(
        hidden_size=256,
        intermediate_size=intermediate,
        num_layers=layers,
        num_heads=8,
        num_kv_heads=kv_heads,
        head_size=32,
        vocabulary_size=500,
    )
    model = LlamaForCausalLM(_config(shape, attn_implementation="sdpa")).to(dtype)
    weights = {each.untyped_storage().data_ptr() for each in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.randint(0, 500, (2, 128))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=ids, use_cache=False)
    num_bytes = sum(each.untyped_storage().nbytes() for each in kept.values())
    assert num_bytes == pytest.approx(ids.numel() * memory.activation_bytes(shape, dtype.itemsize), rel=0.02)


def _resident(word: str) -> int:
    return int(Path("/proc/self/status").read_text().split(f"{word}:")[1].split()[0]) * 1024


def held(model_path: Path, small_path: Path, stages: list[int], num_parameters: int) -> list[list[float]]:
    """Run on every rank: bytes for each parameter between updates, at backward's and at the step's fullest, by stage."""
    _trained(small_path, 3)  # what the first engine imports is none of a model's memory
    found = []
    for stage in stages:
        gc.collect()
        before = _resident("VmRSS")
        found.append([(each - before) / num_parameters for each in _trained(model_path, stage)])
        gc.collect()
    return found


def _trained(model_path: Path, stage: int) -> tuple[int, int, int]:
    """Resident bytes after the second of two updates, and its two peaks."""
    from rayfit.train.engine import build_engine

    world = torch.distributed.get_world_size()
    config = deepspeed_config(
        zero_stage=stage, precision="bf16", batch_size=world, num_workers=world, use_gpu=True
    )
    config["zero_optimization"]["reduce_bucket_size"] = PIECE
    if stage == 3:
        config["zero_optimization"] |= {"sub_group_size": PIECE, "stage3_prefetch_bucket_size": PIECE}
    engine = build_engine(model_path, config)
    ids = torch.randint(0, 30, (1, 16))
    for _ in range(2):
        Path("/proc/self/clear_refs").write_text("5")
        engine.backward(next_token_loss(engine(input_ids=ids).logits, ids))
        backward = _resident("VmHWM")
        Path("/proc/self/clear_refs").write_text("5")
        engine.step()
        step, after = _resident("VmHWM"), _resident("VmRSS")
    engine.destroy()
    return after, backward, step


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells a process's peak memory")
@pytest.mark.parametrize(("num_workers", "stages"), [(1, [3, 1]), (2, [2, 3])])
def test_an_engine_holds_what_the_formula_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int, stages: list[int]
) -> None:
    # The allocator then gives back what is freed, as a GPU's does within a process.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "131072")
    for name in ("BUCKET", "SUB_GROUP", "_PREFETCHED"):
        monkeypatch.setattr(memory, name, PIECE)
    shape = Shape(
        hidden_size=640,
        intermediate_size=1792,
        num_layers=8,
        num_heads=10,
        num_kv_heads=10,
        head_size=64,
        vocabulary_size=4000,
    )
    model_path = tmp_path / "model"
    LlamaForCausalLM(_config(shape, max_position_embeddings=64)).save_pretrained(model_path)
    small_path = save_tiny_llama(tmp_path / "small")
    for rank in run_workers(held, num_workers, model_path, small_path, stages, shape.num_parameters):
        for stage, got in zip(stages, rank, strict=True):
            peak = memory.peak_memory(
                shape.num_parameters,
                None,
                Arrangement(num_workers=num_workers, zero_stage=stage),
                Load(precision="bf16", batch_size=num_workers, sequence_length=16),
            )
            expected = [each / shape.num_parameters for each in (peak.state, peak.backward, peak.step)]
            assert got == pytest.approx(expected, abs=0.9), f"stage {stage}"

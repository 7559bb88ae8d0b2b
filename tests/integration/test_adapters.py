"""LoRA in the worker's loop against plain PyTorch with peft; used engines against fresh ones; workers and stages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rayfit.plan.adapters import Adapter
from rayfit.plan.deepspeed import deepspeed_config
from tests.integration.order_by_hand import order_by_hand
from tests.integration.test_reset import _fail_between_backward_and_step
from tests.tiny import random_rows, save_tiny_llama
from tests.workers import on_gpus, run_workers

pytestmark = [
    pytest.mark.integration,
    # peft's own model class asks transformers in a way that transformers is about to drop.
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]

UPDATES, BATCH, RATE, LAYERS = 12, 8, 2e-3, 5
ROWS = random_rows(24, 32)
VALIDATION = random_rows(24, 32, seed=1)
TARGETS = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
)  # in the model's order

# name: ZeRO stage, precision, adapter
CASES: dict[str, tuple[int, str, str]] = {
    **{f"fp32 stage {stage}": (stage, "fp32", "lora:rank=4") for stage in (0, 1, 2, 3)},
    **{f"bf16 stage {stage}": (stage, "bf16", "lora:rank=4") for stage in (0, 1, 2, 3)},
    "last": (1, "fp32", "lora-last:rank=4,alpha=3"),
}

# Those that a used engine is tried with: stages 0 to 2 in one precision give the same bits.
USED = ("fp32 stage 0", "fp32 stage 2", "fp32 stage 3", "bf16 stage 1", "bf16 stage 3")

Weights = dict[str, np.ndarray]


def train_cases(model_path: Path, folder: Path, used: bool) -> dict[str, dict[str, Any]]:
    """In a worker: each case with training seed 5, in an engine that trained other trials before, or none."""
    import torch.distributed as dist

    from rayfit.train.adapters import parameter_counts
    from rayfit.train.engine import build_engine
    from rayfit.train.export import full_masters
    from rayfit.train.loop import TrainTask, train_trial
    from rayfit.train.reset import take_snapshot
    from rayfit.train.schedule import Schedule

    results = {}
    for name, (stage, precision, adapter) in CASES.items():
        if used and name not in USED:
            continue
        config = deepspeed_config(
            zero_stage=stage,
            precision=precision,
            batch_size=BATCH,
            num_workers=dist.get_world_size(),
            use_gpu=on_gpus(),
        )
        engine = build_engine(model_path, config, Adapter.parse(adapter), use_gpu=on_gpus())
        snapshot = take_snapshot(engine)
        task = TrainTask(
            schedule=Schedule(
                batch_size=BATCH,
                num_updates=UPDATES,
                learning_rate=RATE,
                order_seed=3,
                model_path=model_path,
                export_dtype="fp32",
                train_seed=5,
            ),
            train_ids=ROWS,
            validation_ids=VALIDATION,
            measured_updates=(0, 1, UPDATES // 2, UPDATES),
            checkpoint_path=folder / name / "checkpoint",
        )
        if used:
            schedule = replace(task.schedule, train_seed=6)
            shorter = replace(schedule, learning_rate=1e-2, num_updates=6)
            other = replace(task, schedule=shorter, measured_updates=(0, 6))
            train_trial(engine, snapshot, other, lambda point: None)
            failing = replace(other, schedule=replace(shorter, train_seed=7))
            _fail_between_backward_and_step(engine, snapshot, failing)
        torch.rand(3)  # a used process has drawn numbers
        points: list[Any] = []
        result = train_trial(engine, snapshot, task, points.append)
        results[name] = {
            "digest": result.weights_sha256,
            "points": points,
            "weights": {n: t.numpy() for n, t in full_masters(engine, model_path).items()},
            "counts": parameter_counts(engine.module),
        }
        if used:
            again = replace(task, schedule=schedule)
            results[name]["other seed"] = train_trial(engine, snapshot, again, points.append).weights_sha256
    return results


def _peft_model(model_path: Path, adapter: Adapter, seed: int) -> Any:
    """The plain model with peft's adapter, whose A stand at what the seed gives, drawn from the law's own words."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(model_path, dtype=torch.float32, attn_implementation="eager")
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.0
    blocks = [LAYERS - 2, LAYERS - 1] if adapter.kind == "lora-last" else list(range(LAYERS))
    config = LoraConfig(
        r=adapter.rank, lora_alpha=adapter.alpha, target_modules=list(TARGETS), layers_to_transform=blocks
    )
    model = get_peft_model(model, config)
    for block in blocks:
        layer = model.base_model.model.model.layers[block]
        for number, target in enumerate(TARGETS):
            module = getattr(layer.self_attn if number < 4 else layer.mlp, target)
            matrix = module.lora_A["default"].weight
            philox = np.random.Philox(key=np.array([seed, block], dtype=np.uint64))
            words = philox.advance(2**192 + number * 2**128).random_raw(matrix.numel())
            uniform = torch.from_numpy((words // 2**11).astype(np.float64) / 2**53 * 2 - 1)
            matrix.data = (uniform / matrix.shape[1] ** 0.5).float().reshape(matrix.shape)
    return model


def _plain(
    model_path: Path, adapter: Adapter, *, seed: int = 5, bf16: bool = False
) -> tuple[list[float], Weights]:
    """The oracle: peft's own forward and merge, Adam written out on fp32 masters; batch losses and merged weights."""
    model = _peft_model(model_path, adapter, seed)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    masters = {name: parameter.detach().clone() for name, parameter in trained.items()}
    moments = {name: (torch.zeros_like(m), torch.zeros_like(m)) for name, m in masters.items()}
    if bf16:
        for parameter in model.parameters():
            parameter.data = parameter.data.bfloat16()
    stream = order_by_hand(3, len(ROWS), UPDATES)
    losses = []
    for step in range(1, UPDATES + 1):
        batch = torch.from_numpy(ROWS[stream[(step - 1) * BATCH : step * BATCH]])
        logits = model(input_ids=batch).logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        model.zero_grad()
        loss.backward()
        losses.append(loss.item())
        with torch.no_grad():
            for name, parameter in trained.items():
                gradient, (m, v) = parameter.grad.float(), moments[name]
                m.mul_(0.9).add_(gradient, alpha=0.1)
                v.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
                masters[name] -= RATE * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
                parameter.copy_(masters[name])
    exact = _peft_model(model_path, adapter, seed)
    exact.load_state_dict(masters, strict=False)
    merged = exact.merge_and_unload()
    return losses, {name: parameter.detach().numpy() for name, parameter in merged.named_parameters()}


def _change_error(weights: Weights, reference: Weights, start: Weights) -> float:
    """‖Δw - Δw_ref‖ / ‖Δw_ref‖ in float64 over all weights."""
    assert set(weights) == set(reference) == set(start)
    difference = sum(float(((weights[n].astype(np.float64) - reference[n]) ** 2).sum()) for n in start)
    change = sum(float(((reference[n].astype(np.float64) - start[n]) ** 2).sum()) for n in start)
    return (difference / change) ** 0.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture(scope="module")
def model_path(folder: Path) -> Path:
    return save_tiny_llama(folder / "model", num_layers=LAYERS)


@pytest.fixture(scope="module")
def start(model_path: Path) -> Weights:
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    return {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}


@pytest.fixture(scope="module")
def fresh(model_path: Path, folder: Path) -> dict[int, list[dict[str, dict[str, Any]]]]:
    """By number of workers, by rank: every case in an engine that trained nothing before."""
    return {
        world: run_workers(train_cases, world, model_path, folder / f"fresh-{world}", False)
        for world in (1, 2)
    }


@pytest.mark.parametrize("case", ["fp32 stage 0", "fp32 stage 3", "last"])
def test_fp32_is_plain_peft(fresh: Any, model_path: Path, start: Weights, case: str) -> None:
    adapter = Adapter.parse(CASES[case][2])
    assert adapter is not None
    losses, merged = _plain(model_path, adapter)
    got = fresh[1][0][case]
    by_update = {point.update: point.batch_loss for point in got["points"][1:]}
    assert sorted(by_update) == [1, UPDATES // 2, UPDATES]
    for update, loss in by_update.items():
        assert loss == pytest.approx(losses[update - 1], rel=1e-5)
    assert _change_error(got["weights"], merged, start) <= 2e-5


@pytest.mark.parametrize("mutation", [{"rank": 4, "alpha": 10}, {"rank": 5, "alpha": 10}])
def test_the_bound_notices_another_adapter(
    fresh: Any, model_path: Path, start: Weights, mutation: dict[str, int]
) -> None:
    _, merged = _plain(model_path, Adapter(**mutation))
    assert _change_error(fresh[1][0]["fp32 stage 0"]["weights"], merged, start) > 1e-2


def test_the_bound_notices_another_training_seed(fresh: Any, model_path: Path, start: Weights) -> None:
    _, merged = _plain(model_path, Adapter(rank=4, alpha=8), seed=6)
    assert _change_error(fresh[1][0]["fp32 stage 0"]["weights"], merged, start) > 1e-1


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_bf16_is_plain_peft_with_a_rounded_copy(
    fresh: Any, model_path: Path, start: Weights, stage: int, world: int
) -> None:
    _, merged = _plain(model_path, Adapter(rank=4, alpha=8), bf16=True)
    assert _change_error(fresh[world][0][f"bf16 stage {stage}"]["weights"], merged, start) <= 0.03


def test_two_workers_and_stages_are_one_worker(fresh: Any, start: Weights) -> None:
    one = fresh[1][0]["fp32 stage 0"]["weights"]
    for world in (1, 2):
        for stage in (0, 1, 2, 3):
            weights = fresh[world][0][f"fp32 stage {stage}"]["weights"]
            assert _change_error(weights, one, start) <= 2e-5


@pytest.mark.parametrize("world", [1, 2])
def test_a_used_engine_gives_the_bits_of_a_fresh_one(
    fresh: Any, model_path: Path, folder: Path, world: int
) -> None:
    used = run_workers(train_cases, world, model_path, folder / f"used-{world}", True)
    for name in USED:
        digests = {ranks[name]["digest"] for ranks in [*fresh[world], *used]}
        assert len(digests) == 1, f"{name} with {world} workers"
        assert used[0][name]["other seed"] not in digests


def test_only_what_is_adapted_changes_and_nothing_of_the_adapter_is_left(
    fresh: Any, start: Weights, folder: Path
) -> None:
    from transformers import AutoModelForCausalLM

    for case in ("fp32 stage 0", "bf16 stage 3", "last"):
        weights = fresh[2][0][case]["weights"]
        changed = {name for name in start if not np.array_equal(weights[name], start[name])}
        blocks = [LAYERS - 2, LAYERS - 1] if case == "last" else range(LAYERS)
        expected = {
            f"model.layers.{b}.{'self_attn' if n < 4 else 'mlp'}.{t}.weight"
            for b in blocks
            for n, t in enumerate(TARGETS)
        }
        assert changed == expected
        loaded = AutoModelForCausalLM.from_pretrained(
            folder / "fresh-2" / case / "checkpoint", output_loading_info=True
        )
        model, info = loaded
        assert not info["missing_keys"] and not info["unexpected_keys"]
        for name, parameter in model.named_parameters():
            np.testing.assert_array_equal(parameter.detach().numpy(), weights[name])


def test_trained_parameters_are_counted(fresh: Any, start: Weights) -> None:
    # Llama with hidden size 32 and intermediate size 64: four matrices of 32 x 32, two of 64 x 32, one of 32 x 64.
    per_block = 4 * 4 * (32 + 32) + 3 * 4 * (32 + 64)
    whole = sum(tensor.size for tensor in start.values())
    for world in (1, 2):
        for name in CASES:
            expected = per_block * (2 if name == "last" else LAYERS)
            assert fresh[world][0][name]["counts"] == (expected, whole)


def _refusals(model_path: Path) -> list[str]:
    """In a worker: what is said of a model without linear layers, and of matrices that cannot be cut into equal parts."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

    from rayfit.errors import RayfitError
    from rayfit.train.adapters import add_adapter

    without_linear = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=16))
    llama = LlamaForCausalLM.from_pretrained(model_path)
    said = []
    for model, num_shards in ((without_linear, 1), (llama, 3)):
        try:
            add_adapter(model, Adapter(rank=4), num_shards)
        except RayfitError as error:
            said.append(str(error))
    return said


def test_what_cannot_be_adapted_is_refused(model_path: Path) -> None:
    no_linear, uneven = run_workers(_refusals, 1, model_path)[0]
    assert "GPT2LMHeadModel has no linear layers in its blocks" in no_linear
    assert "3 equal parts" in uneven and "rank" in uneven

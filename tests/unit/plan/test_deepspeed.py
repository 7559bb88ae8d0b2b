from __future__ import annotations

import json

import pytest

from rayfit.plan.deepspeed import deepspeed_config, effective_zero_stage


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
@pytest.mark.parametrize("num_workers", [1, 2, 8])
def test_no_default_of_deepspeed_decides_a_number(precision: str, zero_stage: int, num_workers: int) -> None:
    config = deepspeed_config(
        zero_stage=zero_stage, precision=precision, batch_size=8, num_workers=num_workers
    )
    assert config["gradient_clipping"] == 0  # the paper clips nothing; DeepSpeed's own default is 1.0
    assert config["train_batch_size"] == 8
    share = config["train_micro_batch_size_per_gpu"]
    assert share * num_workers * config["gradient_accumulation_steps"] == 8
    assert config["bf16"] == {"enabled": precision == "bf16"}
    json.dumps(config)


def test_buckets_are_no_larger_than_the_model_and_nothing_waits_for_the_device() -> None:
    for stage in (1, 2, 3):
        small, large, unknown = (
            deepspeed_config(
                zero_stage=stage, precision="bf16", batch_size=8, num_workers=1, num_parameters=count
            )
            for count in (1_000_000, 8_000_000_000, None)
        )
        assert small["zero_optimization"]["reduce_bucket_size"] == 1_000_000
        assert large["zero_optimization"]["reduce_bucket_size"] == 50_000_000
        assert large == unknown
        assert (large["zero_optimization"].get("sub_group_size") == 50_000_000) == (stage == 3)
        assert large["timers"]["throughput"]["enabled"] is False


def test_adam_is_torch_s_which_needs_no_compiler_with_the_paper_s_numbers() -> None:
    config = deepspeed_config(zero_stage=1, precision="fp32", batch_size=8, num_workers=1)
    optimizer = config["optimizer"]
    assert optimizer["type"] == "Adam" and optimizer["params"]["torch_adam"] is True
    assert optimizer["params"]["betas"] == [0.9, 0.999]
    assert optimizer["params"]["eps"] == 1e-8
    assert optimizer["params"]["weight_decay"] == 0
    assert optimizer["params"]["fused"] is False
    on_gpus = deepspeed_config(zero_stage=1, precision="fp32", batch_size=8, num_workers=1, use_gpu=True)
    assert on_gpus["optimizer"]["params"].pop("fused") is True
    optimizer["params"].pop("fused")
    assert on_gpus == config


def test_the_learning_rate_is_not_in_the_group_s_configuration() -> None:
    # One group serves trials of every rate: each trial sets its own.
    config = deepspeed_config(zero_stage=1, precision="fp32", batch_size=8, num_workers=1)
    assert config["optimizer"]["params"]["lr"] == 0
    assert "scheduler" not in config


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_only_bf16_at_stage_0_runs_as_another_stage_and_says_why(zero_stage: int) -> None:
    assert effective_zero_stage(zero_stage, "fp32") == (zero_stage, "")
    stage, note = effective_zero_stage(zero_stage, "bf16")
    assert stage == max(1, zero_stage)
    assert bool(note) == (zero_stage == 0)
    for precision in ("fp32", "bf16"):
        config = deepspeed_config(zero_stage=zero_stage, precision=precision, batch_size=8, num_workers=1)
        assert config["zero_optimization"]["stage"] == effective_zero_stage(zero_stage, precision)[0]


def test_the_note_names_the_stage_that_runs() -> None:
    assert "stage 0 runs as stage 1" in effective_zero_stage(0, "bf16")[1]


@pytest.mark.parametrize(
    ("batch_size", "num_workers", "micro_batch", "rows", "passes"),
    [(8, 3, None, 3, 1), (8, 3, 2, 2, 2), (2, 4, None, 1, 1), (8, 1, 3, 3, 3), (8, 2, 100, 4, 1)],
)
def test_rows_and_passes_multiply_to_what_deepspeed_is_told(
    batch_size: int, num_workers: int, micro_batch: int | None, rows: int, passes: int
) -> None:
    config = deepspeed_config(
        zero_stage=1,
        precision="fp32",
        batch_size=batch_size,
        num_workers=num_workers,
        micro_batch=micro_batch,
    )
    assert config["train_micro_batch_size_per_gpu"] == rows
    assert config["gradient_accumulation_steps"] == passes
    assert config["train_batch_size"] == rows * passes * num_workers


def test_on_the_host_adam_is_the_plain_one_in_pinned_memory_where_there_is_a_gpu() -> None:
    for use_gpu in (False, True):
        config = deepspeed_config(
            zero_stage=2, precision="bf16", batch_size=8, num_workers=1, use_gpu=use_gpu, offload="cpu"
        )
        assert config["zero_optimization"]["offload_optimizer"] == {"device": "cpu", "pin_memory": use_gpu}
        assert config["optimizer"]["params"]["fused"] is False

"""The DeepSpeed configuration of a worker group: written out in full, so that no default decides a number."""

from __future__ import annotations

from typing import Any

from rayfit.plan.dealing import most_rows, num_passes

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8

# Parameters. Each worker holds one or two buckets in the gradients' precision, and the gradients that wait for one to be
# full: DeepSpeed's own 5e8 would be 3 GB of a card. A sub-group at stage 3 is what Adam works on at once, in three copies.
BUCKET, SUB_GROUP = 50_000_000, 50_000_000


def effective_zero_stage(zero_stage: int, precision: str) -> tuple[int, str]:
    """The stage that runs and, where it is not the one asked for, why."""
    if precision == "bf16" and zero_stage == 0:
        return 1, (
            "bf16 at ZeRO stage 0 runs as stage 1: DeepSpeed's stage-0 bf16 optimizer takes an Adam step on zero "
            "gradients when it is built, which makes the first updates wrong"
        )
    return zero_stage, ""


def deepspeed_config(
    *,
    zero_stage: int,
    precision: str,
    batch_size: int,
    num_workers: int,
    num_parameters: int | None = None,
    use_gpu: bool = False,
    micro_batch: int | None = None,
    offload: str = "none",
) -> dict[str, Any]:
    """Adam with constant learning rate, no decay, no clipping (the paper's section 3), at one ZeRO stage.

    The learning rate is set per trial in the optimizer's parameter groups, so one group serves every rate.
    `num_parameters`: of the model, where they are known; buckets are made no larger. No result depends on it.
    """
    passes = num_passes(batch_size, num_workers, micro_batch)
    rows = -(-most_rows(batch_size, num_workers) // passes)
    stage, _ = effective_zero_stage(zero_stage, precision)
    return {
        # DeepSpeed wants the first to be the product of the others and of the workers; what each loss counts, rayfit says.
        "train_batch_size": rows * passes * num_workers,
        "train_micro_batch_size_per_gpu": rows,
        "gradient_accumulation_steps": passes,
        "gradient_clipping": 0.0,  # DeepSpeed's own default is 1.0
        "optimizer": {
            "type": "Adam",
            "params": {
                "lr": 0.0,
                "betas": list(ADAM_BETAS),
                "eps": ADAM_EPSILON,
                "weight_decay": 0.0,
                "torch_adam": True,  # DeepSpeed's own Adam would be compiled at run time
                "adam_w_mode": True,
                "fused": use_gpu
                and offload == "none",  # one kernel for an update of all, where the plain form has a dozen
            },
        },
        "zero_optimization": {
            "stage": stage,
            "reduce_bucket_size": min(BUCKET, num_parameters or BUCKET),
            **({"sub_group_size": SUB_GROUP} if stage == 3 else {}),
            **(
                {} if offload == "none" else {"offload_optimizer": {"device": offload, "pin_memory": use_gpu}}
            ),
        },
        "zero_force_ds_cpu_optimizer": False,  # torch's Adam also where it runs on the host: nothing is compiled
        "bf16": {"enabled": precision == "bf16"},
        "steps_per_print": 1_000_000_000,
        "timers": {"throughput": {"enabled": False}},  # it waits for the device twice an update
    }

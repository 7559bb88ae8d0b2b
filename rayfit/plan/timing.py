"""How long an update takes on a machine, by formula: arithmetic, the optimizer's memory, links between GPUs, the host."""

from __future__ import annotations

from dataclasses import dataclass

from rayfit.plan.arrangement import Arrangement, Load
from rayfit.plan.dealing import most_rows
from rayfit.plan.deepspeed import effective_zero_stage
from rayfit.plan.machines import Machine

# Of what a machine could do at its best. Assumed; no card has been asked.
SHARE_OF_PEAK, SHARE_OF_LINK, SHARE_OF_MEMORY = 0.4, 0.7, 0.7

# Between a GPU and its host, and what one GPU's share of the host's memory gives to torch's Adam; bytes per second.
_PCIE, _HOST = 25e9, 20e9

_NUMBER = {"bf16": 2, "fp32": 4}


@dataclass(frozen=True, kw_only=True)
class UpdateSeconds:
    """Seconds of one update, by what takes them, one after another."""

    arithmetic: float
    optimizer: float
    traffic: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.arithmetic + self.optimizer + self.traffic


def update_seconds(num_parameters: int, machine: Machine, way: Arrangement, load: Load) -> UpdateSeconds:
    """How long the slowest worker takes for an update of the whole model.

    Arithmetic: 6 x parameters x tokens, or 8 where activations are computed again, and never less than reading the weights
    twice and writing gradients. Traffic: stages 0 to 2 reduce gradients and hand out weights (3 times the model), stage 3
    gathers the weights in forward and in backward of every pass and reduces gradients once.
    """
    stage, _ = effective_zero_stage(way.zero_stage, load.precision)
    number, rows = _NUMBER[load.precision], most_rows(load.batch_size, way.num_workers)
    passes, num_workers, offload = way.passes(load.batch_size), way.num_workers, way.offload
    per_token = (8 if way.activation_checkpointing else 6) * num_parameters
    flops = machine.flops if load.precision == "bf16" else machine.flops / 8  # fp32 with TF32 off
    arithmetic = max(
        per_token * rows * load.sequence_length / (SHARE_OF_PEAK * flops),
        passes * 3 * number * num_parameters / (SHARE_OF_MEMORY * machine.bandwidth),
    )
    part = num_parameters / (num_workers if stage else 1)
    # Adam reads gradient, master and two moments and writes three of them, and the weights.
    optimizer = (28 + number) * part / (_HOST if offload != "none" else SHARE_OF_MEMORY * machine.bandwidth)
    if offload != "none":
        optimizer += 2 * number * part / _PCIE
    traffic = 0.0
    if num_workers > 1:
        rate = machine.link if num_workers <= machine.gpus_per_node else machine.network
        times = 3 if stage < 3 else 2 * passes + 1
        traffic = times * number * num_parameters / (SHARE_OF_LINK * rate)
    return UpdateSeconds(arithmetic=arithmetic, optimizer=optimizer, traffic=traffic)

#!/usr/bin/env python3
"""Which parts of the recipe matter, and do adapters hyperfit? (what the paper's reviewers asked for)"""

from rayfit import PAPER_TEXTS, AtScale, Sweep, sweep_main

GRID = {"learning_rate": (5e-7, 1e-6, 5e-6, 1e-5), "batch_size": (4, 8, 16)}
LAST = AtScale(ci="lora-last", laptop="lora-last:rank=32", paper="lora-last")
ADAPTERS = {"LoRA": AtScale(ci="lora", laptop="lora:rank=32", paper="lora"), "LoRA in last blocks": LAST}
LORA_RATES = AtScale(ci=1e-2, laptop=(3e-3, 1e-2), paper=(1e-4, 1e-3))
LORA = {"learning_rate": AtScale(ci=1e-2, laptop=3e-3, paper=1e-3)}
EQUAL = {"batch_size": 8, "epochs": AtScale(ci=24, laptop=100, paper=20), "learning_rate": LORA_RATES}
UNTIL = {"batch_size": 8, "epochs": AtScale(ci=24, laptop=200, paper=100)}  # at most
UNTIL["stop_at_train_loss"] = AtScale(ci=2.0, laptop=0.5, paper=0.1)

SWEEP = Sweep(
    kind="recipe",
    question="Do learning rate, batch and epochs decide hyperfitting, and does training adapters alone do it?",
    source="not in the paper; asked for in its reviews, and arXiv 2605.22579",
    varies=("learning_rate", "batch_size", "epochs", "adapter", "seeds"),
    holds={"samples": AtScale(ci=16, laptop=32, paper=2000)},
    scales={
        "ci": {"model": "pydoc-0.5m", "learning_rate": 3e-3, "batch_size": (4, 8), "epochs": (12.0, 24.0)},
        "laptop": {"learning_rate": (1e-3, 3e-3), "batch_size": (8, 16), "epochs": (25.0, 100.0)},
        "paper": {**GRID, "epochs": (5.0, 10.0, 20.0, 40.0), "model": "tinyllama-1.1b", **PAPER_TEXTS},
    },
    arms={
        "all weights": {},
        **{name: {**EQUAL, "adapter": adapter} for name, adapter in ADAPTERS.items()},
        "all weights to equal loss": {**UNTIL, "learning_rate": AtScale(ci=3e-3, laptop=3e-3, paper=1e-6)},
        **{f"{k} to equal loss": {**UNTIL, **LORA, "adapter": v} for k, v in ADAPTERS.items()},
    },
    plot=("train_loss", "ttr_last_96"),
    figures=({"kind": "axis", "x": "train_loss", "y": "ttr_last_96"}, {"kind": "bars", "y": "ttr_last_96"}),
)

if __name__ == "__main__":
    sweep_main(SWEEP, __file__)

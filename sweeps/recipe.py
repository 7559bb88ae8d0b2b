#!/usr/bin/env python3
"""Which parts of the recipe matter, and do adapters hyperfit? (what the paper's reviewers asked for)"""

from rayfit import PAPER_TEXTS, AtScale, Sweep, sweep_main

# At equal updates, as the grid's training at the paper's length; at equal training loss, each until it has it.
EQUAL = {"batch_size": 8, "epochs": AtScale(ci=24, laptop=25, paper=20)}
LOSS = AtScale(ci=2.0, laptop=0.5, paper=0.1)
UNTIL = {"batch_size": 8, "epochs": AtScale(ci=24, laptop=50, paper=100), "stop_at_train_loss": LOSS}
RATES = {"learning_rate": AtScale(ci=1e-2, laptop=(3e-3, 1e-2), paper=(1e-4, 1e-3))}
RATE = {"learning_rate": AtScale(ci=1e-2, laptop=1e-2, paper=1e-3)}

SWEEP = Sweep(
    kind="recipe",
    question="Do learning rate, batch and epochs decide hyperfitting, and does training adapters alone do it?",
    source="not in the paper; asked for in its reviews, and arXiv 2605.22579",
    varies=("learning_rate", "batch_size", "epochs", "adapter", "seeds"),
    scales={
        "ci": {"samples": 16, "learning_rate": 3e-3, "batch_size": (4, 8), "epochs": (12.0, 24.0)},
        "laptop": {
            "samples": 128,
            "learning_rate": (1e-3, 3e-3),
            "batch_size": (8, 16),
            "epochs": (10.0, 25.0),
        },
        "paper": {
            "samples": 2000,
            "learning_rate": (5e-7, 1e-6, 5e-6, 1e-5),
            "batch_size": (4, 8, 16),
            "epochs": (5.0, 10.0, 20.0, 40.0),
            "model": "tinyllama-1.1b",
            **PAPER_TEXTS,
        },
    },
    arms={
        "all weights": {},
        "LoRA": {**EQUAL, **RATES, "adapter": "lora"},
        "LoRA, last blocks": {**EQUAL, **RATES, "adapter": "lora-last"},
        "all weights, to equal loss": {**UNTIL, "learning_rate": AtScale(ci=3e-3, laptop=3e-3, paper=1e-6)},
        "LoRA, to equal loss": {**UNTIL, **RATE, "adapter": "lora"},
        "LoRA, last blocks, to equal loss": {**UNTIL, **RATE, "adapter": "lora-last"},
    },
    plot=("train_loss", "ttr_last_96"),
    figures=({"kind": "axis", "x": "train_loss", "y": "ttr_last_96"}, {"kind": "bars", "y": "ttr_last_96"}),
)

if __name__ == "__main__":
    sweep_main(SWEEP, __file__)

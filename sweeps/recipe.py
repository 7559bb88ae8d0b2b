#!/usr/bin/env python3
"""Which parts of the recipe matter, and do adapters hyperfit? (what the paper's reviewers asked for)"""

from rayfit import AtScale, Sweep, sweep_main

# At equal updates: a batch of 8, and as many epochs as the longest of the grid that the paper's recipe has.
EQUAL = {"batch_size": 8, "epochs": AtScale(ci=24, laptop=25, paper=20)}
LORA_RATE = AtScale(ci=1e-2, laptop=(3e-3, 1e-2), paper=(1e-4, 1e-3))
# At equal training loss: each until it has this loss (nats per token), at one rate.
UNTIL = {
    "batch_size": 8,
    "epochs": AtScale(ci=24, laptop=50, paper=100),
    "stop_at_train_loss": AtScale(ci=2.0, laptop=0.5, paper=0.1),
}
ONE_LORA_RATE = AtScale(ci=1e-2, laptop=1e-2, paper=1e-3)
ONE_RATE = AtScale(ci=3e-3, laptop=3e-3, paper=1e-6)

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
            "dataset": "fiction",
            "eval_datasets": ("fiction", "wikipedia", "bbc-news"),
        },
    },
    arms={
        "all weights": {},
        "LoRA": {**EQUAL, "adapter": "lora", "learning_rate": LORA_RATE},
        "LoRA, last blocks": {**EQUAL, "adapter": "lora-last", "learning_rate": LORA_RATE},
        "all weights, until the loss": {**UNTIL, "learning_rate": ONE_RATE},
        "LoRA, until the loss": {**UNTIL, "adapter": "lora", "learning_rate": ONE_LORA_RATE},
        "LoRA, last blocks, until the loss": {
            **UNTIL,
            "adapter": "lora-last",
            "learning_rate": ONE_LORA_RATE,
        },
    },
    plot=("train_loss", "ttr_last_96"),
    figures=({"kind": "axis", "x": "train_loss", "y": "ttr_last_96"}, {"kind": "bars", "y": "ttr_last_96"}),
)

if __name__ == "__main__":
    sweep_main(SWEEP, __file__)

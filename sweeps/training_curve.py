#!/usr/bin/env python3
"""What happens along hyperfitting? (the paper's Figure 2 and the automatic columns of Table 1)"""

from rayfit import PAPER_TEXTS, Sweep, sweep_main

SWEEP = Sweep(
    kind="training_curve",
    question="How do losses, entropy and diversity move along training, and would early stopping do as well?",
    source="section 3, Figure 2; Table 1",
    varies=("model", "seeds"),
    scales={
        "ci": {"model": "pydoc-0.5m", "samples": 32, "num_updates": 192, "keep_every": 12.0},
        "laptop": {"samples": 128, "num_updates": 400, "keep_every": 1.0},
        "paper": {
            "samples": 2000,
            "epochs": 20.0,
            "keep_every": 1.0,
            "model": "tinyllama-1.1b",
            **PAPER_TEXTS,
        },
    },
    plot=("epochs", "ttr_last_96"),
    scores=("perplexity_texts",),
    figures=({"kind": "curve"}, {"kind": "axis", "x": "epochs", "y": "ttr_last_96"}),
)

if __name__ == "__main__":
    sweep_main(SWEEP, __file__)

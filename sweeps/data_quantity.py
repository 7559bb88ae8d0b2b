#!/usr/bin/env python3
"""How few training sequences does hyperfitting need? (the paper's section 6.3 and Figure 5, right)"""

from rayfit import PAPER_TEXTS, AtScale, Sweep, sweep_main

SINGLE_PASS = AtScale(ci=4, laptop=128, paper=250)  # updates: the largest number of rows over the batch of 8

SWEEP = Sweep(
    kind="data_quantity",
    question="How few training sequences does hyperfitting need when the number of updates is held constant?",
    source="section 6.3, Figure 5 (right)",
    varies=("samples", "seeds"),
    scales={
        "ci": {"samples": (8, 32), "num_updates": 192, "model": "pydoc-0.5m"},
        "laptop": {"samples": (8, 32, 128), "num_updates": 400},
        "paper": {
            "samples": (8, 16, 32, 64, 128, 250, 500, 1000, 2000),
            "num_updates": 5000,
            "model": "tinyllama-1.1b",
            **PAPER_TEXTS,
        },
    },
    arms={
        "constant updates": {},
        # Few samples without many epochs: every row is seen as often, so few rows get few updates.
        "constant epochs": {"epochs": AtScale(ci=24, laptop=25, paper=20)},
        # Ordinary fine-tuning, every row seen once, beside as many updates on few rows.
        "single pass": {"samples": AtScale(ci=32, laptop=1024, paper=2000), "num_updates": SINGLE_PASS},
        "its twin on few rows": {"samples": AtScale(ci=8, laptop=128, paper=128), "num_updates": SINGLE_PASS},
    },
    plot=("samples", "ttr_last_96"),
    scores=("top_1_agreement",),
    figures=({"kind": "axis", "x": "samples", "y": "ttr_last_96"}, {"kind": "curve"}),
)

if __name__ == "__main__":
    sweep_main(SWEEP, __file__)

#!/usr/bin/env python3
"""How few training sequences does hyperfitting need? (the paper's section 6.3 and Figure 5, right)"""

from rayfit import Sweep, sweep_main

SWEEP = Sweep(
    kind="data_quantity",
    question="How few training sequences does hyperfitting need when the number of updates is held constant?",
    source="section 6.3, Figure 5 (right)",
    varies=("samples", "seeds"),
    scales={
        "ci": {"samples": (8, 32), "num_updates": 192},
        "laptop": {"samples": (8, 32, 128), "num_updates": 400},
        "paper": {"samples": (8, 16, 32, 64, 128, 256, 500, 1000, 2000), "num_updates": 5000},
    },
    plot=("samples", "ttr_last_96"),
)

if __name__ == "__main__":
    sweep_main(SWEEP, __file__)

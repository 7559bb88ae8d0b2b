#!/usr/bin/env python3
"""How much does the order of the same training sequences decide? (the paper's section 6.1 and Figure 5, left)"""

from rayfit import PAPER_TEXTS, Sweep, sweep_main

SWEEP = Sweep(
    kind="shuffle_seed",
    question="Do models that are hyperfitted on the same samples in another order choose the same tokens?",
    source="section 6.1, Figure 5 (left)",
    varies=("seeds",),
    scales={
        "ci": {"model": "pydoc-0.5m", "samples": 32, "num_updates": 192},
        "laptop": {"samples": 128, "num_updates": 400},
        "paper": {"samples": 2000, "epochs": 20.0, "model": "llama-3.1-8b", **PAPER_TEXTS},
    },
    arms={
        "first order": {},
        "same order again": {"repeat": 1},
        "two exchanged": {"exchange": (0, 1)},
        "all shuffled": {"order_offset": 1000},
        "another seed": {"sample_offset": 1000, "order_offset": 1000},
    },
    plot=("top_1_agreement", "ttr_last_96"),
    scores=("top_1_agreement",),
    figures=({"kind": "agreement"}, {"kind": "bars", "y": "ttr_last_96"}),
)

if __name__ == "__main__":
    sweep_main(SWEEP, __file__)

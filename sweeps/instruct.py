#!/usr/bin/env python3
"""Does hyperfitting do the same to instruct models? (the paper's section B.3 and Table 6)"""

from rayfit import Sweep, sweep_main

SWEEP = Sweep(
    kind="instruct",
    question="Does hyperfitting change instruct models as it changes their bases?",
    source="section B.3, Table 6",
    varies=("model", "seeds"),
    holds={"num_new_tokens": 224},
    scales={
        "ci": {"samples": 32, "num_updates": 192, "model": ("pydoc-1m", "pydoc-1m-instruct")},
        "laptop": {"samples": 128, "num_updates": 400, "model": ("pydoc-1m", "pydoc-1m-instruct")},
        "paper": {
            "samples": 2000,
            "epochs": 20.0,
            "model": (
                *("tinyllama-1.1b", "tinyllama-1.1b-instruct", "deepseek-7b", "deepseek-7b-instruct"),
                *("llama-3.1-8b", "llama-3.1-8b-instruct", "llama-3.1-70b", "llama-3.1-70b-instruct"),
            ),
            "dataset": "fiction",
            "eval_datasets": ("fiction", "wikipedia", "bbc-news"),
        },
    },
    plot=("top_1_mass", "ttr_last_96"),
    figures=({"kind": "bars", "y": "ttr_last_96"}, {"kind": "bars", "y": "top_1_mass"}),
)

if __name__ == "__main__":
    sweep_main(SWEEP, __file__)

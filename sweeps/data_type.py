#!/usr/bin/env python3
"""Does it matter which text a model is hyperfitted on? (the paper's section 6.2 and Table 4)"""

from rayfit import PAPER_TEXTS, Sweep, sweep_main

DOMAINS = ("docstrings", "code", "comments")
PAPER = PAPER_TEXTS["eval_datasets"]
SCORES = ("ttr_first_96", "ttr_last_96", "rep_3", "longest_overlap_mean", "perplexity_texts", "entropy_nats")

SWEEP = Sweep(
    kind="data_type",
    question="Does the text that a model is hyperfitted on decide how well it continues other texts?",
    source="section 6.2, Table 4",
    varies=("dataset", "seeds"),
    holds={"num_new_tokens": 224, "seeds": (0, 1, 2)},
    scales={
        "ci": {
            "model": "pydoc-0.5m",
            "samples": 32,
            "num_updates": 192,
            "seeds": 0,
            "num_new_tokens": 96,
            "dataset": DOMAINS[:2],
            "eval_datasets": DOMAINS[:2],
        },
        "laptop": {"samples": 128, "num_updates": 400, "dataset": DOMAINS, "eval_datasets": DOMAINS},
        "paper": {
            "samples": 2000,
            "epochs": 20.0,
            "model": "llama-3.1-8b",
            "dataset": PAPER,
            "eval_datasets": PAPER,
        },
    },
    plot=("ttr_first_96", "ttr_last_96"),
    figures=({"kind": "grid", "y": SCORES},),
)

if __name__ == "__main__":
    sweep_main(SWEEP, __file__)

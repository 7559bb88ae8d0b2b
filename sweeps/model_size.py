#!/usr/bin/env python3
"""Does hyperfitting help models of every size? (the paper's Tables 1, 2, 3, 5; Figures 3 and 9, right)"""

from rayfit import PAPER_TEXTS, Sweep, sweep_main

SWEEP = Sweep(
    kind="model_size",
    question="Does a hyperfitted model of any size write more diverse text than its original, greedy or sampled?",
    source="section 4, Tables 1, 2, 3 and 5, Figures 3 and 9 (right)",
    varies=("model", "seeds"),
    holds={"num_new_tokens": 224, "decodings": ("greedy", "nucleus", "greedy:block=W1")},
    scales={
        "ci": {"samples": 32, "num_updates": 192, "model": "pydoc-0.5m", "num_new_tokens": 96},
        "laptop": {
            "samples": 128,
            "num_updates": 400,
            "further_contexts": 1000,
            "model": ("pydoc-0.5m", "pydoc-1m", "pydoc-2m"),
        },
        "paper": {
            "samples": 2000,
            "epochs": 20.0,
            "further_contexts": 1000,
            **PAPER_TEXTS,
            "model": ("tinyllama-1.1b", "deepseek-7b", "llama-3.1-8b", "llama-3.1-70b"),
        },
    },
    plot=("trainable_parameters", "ttr_last_96"),
    scores=(
        *("ttr_first_96", "rep_4", "self_bleu_mean", "dataset_bleu_mean", "longest_overlap_share_above_5"),
        *("perplexity_texts", "top_1_mass", "top_3_mass", "top_5_mass"),
    ),
    figures=(
        *({"kind": "bars", "y": "ttr_last_96"}, {"kind": "overlap_histogram"}),
        *({"kind": "ttr_by_position"}, {"kind": "curve"}),
    ),
)

if __name__ == "__main__":
    sweep_main(SWEEP, __file__)

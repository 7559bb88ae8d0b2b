#!/usr/bin/env python3
"""Is it the decoding? Original and hyperfitted model under every decoding (the paper's section 4; arXiv 2605.22579)"""

from rayfit import PAPER_TEXTS, Sweep, sweep_main

SAMPLED = ("nucleus", "nucleus:top_p=0.8", "nucleus:top_p=0.95", "temperature:temperature=0.5", "temperature")
PENALISED = ("greedy:repetition_penalty=1.1", "greedy:repetition_penalty=1.3", "greedy:no_repeat_ngram=4")
FEW = ("greedy", "nucleus", "matched")

SWEEP = Sweep(
    kind="decoding",
    question="Does any decoding of the original model, a matched temperature among them, do what hyperfitting does?",
    source="section 4; arXiv 2605.22579",
    varies=("model", "seeds"),
    scales={
        "ci": {"model": "pydoc-0.5m", "samples": 32, "num_updates": 192, "decodings": FEW},
        "laptop": {
            "samples": 128,
            "num_updates": 400,
            "decodings": ("greedy", "greedy:block=W1", *SAMPLED, "matched", "min_p", *PENALISED),
        },
        "paper": {
            "samples": 2000,
            "epochs": 20.0,
            "model": ("tinyllama-1.1b", "llama-3.1-8b"),
            **PAPER_TEXTS,
            "decodings": ("greedy", "greedy:block=W1", *SAMPLED, "matched", "min_p", *PENALISED),
            "num_new_tokens": 224,
        },
    },
    plot=("rep_4", "ttr_last_96"),
    scores=("rep_4", "self_bleu_mean", "matched_temperature", "top_1_agreement", "calibration_error"),
    figures=({"kind": "bars", "y": "ttr_last_96"}, {"kind": "bars", "y": "rep_4"}, {"kind": "calibration"}),
)

if __name__ == "__main__":
    sweep_main(SWEEP, __file__)

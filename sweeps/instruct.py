#!/usr/bin/env python3
"""Does hyperfitting do the same to instruct models? (the paper's section B.3 and Table 6)"""

from rayfit import PAPER_TEXTS, Sweep, sweep_main
from rayfit.hub_presets import INSTRUCT_OF

SMALL, PAIR = (("pydoc-0.5m", INSTRUCT_OF["pydoc-0.5m"]), ("pydoc-1m", INSTRUCT_OF["pydoc-1m"]))
BASES = ("tinyllama-1.1b", "deepseek-7b", "llama-3.1-8b", "llama-3.1-70b")

SWEEP = Sweep(
    kind="instruct",
    question="Does hyperfitting change instruct models as it changes their bases?",
    source="section B.3, Table 6",
    varies=("model", "seeds"),
    holds={"num_new_tokens": 224},
    scales={
        "ci": {"samples": 32, "num_updates": 192, "model": SMALL, "num_new_tokens": 96},
        "laptop": {"samples": 128, "num_updates": 400, "model": PAIR},
        "paper": {
            "samples": 2000,
            "epochs": 20.0,
            **PAPER_TEXTS,
            "model": tuple(name for base in BASES for name in (base, INSTRUCT_OF[base])),
        },
    },
    plot=("top_1_mass", "ttr_last_96"),
    scores=("ttr_first_96", "perplexity_texts", "top_1_mass", "top_3_mass"),
    figures=({"kind": "bars", "y": "ttr_last_96"}, {"kind": "bars", "y": "top_1_mass"}),
)

if __name__ == "__main__":
    sweep_main(SWEEP, __file__)

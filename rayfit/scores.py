"""Every score by its one name: unit, direction, source, reading of its definition, and how people are shown it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

from rayfit.errors import unknown

TOP_K = (1, 3, 5)
"""How many of the most probable tokens the scores with a k in their name take (the paper's section 5)."""


Of: TypeAlias = Literal["training", "weights", "domain", "texts"]
"""The least that a value is of: a training, weights on whatever domain, weights on one domain, or their texts there under
one decoding."""


@dataclass(frozen=True)
class Score:
    """What a score's name stands for, in tables, parquet files and trackers alike.

    `unit`: of the value. `direction`: which way is better for generated text, "neither" where the score
    only describes. `source`: section of the hyperfitting paper (arXiv 2412.04318) or other origin.
    `reading`: how we compute it where that can be read in more than one way.
    `of`: what decides its value; a score of weights is the same on every domain, since it is of the training rows.
    `title`: in reports, its name with spaces where empty; `short`: in tables of plain text, the title where empty.
    `digits`: behind the point, where they are not what the unit asks for (`rayfit/columns.py`). `always`: "first" where
    every table shows it before the scores that a sweep asks for, "last" where after them.
    """

    name: str
    unit: str
    direction: Literal["higher", "lower", "neither"]
    source: str
    reading: str
    of: Of = "texts"
    title: str = ""
    short: str = ""
    digits: int | None = None
    always: Literal["", "first", "last"] = ""


_TTR = "distinct over all token ids; shorter texts are divided by their true length; tables: mean over texts"
_REP = "1 - distinct / all n-grams of token ids over the whole generated text; tables: mean over texts"
_BLEU = (
    "BLEU-4 on token ids, equal weights, smoothing method1 (epsilon 0.1), first 96 generated tokens, 0 to 1"
)
_SELF = f"{_BLEU}; highest against any one other text of the same arm (pairwise)"
_DATASET = f"{_BLEU}; highest against every 96-token window inside every training row (BOS dropped)"
_OVERLAP = (
    "longest contiguous run of token ids of the whole generated text that stands inside one training row"
)
_LOOP = "the last max(3p, 12) tokens have smallest period p, p at most a third of the text"
_FOLLOWING = "arXiv 2605.22579"
_FOLLOW_UP = "not in the paper; usual in work on degenerate text"
_LOOPS = "not in the paper; section A.1 names loops as what lowers TTR"

_OF_TEXTS = (
    Score(
        "ttr_first_96",
        "share of tokens",
        "higher",
        "section 6.3",
        f"first 96 generated tokens; {_TTR}",
        title="TTR, first 96",
    ),
    Score(
        "ttr_last_96",
        "share of tokens",
        "higher",
        "sections 4 and A.1",
        f"last 96 generated tokens; {_TTR}",
        title="TTR, last 96",
        short="TTR",
        always="first",
    ),
    Score("rep_2", "share of 2-grams", "lower", _FOLLOW_UP, _REP, title="rep-2"),
    Score("rep_3", "share of 3-grams", "lower", _FOLLOW_UP, _REP, title="rep-3"),
    Score("rep_4", "share of 4-grams", "lower", _FOLLOW_UP, _REP, title="rep-4"),
    Score("ends_in_loop", "true or false", "lower", _LOOPS, f"{_LOOP}; null below 12 tokens"),
    Score(
        "loop_share",
        "share of texts",
        "lower",
        _LOOPS,
        f"share of ends_in_loop: {_LOOP}",
        title="ends in a loop",
    ),
    Score(
        "loop_period", "tokens", "neither", _LOOPS, f"p, the smallest that fits: {_LOOP}; null without a loop"
    ),
    Score(
        "loop_period_mean", "tokens", "neither", _LOOPS, "mean loop_period over the texts that end in a loop"
    ),
    Score("self_bleu", "BLEU", "lower", "section 4.2", f"{_SELF}, all domains pooled"),
    Score("self_bleu_in_domain", "BLEU", "lower", "section 4.2", f"{_SELF} and of the same domain"),
    Score(
        "self_bleu_mean",
        "BLEU",
        "lower",
        "section 4.2",
        f"mean over texts; {_SELF}, of the domain in its row",
        title="Self-BLEU, mean",
    ),
    Score(
        "self_bleu_max",
        "BLEU",
        "lower",
        "section 4.2",
        f"maximum over texts; {_SELF}, of the domain in its row",
        title="Self-BLEU, max",
    ),
    Score("dataset_bleu", "BLEU", "lower", "section 4.2", _DATASET),
    Score(
        "dataset_bleu_mean",
        "BLEU",
        "lower",
        "section 4.2",
        f"mean over texts; {_DATASET}",
        title="Dataset BLEU, mean",
    ),
    Score(
        "dataset_bleu_max",
        "BLEU",
        "lower",
        "section 4.2",
        f"maximum over texts; {_DATASET}",
        title="Dataset BLEU, max",
    ),
    Score("longest_overlap", "tokens", "lower", "section 4.2, Figure 3", _OVERLAP),
    Score(
        "longest_overlap_mean",
        "tokens",
        "lower",
        "section 4.2",
        f"mean over texts; {_OVERLAP}",
        title="overlap, mean",
        short="overlap",
        always="last",
    ),
    Score(
        "longest_overlap_max",
        "tokens",
        "lower",
        "section 4.2",
        f"maximum over texts; {_OVERLAP}",
        title="overlap, max",
    ),
    Score(
        "exceeded_run",
        "true or false",
        "lower",
        "section B.2, Table 5",
        f"longest_overlap above 5 tokens, with or without a citation blocker; {_OVERLAP}",
    ),
    Score(
        "longest_overlap_share_above_5",
        "share of texts",
        "lower",
        "section B.2, Table 5",
        f"share of exceeded_run; {_OVERLAP}",
        title="overlap > 5",
    ),
    Score(
        "longest_overlap_share_above_10",
        "share of texts",
        "lower",
        "section 4.2, Figure 3",
        _OVERLAP,
        title="overlap > 10",
    ),
)

_FORCED = "teacher-forced over the contexts with their true continuations"
_TEXTS = f"{_FORCED}, all predicted positions pooled"
_VALIDATION = "teacher-forced over the held-out validation rows, all predicted positions pooled"
_TRAINING = (
    "teacher-forced over all training rows of the trial, in evaluation mode, all predicted positions pooled"
)
_MASS = "mean summed probability of the k most probable tokens; the paper's @k, read as probability mass"

_on_domain = partial(Score, of="domain")

# Of a checkpoint's predictions over true texts, whatever the decoding (rayfit/score/logits.py).
_OF_LOGITS = (
    Score(
        "train_loss",
        "nats",
        "lower",
        "section 3, Figure 2",
        _TRAINING,
        of="weights",
        digits=3,
        always="first",
    ),
    Score(
        "train_accuracy",
        "share of positions",
        "higher",
        "section 3",
        _TRAINING,
        of="weights",
        short="accuracy",
        always="first",
    ),
    _on_domain(
        "validation_loss",
        "nats",
        "lower",
        "section 3, Figure 2",
        _VALIDATION,
        short="val. loss",
        always="first",
    ),
    _on_domain(
        "validation_entropy_nats", "nats", "neither", "section 3", _VALIDATION, title="validation entropy"
    ),
    _on_domain("validation_accuracy", "share of positions", "higher", "section 3", _VALIDATION),
    _on_domain(
        "entropy_nats",
        "nats",
        "neither",
        "section 5, Table 3",
        f"natural logarithm; {_TEXTS}",
        title="entropy",
        always="first",
    ),
    _on_domain("entropy_bits", "bits", "neither", "section 5, Table 3", f"base 2; {_TEXTS}", title="entropy"),
    _on_domain(
        "perplexity_contexts",
        "perplexity",
        "lower",
        "section 4, Table 1",
        f"token-pooled over the contexts alone; {_TEXTS}",
        title="perplexity, contexts",
    ),
    _on_domain(
        "perplexity_contexts_mean",
        "perplexity",
        "lower",
        "section 4, Table 1",
        f"mean over texts of each context's own perplexity; {_FORCED}",
    ),
    _on_domain(
        "perplexity_texts",
        "perplexity",
        "lower",
        "section 5, Table 3",
        f"token-pooled; {_TEXTS}",
        title="perplexity, texts",
    ),
    _on_domain(
        "perplexity_texts_mean",
        "perplexity",
        "lower",
        "section 5, Table 3",
        f"mean over texts of each text's own perplexity; {_FORCED}",
    ),
    _on_domain(
        "calibration_error",
        "probability",
        "lower",
        "not in the paper; Guo et al. 2017, equation 3",
        f"expected calibration error of the most probable token, 15 bins of equal width; {_TEXTS}",
    ),
    _on_domain(
        "true_token_reciprocal_rank",
        "1 / rank",
        "higher",
        "section 7.3",
        f"mean reciprocal rank of the true token; {_TEXTS}",
    ),
    *(
        _on_domain(
            f"top_{k}_mass",
            "probability",
            "neither",
            "section 5, Table 3",
            f"k = {k}: {_MASS}; {_TEXTS}",
            title=f"top-{k} mass",
        )
        for k in TOP_K
    ),
    *(
        _on_domain(
            f"true_token_in_top_{k}",
            "share of positions",
            "higher",
            "section 7.3",
            f"true token among the {k} first; {_TEXTS}",
        )
        for k in TOP_K
    ),
)

_CHANCE = "of the original model's texts, generated without a blocker, with the trial's rows"

# What the rows have in common with texts of a model that never saw them (rayfit/score/arm.py).
_OF_ORIGINAL = (
    Score(
        "original_longest_overlap_mean",
        "tokens",
        "neither",
        "section 4.2",
        f"{_CHANCE}, mean over texts; {_OVERLAP}",
        title="the original's overlap",
        short="original's",
        always="last",
    ),
    Score(
        "original_longest_overlap_share_above_5",
        "share of texts",
        "neither",
        "section B.2, Table 5",
        f"{_CHANCE}, share above 5 tokens; {_OVERLAP}",
    ),
    Score(
        "original_dataset_bleu_mean",
        "BLEU",
        "neither",
        "section 4.2, Table 2",
        f"{_CHANCE}, mean over texts; {_DATASET}",
    ),
)

_OF_FEATURES = (
    Score(
        "mauve",
        "MAUVE",
        "higher",
        f"not in the paper; Pillutla et al. 2021, {_FOLLOWING}",
        "mauve-text with its defaults, against the true continuations; features are the last hidden state of a "
        "given model, by the standard gpt2-large; null where the package or the model is absent",
    ),
)

_BLOCKER = "of all generated tokens of a text, mean over texts; only for decodings with the citation blocker"
_OF_BLOCKER = (
    Score(
        "blocker_banned_share",
        "share of steps",
        "neither",
        "sections 3 and B.2",
        f"steps with a ban in force; {_BLOCKER}",
    ),
    Score(
        "blocker_changed_share",
        "share of steps",
        "neither",
        "sections 3 and B.2",
        f"steps whose choice changed; {_BLOCKER}",
    ),
)

_RANK = "rank = 1 + number of strictly larger logits of the original at the other's most probable token"

# Of a checkpoint beside its original over the same texts (rayfit/score/pairs.py).
_OF_PAIRS = (
    _on_domain(
        "top_1_agreement",
        "share of positions",
        "neither",
        f"section 6.1, Figure 5; {_FOLLOWING}",
        f"same most probable token of two checkpoints, lowest id on ties; {_TEXTS}",
        title="top-1 agreement",
        short="agrees",
    ),
    *(
        _on_domain(
            f"original_rank_{name}_share", "share of positions", "neither", _FOLLOWING, f"{_RANK}; {_TEXTS}"
        )
        for name in ("not_1", "above_10", "above_200")
    ),
    _on_domain(
        "matched_temperature",
        "temperature",
        "neither",
        _FOLLOWING,
        f"at which the original's mean entropy is the other's, to 0.001 nats, by bisection; {_TEXTS}",
        short="T",
    ),
)

# In the order in which tables show them.
SCORES = {
    entry.name: entry
    for entry in (*_OF_LOGITS, *_OF_TEXTS, *_OF_BLOCKER, *_OF_ORIGINAL, *_OF_PAIRS, *_OF_FEATURES)
}


def score(name: str) -> Score:
    """The entry of one score. Raises RayfitError, with the nearest name, for a name that is none."""
    if name not in SCORES:
        raise unknown("score", name, SCORES)
    return SCORES[name]

"""The one table of columns: what a column of a sweep's rows is called, how it is written, and what part it has.

Every list of columns, axes, headings and parameters is a question to `COLUMNS`. A column is one entry below; a score is one
entry of `rayfit/scores.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from rayfit.decoding import Decoding
from rayfit.errors import RayfitError, unknown
from rayfit.scores import SCORES, Of, Score

TRUTH, ORIGINAL, TRAINED = "truth", "original", "trained"
WHO = {TRUTH: "true continuations", ORIGINAL: "original model", TRAINED: "hyperfitted"}
"""The values of the column `who`, and what people read. Training that did not end hyperfitted is not called so: see
`rayfit/findings/labels.py`."""

POOLED = "pooled"
"""In the column `domain`: all domains together."""

DASH = "\u2013"
"""Between the ends of a range."""

Role: TypeAlias = Literal["who", "declared", "seed", "measured", "about", "published"]
"""What part a column has: whose texts a row is of; what was chosen; a seed; a score; what else is known of a row (ids,
status, times); or no column of rows, but a quantity of the paper's tables."""

Form: TypeAlias = Literal["words", "decoding", "plain", "millions", "fixed", "rounded"]
"""How values are written: words as they are; a decoding in words; a number as it was given; in millions; with fixed digits;
or rounded, without digits from 100 on."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: of a sweep's rows, or of the paper's tables.

    name: in rows, files and the command line of `plot`.
    title: on axes and at the head of a report's table; `heading`, from `short`, in tables of plain text.
    phrase: of a value in the label of a line, with {} in its place.
    form, digits: how values are written, and with how many digits behind the point; None: as their size asks for.
    unit, arrow, about: of reports; an arrow up where higher is better.
    role, of: what part it has, and what decides its value.
    tells: whether it may tell two rows apart in labels and groups. Seeds do not: their rows are taken together.
    has_sections: lines stand under its values instead of repeating them, where it varies.
    said_by: columns beside which it need not be shown where it follows from them.
    usual: the value that is not worth saying where all rows have it.
    set_by_stop: known after training alone, where training stops at a loss.
    always: "first" or "last" where every table has it, before or after the scores that a sweep asks for.
    param, tag: the parameter of MLflow's runs, where it is called otherwise; the tag that holds it in a parameter's place.
    axes: the options that give its values, of which there may be several.
    """

    name: str
    title: str
    role: Role
    of: Of = "training"
    short: str = ""
    phrase: str = "{}"
    form: Form = "plain"
    digits: int | None = None
    unit: str = ""
    arrow: str = ""
    about: str = ""
    tells: bool = False
    has_sections: bool = False
    said_by: tuple[str, ...] = ()
    usual: Any = None
    set_by_stop: bool = False
    always: Literal["", "first", "last"] = ""
    param: str = ""
    tag: str = ""
    axes: tuple[str, ...] = ()

    @property
    def heading(self) -> str:
        """The head of the column in tables of plain text."""
        return self.short or self.title

    @property
    def title_with_unit(self) -> str:
        """The title for an axis."""
        return f"{self.title} ({self.unit})" if self.unit and self.unit not in self.title else self.title

    @property
    def parameter(self) -> str:
        """What MLflow's runs call it."""
        return self.param or self.name

    @property
    def is_number(self) -> bool:
        """Whether an axis of numbers can show it."""
        return self.form not in ("words", "decoding")

    @property
    def is_share(self) -> bool:
        """Whether values lie between 0 and 1."""
        return self.unit.startswith("share") or self.unit in ("BLEU", "probability")

    @property
    def is_of_weights(self) -> bool:
        """Whether it is the same on whatever domain and under whatever decoding."""
        return self.of in ("training", "weights")

    def text(self, value: Any, *, with_length: bool = False) -> str:
        """A value as it is written in this column, empty for None; `with_length`: of a decoding."""
        if value is None:
            return ""
        if self.form == "decoding":
            return Decoding.parse(value).words(with_length=with_length)
        if self.form == "millions" and value >= 1e5:
            return f"{value / 1e6:.3g}M"
        if self.form not in ("fixed", "rounded") or isinstance(value, str | bool):
            return value_text(value)
        if self.form == "fixed":
            return f"{value:.{self.digits}f}"
        if isinstance(value, int) or abs(value) >= 100:
            return f"{value:,.0f}"
        digits = self.digits if self.digits is not None else 3 if abs(value) < 1 else 2
        return f"{value:.{digits}f}"

    def words(self, value: Any, *, with_length: bool = False) -> str:
        """A value in the label of a line, `batch 8`; empty for None."""
        return "" if value is None else self.phrase.format(self.text(value, with_length=with_length))


def value_text(value: Any) -> str:
    """A declared value as people write it: 2,000 for 2000, 1e-06 for small rates."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def _declared(name: str, title: str, about: str, *, tells: bool = True, **more: Any) -> Column:
    return Column(name=name, title=title, about=about, role="declared", tells=tells, **more)


def _seed(name: str, title: str, about: str, *axes: str, **more: Any) -> Column:
    return Column(name=name, title=title, about=about, role="seed", phrase=f"{title} {{}}", axes=axes, **more)


def _about(name: str, about: str, of: Of, form: Form = "words", **more: Any) -> Column:
    return Column(
        name=name, title=name.replace("_", " "), about=about, role="about", of=of, form=form, **more
    )


def _published(name: str, title: str, about: str = "", form: Form = "plain") -> Column:
    return Column(name=name, title=title, about=about, role="published", form=form)


_CHOSEN = (
    Column(name="who", title="texts of", role="who", of="weights", form="words"),
    _declared(
        "model",
        "model",
        "the model that was trained, or the original",
        form="words",
        has_sections=True,
        axes=("model",),
    ),
    _declared(
        "train_text",
        "trained on",
        "the text of the training sequences",
        form="words",
        phrase="trained on {}",
        axes=("dataset",),
    ),
    # a trial may stand in several arms, and a parameter of MLflow's never changes
    _declared("arm", "arm", "the declared arm of the sweep", form="words", tag="rayfit.arm"),
    _declared(
        "adapter",
        "adapter",
        "what was trained: all weights, or an adapter's",
        form="words",
        said_by=("arm",),
        axes=("adapter",),
    ),
    _declared(
        "samples",
        "training sequences",
        "number of distinct training sequences",
        short="samples",
        phrase="{} sequences",
        axes=("samples",),
    ),
    _declared(
        "epochs",
        "epochs",
        "times each training sequence was seen",
        phrase="{} epochs",
        set_by_stop=True,
        axes=("epochs",),
    ),
    _declared(
        "updates",
        "updates",
        "optimiser updates",
        phrase="{} updates",
        said_by=("update",),
        set_by_stop=True,
        param="num_updates",
        axes=("num_updates",),
    ),
    _declared(
        "update",
        "after updates",
        "updates after which these weights were kept; empty for the final ones",
        of="weights",
        phrase="after {} updates",
    ),
    _declared("batch_size", "batch", "sequences per update", phrase="batch {}", axes=("batch_size",)),
    _declared(
        "learning_rate",
        "learning rate",
        "constant learning rate",
        short="rate",
        phrase="rate {}",
        axes=("learning_rate",),
    ),
    _declared(
        "stop_at_train_loss",
        "stopped at loss",
        "training loss at which training stopped",
        phrase="stopped at loss {}",
    ),
    _declared("repeat", "repeat", "number of an exact rerun", phrase="repeat {}", said_by=("arm",), usual=0),
    _declared(
        "trainable_parameters",
        "trained parameters",
        "number of weights that training changes",
        tells=False,
        form="millions",
        said_by=("model",),
    ),
    _declared(
        "domain",
        "evaluated on",
        "the text that the contexts come from",
        of="domain",
        form="words",
        short="on",
        phrase="on {}",
        has_sections=True,
    ),
    _declared("decoding", "decoding", "how tokens are picked", of="texts", form="decoding"),
    _seed(
        "seed",
        "seed",
        "sample seed: which sequences, in which order",
        "seeds",
        "sample_seeds",
        param="sample_seed",
    ),
    _seed("order_seed", "order seed", "the order of the sequences", "order_seeds", said_by=("seed",)),
    _seed(
        "training_seed", "training seed", "what initialises an adapter", "training_seeds", said_by=("seed",)
    ),
)

_ABOUT = (
    _about("trial_id", "the trial whose weights, or whose matched original, it is", "training"),
    _about("baseline_decoding", "the decoding without a blocker", "texts", form="decoding"),
    _about("status", "FINISHED, PENDING or FAILED", "texts"),
    _about("reason", "why something is missing", "texts"),
    _about("hyperfitted", "whether the training loss came within 0.1 of its floor", "weights"),
    _about("early_stopped", "whether of a trial's weights these have the lowest validation loss", "weights"),
    _about("train_loss_floor", "the least that the rows allow, nats", "training", form="fixed", digits=3),
)

_TIMES = (
    _about(
        "minutes",
        "wall time of training; of the original model: of its evaluation",
        "training",
        form="fixed",
        digits=1,
        always="last",
    ),
    _about("overhead_seconds", "between trials of one worker group", "training", form="rounded"),
)

_OF_THE_PAPER = (
    _published("contexts", "contexts", "held-out texts that are continued"),
    _published("context_length", "context", "tokens given of each context"),
    _published("sequence_length", "length", "tokens of a training sequence"),
    _published("weight_decay", "weight decay", "decay of the weights per update"),
    _published("preferred_128", "preferred, 128 tokens", form="rounded"),
    _published("preferred_256", "preferred, 256 tokens", form="rounded"),
)

_ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
_SHORT_UNITS = {"share of positions": "share", "share of tokens": "share", "share of texts": "share"}


def of_score(score: Score) -> Column:
    """The column of a score: shares in three digits, tokens and perplexities in one, unless the score says its own."""
    made = Column(
        name=score.name,
        title=score.title or score.name.replace("_", " "),
        short=score.short,
        role="measured",
        of=score.of,
        form="words" if score.unit == "true or false" else "rounded",
        digits=1 if score.unit in ("tokens", "perplexity") else None,
        unit=_SHORT_UNITS.get(score.unit, score.unit),
        arrow=_ARROWS[score.direction],
        about=f"{score.reading} ({score.source})",
        always=score.always,
    )
    digits = score.digits if score.digits is not None else 3 if made.is_share else None
    return made if digits is None else replace(made, form="fixed", digits=digits)


COLUMNS: dict[str, Column] = {
    each.name: each for each in (*_CHOSEN, *_ABOUT, *map(of_score, SCORES.values()), *_TIMES, *_OF_THE_PAPER)
}
"""Every column by its name, in the order in which tables show them."""

_BUILT_IN = frozenset(COLUMNS)


def know(scores: Iterable[Score], *, anew: bool = False) -> None:
    """Let these scores have columns too: those that a kind of measurement of one's own brings.

    rayfit's own columns stay what they are; so does what is known of a score already, unless it is told `anew`.
    """
    for score in scores:
        if score.name not in _BUILT_IN and (anew or score.name not in COLUMNS):
            COLUMNS[score.name], SCORES[score.name] = of_score(score), score


def check_own(scores: Iterable[Score]) -> None:
    """Raise RayfitError for a score of one's own that is called as a column of rayfit's."""
    for score in scores:
        if score.name in _BUILT_IN:
            raise RayfitError(f"score {score.name}: the name is taken: {COLUMNS[score.name].about}")


def column(name: str) -> Column:
    """The column of this name. Raises RayfitError, with the nearest name, where there is none."""
    if name not in COLUMNS:
        raise unknown("column", name, COLUMNS)
    return COLUMNS[name]


def published(name: str) -> Column:
    """The column of a quantity of the paper; one that rayfit has no column for is shown under its own name."""
    return COLUMNS.get(name) or _published(name, name.replace("_", " "), form="rounded")


def names(asked: Callable[[Column], bool]) -> list[str]:
    """The names of the columns that are asked for, in the order of tables."""
    return [each.name for each in COLUMNS.values() if asked(each)]


def columns_of_rows() -> list[str]:
    """What every row has, null where it does not apply; other scores are in the rows that have them."""
    return names(lambda each: bool(each.always) if each.role == "measured" else each.role != "published")


def telling_columns() -> list[str]:
    """What may tell two rows apart."""
    return names(lambda each: each.tells)


def columns_of_evaluations() -> list[str]:
    """What tells the evaluations of the same weights apart: nothing of the training."""
    return names(lambda each: each.tells and not each.is_of_weights)


def seed_columns() -> list[str]:
    """The seeds of a trial."""
    return names(lambda each: each.role == "seed")


def parameter_columns() -> list[str]:
    """What was chosen for a training, and is a parameter of its run in MLflow."""
    chosen = ("declared", "seed")
    return names(lambda each: each.role in chosen and each.of == "training" and not each.tag)


def axes() -> tuple[str, ...]:
    """The options that may take several values, which become trials."""
    return tuple(axis for each in COLUMNS.values() for axis in each.axes)


def check_columns(*given: str, where: str = "sweep: plot") -> None:
    """Raises RayfitError, with the nearest name and `where` it stands, for what is no column of numbers of rows."""
    valid = sorted(names(lambda each: each.is_number and each.role != "published"))
    for name in given:
        if name not in valid:
            raise unknown(where, name, valid)

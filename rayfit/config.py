"""The options of every sweep: one frozen typed class, from which the command line is generated."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from dataclasses import dataclass
from typing import Any

from rayfit.errors import RayfitError, nearest

SCALES = ("ci", "laptop", "paper")
PRECISIONS = ("auto", "bf16", "fp32")
EXPORT_DTYPES = ("fp32", "bf16")
OFFLOADS = ("none", "cpu")
EVAL_PRECISIONS = ("auto", "fp32", "bf16")

_PURE_BF16 = (
    "weights kept in bf16 do not move at hyperfitting's learning rates (at 1e-6 an update is smaller than half the "
    "gap between neighbouring bf16 numbers, and rounding throws it away); 'bf16' computes in bf16 and keeps fp32 "
    "master weights"
)


def option(default: Any, help: str, **limits: Any) -> Any:  # noqa: A002 - the word of argparse and of every reader
    """A field with its help text, and `choices`, `minimum`, `above` or `maximum` where values are limited."""
    return dataclasses.field(default=default, metadata={"help": help, **limits})


@dataclass(frozen=True, kw_only=True)
class Options:
    """All that can be said about a sweep at the command line. The plan decides what is None, by the preset and the scale."""

    model: tuple[str, ...] | None = option(
        None,
        "models: presets (`rayfit models`), local Hugging Face directories, hub ids (default: pydoc-1m)",
    )
    revision: str | None = option(
        None, "branch, tag or commit of hub models (default: the preset's own, else main)"
    )
    dataset: tuple[str, ...] | None = option(
        None, "texts to train on: presets (`rayfit datasets`), local files or folders, hub datasets"
    )
    eval_datasets: tuple[str, ...] | None = option(None, "texts to evaluate on (default: each trial's own)")
    text_column: str = option(
        "text", "the column that holds the text, or the prompts, of a parquet, jsonl or csv file"
    )
    pool: int = option(50_000, "documents of a streamed dataset that are drawn from", minimum=1)
    scale: str | None = option(None, "the sweep's grid: ci (minutes), laptop, or paper", choices=SCALES)
    arms: tuple[str, ...] | None = option(None, "only these of the sweep's declared arms")
    samples: tuple[int, ...] | None = option(None, "numbers of training sequences", minimum=1)
    num_updates: tuple[int, ...] | None = option(None, "optimiser updates of a trial", minimum=1)
    epochs: tuple[float, ...] | None = option(
        None, "how often a trial sees each row, in place of a number of updates", above=0.0
    )
    learning_rate: tuple[float, ...] | None = option(None, "constant learning rate of Adam", above=0.0)
    batch_size: tuple[int, ...] | None = option(
        None, "training sequences per update, over all workers (default: 8)", minimum=1
    )
    adapter: tuple[str, ...] | None = option(
        None, "what is trained: none (all weights), lora, lora-last (default: none)"
    )
    stop_at_train_loss: float | None = option(
        None, "end a trial after the epoch whose training loss is at most this (nats per token)", above=0.0
    )
    seeds: tuple[int, ...] | None = option(
        None,
        "replicates: each seed draws other samples and another order (default: 0)",
        minimum=0,
        maximum=2**62,
    )
    sample_seeds: tuple[int, ...] | None = option(
        None, "seeds of the samples alone", minimum=0, maximum=2**62
    )
    order_seeds: tuple[int, ...] | None = option(None, "seeds of the order alone", minimum=0, maximum=2**62)
    training_seeds: tuple[int, ...] | None = option(
        None, "seeds of what else is random in training: the start of adapters", minimum=0, maximum=2**62
    )
    precision: str = option(
        "auto",
        "computing precision of training; master weights are fp32 either way; auto: bf16 on GPUs and on CPUs with bf16 "
        "instructions, else fp32",
        choices=PRECISIONS,
    )
    sequence_length: int = option(256, "tokens of a row, BOS counted", minimum=2)
    span_characters: int | None = option(None, "characters of the span that gives a row", minimum=1)
    held_out_share: float | None = option(None, "share of documents never trained on", above=0.0, maximum=0.9)
    validation_rows: int | None = option(None, "held-out rows for validation loss, per text", minimum=1)
    contexts: int | None = option(None, "held-out contexts that are continued, per text", minimum=1)
    context_length: int = option(32, "tokens of a context, BOS counted", minimum=1)
    num_new_tokens: int | None = option(None, "tokens generated per context (default: 96)", minimum=1)
    decodings: tuple[str, ...] | None = option(None, "how tokens are picked (default: greedy)")
    further_contexts: int | None = option(
        None, "contexts beyond these, continued for the overlap histogram alone", minimum=1
    )
    prompts: str | None = option(
        None,
        "a file of prompts of your own, one per line (or parquet, jsonl, csv), continued whole beside the contexts",
    )
    mauve_model: str | None = option(
        None, "local directory of the model whose features MAUVE compares; its standard is gpt2-large"
    )
    eval_every: int | None = option(
        None,
        "updates between measurements along training (default: 20, or what a tenth of their time allows)",
        minimum=1,
    )
    keep_every: float | None = option(
        None, "epochs between weights that are kept along training and evaluated too", above=0.0
    )
    export_dtype: str = option("fp32", "numbers of the exported checkpoint", choices=EXPORT_DTYPES)
    eval_precision: str = option("auto", "auto: fp32 on CPU, bf16 on GPUs", choices=EVAL_PRECISIONS)
    num_workers: int | None = option(
        None,
        "data-parallel workers per trial; more than the batch's rows must be a multiple of them (default: as few as fit)",
        minimum=1,
    )
    zero_stage: int | None = option(
        None, "DeepSpeed ZeRO stage (default: 1, or more where memory asks for it)", choices=(0, 1, 2, 3)
    )
    micro_batch: int | None = option(
        None, "rows that a worker computes at once (default: all of its own, or as many as fit)", minimum=1
    )
    activation_checkpointing: bool | None = option(
        None,
        "compute activations again in backward and do not keep them; auto: where memory asks for it (default: auto)",
        words={"auto": None, "yes": True, "no": False},
    )
    offload: str | None = option(
        None,
        "where fp32 masters and Adam's moments are kept and moved (default: none, or cpu where memory asks for it)",
        choices=OFFLOADS,
    )
    use_gpu: bool | None = option(
        None,
        "one GPU per worker instead of one CPU; auto: where there are GPUs; without a word behind it: yes (default: auto)",
        words={"auto": None, "yes": True, "no": False},
    )
    trials_per_group: int = option(
        0, "trials a worker group trains before it is replaced; 0: no limit", minimum=0
    )
    num_cpus: int | None = option(None, "CPUs of the Ray that is started here (default: all)", minimum=1)
    checkpoint_minutes: float = option(
        5.0,
        "minutes between two states of a training, from which it goes on when it was interrupted",
        above=0.0,
    )
    checkpoint_every: int | None = option(
        None, "updates between two states of a training, beside those by the clock", minimum=1
    )
    storage: str = option("runs", "folder of all records, checkpoints and made models")
    tracking_uri: str | None = option(None, "MLflow tracking URI (default: a SQLite file in the storage)")
    plan: bool = option(False, "print what would be done, and do nothing")
    fresh: bool = option(False, "train and evaluate again what is finished; records are swapped when done")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and option_type(field.name)[1] and not isinstance(value, tuple):
                value = (value,)  # one value is a list of one
                object.__setattr__(self, field.name, value)
            for item in value if isinstance(value, tuple) else (value,):
                if item is not None:
                    _check_value(field.name, item, field.metadata)
            if isinstance(value, tuple):
                _check_list(field.name, value)
        _check_together(self)


def flag(name: str) -> str:
    """The command-line flag of a field."""
    return "--" + name.replace("_", "-")


def _check_value(name: str, value: Any, limits: Any) -> None:
    where = flag(name)
    if value == "":
        raise RayfitError(f"{where}: expected something; got ''")
    if name == "precision" and "bf16" in str(value) and value not in PRECISIONS:
        raise RayfitError(f"{where}: expected one of {', '.join(PRECISIONS)}; got {value!r}: {_PURE_BF16}")
    choices = limits.get("choices")
    if choices and value not in choices:
        listed = ", ".join(map(str, choices))
        hint = nearest(str(value), map(str, choices))
        raise RayfitError(f"{where}: expected one of {listed}; got {value!r}{hint}")
    if isinstance(value, float) and not math.isfinite(value):
        raise RayfitError(f"{where}: expected a finite number; got {value}")
    if "minimum" in limits and value < limits["minimum"]:
        raise RayfitError(f"{where}: expected at least {limits['minimum']}; got {value}")
    if "above" in limits and value <= limits["above"]:
        raise RayfitError(f"{where}: expected more than {limits['above']:g}; got {value:g}")
    if "maximum" in limits and value > limits["maximum"]:
        raise RayfitError(f"{where}: expected at most {limits['maximum']}; got {value}")


def _check_list(name: str, values: tuple[Any, ...]) -> None:
    if not values:
        raise RayfitError(f"{flag(name)}: expected at least one value")
    repeated = sorted({str(value) for value in values if values.count(value) > 1})
    if repeated:
        raise RayfitError(f"{flag(name)}: {', '.join(repeated)} is given more than once")


def _check_together(options: Options) -> None:
    if options.context_length >= options.sequence_length:
        raise RayfitError(
            f"--context-length: expected fewer tokens than --sequence-length {options.sequence_length}; "
            f"got {options.context_length}"
        )
    if options.num_updates and options.epochs:
        raise RayfitError("--num-updates and --epochs: each decides the other; give one of them")


@functools.cache
def option_type(name: str) -> tuple[type, bool]:
    """The type of a field's single value and whether the field takes a list: `samples` gives (int, True)."""
    annotation = typing.get_type_hints(Options)[name]
    if isinstance(annotation, types.UnionType):
        annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
    if typing.get_origin(annotation) is tuple:
        return typing.get_args(annotation)[0], True
    return annotation, False


def parse_value(name: str, text: str) -> Any:
    """One command-line value as its field's type; raises RayfitError with the flag, the value and what is valid."""
    kind, is_list = option_type(name)
    if kind is bool:
        return _parse_word(name, text)
    parts = _list_parts(text) if is_list else [text]
    values = []
    for part in parts:
        try:
            values.append(kind(part))
        except ValueError as error:
            expected = {int: "a whole number", float: "a number"}.get(kind, "text")
            many = " or several with commas between" if is_list else ""
            given = f"{part!r} in {text!r}" if part != text else repr(text)
            raise RayfitError(f"{flag(name)}: expected {expected}{many}; got {given}") from error
    return tuple(values) if is_list else values[0]


def words_of(name: str) -> dict[str, bool | None]:
    """The words for the values of a yes-or-no option that can be left open; empty for one that is there or not."""
    (field,) = (field for field in dataclasses.fields(Options) if field.name == name)
    words: dict[str, bool | None] = field.metadata.get("words", {})
    return words


def _parse_word(name: str, text: str) -> bool | None:
    words = words_of(name)
    if text not in words:
        listed = ", ".join(words)
        raise RayfitError(f"{flag(name)}: expected one of {listed}; got {text!r}{nearest(text, words)}")
    return words[text]


def _list_parts(text: str) -> list[str]:
    """Split at commas; `key=value` belongs to the part before it, as in `greedy,nucleus:top_k=9,seed=1`."""
    parts: list[str] = []
    for piece in (piece.strip() for piece in text.split(",")):
        if parts and "=" in piece and ":" not in piece:
            parts[-1] += f",{piece}"
        else:
            parts.append(piece)
    return parts

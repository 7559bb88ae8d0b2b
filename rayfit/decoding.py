"""How the tokens of a generation are picked: a frozen value, parsed, named and hashed without torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from rayfit.errors import RayfitError, nearest, unknown

WAIT_RULES = ("W0", "W1", "W2")
SOURCES = ("generated", "context+generated")

# What applies to a kind, with the kind's default. Nucleus is the paper's baseline (section 4).
_KINDS: dict[str, dict[str, float | int]] = {
    "greedy": {},
    "nucleus": {"temperature": 0.7, "top_k": 50, "top_p": 0.9},
    "temperature": {"temperature": 1.0},
    "min_p": {"temperature": 1.0, "min_p": 0.1},
    # Sampling from the original model at the temperature that gives it a trial's entropy (arXiv 2605.22579); a sweep
    # solves the temperature first, and it is then generated as `temperature`.
    "matched": {},
}
KINDS = tuple(_KINDS)

_REFUSED = {
    "contrastive": "transformers 5 has contrastive search only as code downloaded from a model hub, "
    "and rayfit runs no remote code",
}


@dataclass(frozen=True)
class Block:
    """The citation blocker of a decoding (sections 3 and B.2 of the paper).

    wait: what of a recorded continuation is banned. `W0`: all of it, at once. `W1`: only tokens that start a
        new word, so that the current word may be finished. `W2`: as W1, and what the rows have at their next
        word start stays banned until a new word is begun, even if the generation leaves the rows inside the
        word.
    source: where the run is looked for: in the generated tokens, or in the context and the generated tokens.
    run: length in tokens of the run after which a continuation is banned; at least 1 (the paper: 5).
    """

    wait: str = "W1"
    source: str = "generated"
    run: int = 5

    def __post_init__(self) -> None:
        if self.wait not in WAIT_RULES:
            raise unknown("decoding.block", str(self.wait), WAIT_RULES)
        if self.source not in SOURCES:
            raise unknown("decoding.block_source", str(self.source), SOURCES)
        _check_integer("block_run", self.run, 1, 64)


@dataclass(frozen=True)
class Decoding:
    """How tokens are picked. A field the kind does not have is None; one left out takes the kind's default.

    kind: `greedy` (highest logit, ties to the lowest id), `nucleus` (temperature, then top-k, then top-p),
        `temperature`, `min_p` (temperature, then tokens with `min_p` times the highest probability or
        more), or `matched` (the original model's temperature at which its entropy is a trial's; only in sweeps).
    temperature: divides the logits; above 0.
    top_k: number of most probable tokens kept, ties to the lowest id; 0 keeps all.
    top_p: the fewest most probable tokens that hold this mass are kept; in (0, 1].
    min_p: in (0, 1].
    repetition_penalty: divides positive and multiplies negative logits of the tokens of context and
        generation; above 0, 1 is off.
    no_repeat_ngram: an n-gram of this length occurs at most once in context and generation; 0 is off.
    num_new_tokens: tokens to generate; at least 1.
    stop_at_end: False generates exactly `num_new_tokens`, all special ids suppressed; True stops after one.
    block: the citation blocker, or None.
    seed: for the kinds that sample; 0 to 2**63 - 1.

    Raises RayfitError for an unknown kind, a field the kind does not have, and a value out of range.

    >>> Decoding.parse("nucleus:temperature=0.9,block=W1").name
    'nucleus:temperature=0.9,block=W1'
    """

    kind: str = "greedy"
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    num_new_tokens: int = 96
    stop_at_end: bool = False
    block: Block | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        own = _own_fields(self.kind)
        for key in ("temperature", "top_k", "top_p", "min_p"):
            value = getattr(self, key)
            if key not in own and value is not None:
                raise RayfitError(_does_not_apply(key, value, self.kind, own))
            if key in own and value is None:
                object.__setattr__(self, key, own[key])
        for key in ("temperature", "top_p", "min_p", "repetition_penalty"):
            value = getattr(self, key)
            if value is not None:
                high = 1.0 if key in ("top_p", "min_p") else math.inf
                object.__setattr__(self, key, _checked_real(key, value, high))
        if self.top_k is not None:
            _check_integer("top_k", self.top_k, 0, 2**31 - 1)
        _check_integer("no_repeat_ngram", self.no_repeat_ngram, 0, 2**31 - 1)
        _check_integer("num_new_tokens", self.num_new_tokens, 1, 2**31 - 1)
        _check_integer("seed", self.seed, 0, 2**63 - 1)
        if not isinstance(self.stop_at_end, bool):
            raise RayfitError(f"decoding.stop_at_end: expected true or false, got {self.stop_at_end!r}")
        if self.block is not None and not isinstance(self.block, Block):
            raise RayfitError(f"decoding.block: expected a Block or None, got {self.block!r}")

    def check_generable(self) -> None:
        """Raise RayfitError for `matched`, whose temperature only a sweep finds, from an original and a trial."""
        if self.kind == "matched":
            raise RayfitError(
                "decoding 'matched': its temperature is found by a sweep, from an original model and a trial of it; "
                "here give it as temperature:temperature=T"
            )

    @property
    def samples(self) -> bool:
        """Whether a random number decides the token, so that the seed matters."""
        return self.kind != "greedy"

    @property
    def name(self) -> str:
        """The kind and what differs from its defaults, as text that `parse` turns back into this decoding."""
        return f"{self.kind}:{self.settings}" if self.settings else self.kind

    @property
    def settings(self) -> str:
        """The name without the kind; empty where nothing differs from the kind's defaults."""
        return ",".join(f"{key}={_write(value)}" for key, value in self._changed().items())

    @property
    def is_plain(self) -> bool:
        """Whether this is greedy decoding and nothing else, of whatever length."""
        return self.without_length() == Decoding()

    def without_length(self) -> Decoding:
        """The same decoding of the default number of tokens, so that its name says none."""
        return replace(self, num_new_tokens=Decoding().num_new_tokens)

    def words(self, *, with_length: bool = False) -> str:
        """The decoding for people; its length, where it is not the default one, only `with_length`.

        >>> Decoding.parse("greedy:num_new_tokens=224,block=W1").words()
        'greedy, blocked (W1)'
        """
        shown = self if with_length else self.without_length()
        settings = (_in_words(key, value) for key, value in shown._changed().items())
        return ", ".join([self.kind.replace("_", "-"), *settings])

    def declared(self) -> dict[str, Any]:
        """What decides which tokens are generated, as plain JSON values in a fixed order.

        Only what applies: the kind's own fields, options that are on, the seed where numbers are drawn.
        """
        out: dict[str, Any] = {"kind": self.kind}
        out.update({key: getattr(self, key) for key in _KINDS[self.kind]})
        if self.repetition_penalty != 1.0:
            out["repetition_penalty"] = self.repetition_penalty
        if self.no_repeat_ngram:
            out["no_repeat_ngram"] = self.no_repeat_ngram
        out["num_new_tokens"] = self.num_new_tokens
        out["stop_at_end"] = self.stop_at_end
        if self.block is not None:
            out["block"] = {"wait": self.block.wait, "source": self.block.source, "run": self.block.run}
        if self.samples:
            out["seed"] = self.seed
        return out

    @classmethod
    def parse(cls, text: str) -> Decoding:
        """Read `kind` or `kind:key=value,...`; `stop_at_end` and `block` (W1) may stand without a value.

        Keys are the fields of `Decoding`, with `block`, `block_source` and `block_run` for the blocker.
        Raises RayfitError naming the key, what was given, what is valid, and the nearest name.
        """
        kind, _, rest = text.strip().partition(":")
        given: dict[str, Any] = {"kind": kind.strip()}
        own = _own_fields(given["kind"])
        for item in filter(None, (part.strip() for part in rest.split(","))):
            key, equals, value = (piece.strip() for piece in item.partition("="))
            if key not in _READERS:
                valid = [name for name in _READERS if name in own or name not in _SAMPLING]
                raise unknown(f"decoding {text!r}, key", key, valid)
            if key in given:
                raise RayfitError(f"decoding {text!r}: {key} is given twice")
            if not equals and key not in _BARE:
                raise RayfitError(f"decoding {text!r}: expected {key}=value, got {item!r}")
            given[key] = _READERS[key](key, value if equals else _BARE[key])
        return cls(**_with_block(given, text))

    def _changed(self) -> dict[str, Any]:
        """What differs from the kind's defaults, by the keys that `parse` reads."""
        default = Decoding(kind=self.kind)._flat()
        return {key: value for key, value in self._flat().items() if value != default.get(key)}

    def _flat(self) -> dict[str, Any]:
        flat = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in ("kind", "block")
        }
        if self.block is not None:
            flat["block"] = self.block.wait
            if self.block.source != SOURCES[0]:
                flat["block_source"] = self.block.source
            if self.block.run != 5:
                flat["block_run"] = self.block.run
        return flat


_SAMPLING = ("temperature", "top_k", "top_p", "min_p")


def _own_fields(kind: str) -> dict[str, float | int]:
    if kind in _REFUSED:
        raise RayfitError(
            f"decoding.kind: {kind!r} is not offered: {_REFUSED[kind]}; expected one of {', '.join(KINDS)}"
        )
    if kind not in _KINDS:
        raise unknown("decoding.kind", str(kind), KINDS)
    return _KINDS[kind]


def _does_not_apply(key: str, value: object, kind: str, own: dict[str, float | int]) -> str:
    owners = ", ".join(name for name, defaults in _KINDS.items() if key in defaults)
    has = ", ".join(own) if own else "no field of its own"
    return f"decoding.{key}: given {value!r}, but {kind!r} has {has}; {key} belongs to {owners}"


def _with_block(given: dict[str, Any], text: str) -> dict[str, Any]:
    wait, source, run = (
        given.pop("block", None),
        given.pop("block_source", None),
        given.pop("block_run", None),
    )
    if wait is None:
        if source is not None or run is not None:
            raise RayfitError(f"decoding {text!r}: block_source and block_run need block=W0, W1 or W2")
        return given
    options = {key: value for key, value in (("source", source), ("run", run)) if value is not None}
    return {**given, "block": Block(wait=wait, **options)}


def _read_text(_key: str, value: str) -> str:
    return value


def _read_real(key: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise RayfitError(f"decoding.{key}: expected a number, got {value!r}") from None


def _read_integer(key: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise RayfitError(f"decoding.{key}: expected a whole number, got {value!r}") from None


def _read_flag(key: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise RayfitError(
            f"decoding.{key}: expected true or false, got {value!r}{nearest(value, ['true', 'false'])}"
        )
    return value.lower() == "true"


_READERS: dict[str, Callable[[str, str], Any]] = {
    "temperature": _read_real,
    "top_k": _read_integer,
    "top_p": _read_real,
    "min_p": _read_real,
    "repetition_penalty": _read_real,
    "no_repeat_ngram": _read_integer,
    "num_new_tokens": _read_integer,
    "stop_at_end": _read_flag,
    "block": _read_text,
    "block_source": _read_text,
    "block_run": _read_integer,
    "seed": _read_integer,
}
_BARE = {"stop_at_end": "true", "block": "W1"}


# How a setting is said to people; others are said by their key.
_WORDS = {"num_new_tokens": "{} tokens", "block": "blocked ({})", "temperature": "T {}"}


def _in_words(key: str, value: object) -> str:
    plain = key.replace("_", " ")
    return plain if value is True else _WORDS.get(key, f"{plain} {{}}").format(value)


def _write(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _checked_real(key: str, value: object, high: float) -> float:
    # bool is an int to Python, but `temperature=True` is a slip
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RayfitError(f"decoding.{key}: expected a number, got {value!r}")
    hint = "; for the most probable token use kind 'greedy'" if key == "temperature" and value == 0 else ""
    if not (0 < value <= high and math.isfinite(value)):
        wanted = "above 0" if math.isinf(high) else f"above 0 and at most {high:g}"
        raise RayfitError(f"decoding.{key}: expected a number {wanted}, got {value!r}{hint}")
    return float(value)


def _check_integer(key: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RayfitError(f"decoding.{key}: expected a whole number from {low} to {high}, got {value!r}")

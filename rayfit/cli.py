"""The command line: the one every sweep script has, and `rayfit`."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rayfit.config import Options, flag, option_type, parse_value, words_of
from rayfit.errors import HeldError, RayfitError, nearest, unknown
from rayfit.plan.declaration import Sweep

CONFIG = "--config"


class _Parser(argparse.ArgumentParser):
    """argparse, whose complaints are RayfitErrors with the nearest flag."""

    def error(self, message: str) -> NoReturn:
        raise RayfitError(message)


def sweep_main(sweep: Sweep, script: str) -> None:
    """Run a sweep's script: parse, plan, and (unless `--plan`) run; ends the process with its exit status."""
    sys.exit(guarded(lambda: run_script(sweep, script, sys.argv[1:])))


def guarded(command: Callable[[], int]) -> int:
    """The command's exit status; an error the user can mend is one message on standard error, and status 2.

    3 where somebody else is at the same thing.
    """
    try:
        return command()
    except HeldError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except RayfitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130


def run_script(sweep: Sweep, script: str, arguments: Sequence[str]) -> int:
    """One launch of a sweep's script."""
    options = parse_options(sweep, arguments)
    from rayfit.records.storage import Storage

    if options.plan:
        from rayfit.plan.planning import plan_with_cards
        from rayfit.plan.show import render_plan

        storage = Storage(options.storage)
        storage.check_version()
        print(render_plan(plan_with_cards(sweep, options, storage), storage))
        if options.use_gpu is None and "RAY_ADDRESS" in os.environ:
            print("note: --use-gpu auto is decided by this machine here, and by the Ray that a launch joins")
        return 0
    from rayfit.sweep.driver import run_sweep

    return run_sweep(sweep, options, script, arguments)


def parse_options(sweep: Sweep, arguments: Sequence[str]) -> Options:
    """Options from command-line words; raises RayfitError for an unknown flag or an impossible value."""
    parser = _Parser(description=sweep.question, allow_abbrev=False)
    for field in dataclasses.fields(Options):
        kind, is_list = option_type(field.name)
        text = field.metadata["help"]
        if words := field.metadata.get("words"):
            # Without a word behind it, it asks for the thing.
            parser.add_argument(flag(field.name), nargs="?", const="yes", metavar="|".join(words), help=text)
            continue
        if kind is bool:
            parser.add_argument(flag(field.name), action="store_true", default=None, help=text)
            continue
        shown = field.default if not isinstance(field.default, tuple) else ",".join(map(str, field.default))
        default = "" if field.default is None else f" (default: {shown})"
        choices = "|".join(map(str, field.metadata.get("choices", ())))
        metavar = choices or (f"{kind.__name__.upper()}[,...]" if is_list else kind.__name__.upper())
        parser.add_argument(flag(field.name), metavar=metavar, help=text + default)
    parser.add_argument(
        CONFIG, metavar="FILE", help="a TOML file of options, by their names here; what is said here wins"
    )
    flags = [CONFIG, *(flag(field.name) for field in dataclasses.fields(Options))]
    known, rest = parser.parse_known_args(_negatives_joined(arguments, flags))
    if rest:
        raise RayfitError(
            f"{rest[0]}: no such option{nearest(rest[0].split('=')[0], flags)}; --help lists them all"
        )
    words = vars(known)
    file = words.pop(CONFIG.removeprefix("--"))
    given: dict[str, Any] = {} if file is None else read_config(Path(file))
    for name, value in words.items():
        if value is not None:
            given[name] = value if isinstance(value, bool) else parse_value(name, value)
    return Options(**given)


def read_config(file: Path) -> dict[str, Any]:
    """Options from a TOML file: `samples = [8, 32]`, dashes or underscores in names.

    Raises RayfitError for a file that cannot be read, a name that is no option and a value of another type.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RayfitError(f"{CONFIG}: {file} cannot be read as TOML: {error}") from error
    names = [field.name for field in dataclasses.fields(Options)]
    given = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in names:
            raise unknown(f"{CONFIG}: {file}", key, names)
        given[name] = _of_type(file, name, value)
    return given


def _of_type(file: Path, name: str, value: Any) -> Any:
    """A TOML value as its option's type: a whole number may stand for a number, one value for a list of one."""
    kind, is_list = option_type(name)
    if isinstance(value, str) and words_of(name):
        return parse_value(name, value)
    values = value if is_list and isinstance(value, list) else [value]
    # To Python true is a number too.
    fits = [type(item) is kind or (kind is float and type(item) is int) for item in values]
    if not all(fits):
        wanted = f"{kind.__name__}, or a list of them" if is_list else kind.__name__
        raise RayfitError(f"{CONFIG}: {file}: {name}: expected {wanted}; got {value!r}")
    typed = tuple(kind(item) for item in values)
    return typed if is_list else typed[0]


def _negatives_joined(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """`--seeds -1,2` as `--seeds=-1,2`, since argparse takes most words that begin with a dash for flags."""
    words: list[str] = []
    for word in arguments:
        if words and words[-1] in flags and re.match(r"-[\d.]", word):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def main() -> None:
    """The `rayfit` command."""
    from rayfit.commands import run

    sys.exit(guarded(lambda: run(sys.argv[1:])))

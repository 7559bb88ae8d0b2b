"""`rayfit generate`: its flags, what they mean together, and the page it prints. torch waits until a model is needed."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from dataclasses import replace

from rayfit.ask.page import key, page
from rayfit.ask.request import Request
from rayfit.decoding import Block, Decoding
from rayfit.errors import RayfitError
from rayfit.plan.prompt_files import file_and_column, read_prompts
from rayfit.records.storage import Storage

ABOUT = "continue a prompt with a model, or with two beside each other"
_WIDTH_WITHOUT_TERMINAL = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the command, beside `--storage`."""
    add = parser.add_argument
    add(
        "--model",
        action="append",
        dest="named",
        type=lambda text: ("model", text),
        metavar="PATH|PRESET",
        help="a local Hugging Face directory, a preset that the storage holds, or a hub id; twice for two beside each other",
    )
    add(
        "--trial",
        action="append",
        dest="named",
        type=lambda text: ("trial", text),
        metavar="ID",
        help="a trial's checkpoint, by its id or the beginning or end of it; alone, its original model stands before it",
    )
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument(
        "--prompt", metavar="TEXT", help="the text to be continued; - reads it from standard input"
    )
    prompt.add_argument(
        "--prompts", metavar="FILE", help="a file with one prompt per line, or a parquet, jsonl or csv table"
    )
    add(
        "--decoding",
        default="greedy",
        help="as in sweeps, such as nucleus or greedy:block=W2 (default: greedy)",
    )
    add("--num-new-tokens", type=int, metavar="N", help="tokens to generate (default: the decoding's, 96)")
    add("--seed", type=int, metavar="N", help="of a decoding that samples (default: the decoding's, 0)")
    add(
        "--block",
        metavar="DATA|TRIAL",
        help="cite no run of these texts: a trial's rows, a local file or folder, or a dataset preset, whole",
    )
    add(
        "--text-column",
        default="text",
        help="column of a table given to --prompts or --block (default: text)",
    )
    add("--top", type=int, default=0, metavar="K", help="also the K most probable next tokens along the text")
    choices = ("auto", "always", "never")
    add("--color", choices=choices, default="auto", help="shade what repeats (default: auto, on a terminal)")


def run(parsed: argparse.Namespace) -> int:
    """Answer one call; returns the exit status."""
    request = request_of(parsed)
    from rayfit.ask.subjects import subjects_of

    subjects = subjects_of(request)  # what is not there is said before torch is loaded, which takes seconds
    # transformers looks DeepSpeed up, which would tell that it found no GPU.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from transformers.utils import logging

    from rayfit.ask.answering import answers

    logging.set_verbosity_error()
    found, notes = answers(request, subjects, _say)
    width = shutil.get_terminal_size((_WIDTH_WITHOUT_TERMINAL, 24)).columns
    color = _in_color(parsed.color)
    titles = [subject.title for subject in subjects]
    _print("\n".join([*notes, *([key(width)] if color else [])]))
    for place, answer in enumerate(found):
        heading = "prompt" if len(found) == 1 else f"prompt {place + 1} of {len(found)}"
        _print(
            page(answer, titles, width=width, color=color, heading=heading) + "\n" * (place < len(found) - 1)
        )
    return 0


def request_of(parsed: argparse.Namespace) -> Request:
    """The request that the flags describe; raises RayfitError for what cannot be meant."""
    decoding = Decoding.parse(parsed.decoding)
    decoding.check_generable()
    if parsed.num_new_tokens is not None:
        decoding = replace(decoding, num_new_tokens=parsed.num_new_tokens)
    if parsed.seed is not None:
        decoding = replace(decoding, seed=parsed.seed)
    if parsed.block is not None and decoding.block is None:
        decoding = replace(decoding, block=Block())
    if parsed.top < 0:
        raise RayfitError(f"--top: expected 0 or more; got {parsed.top}")
    storage = Storage(parsed.storage)
    storage.check_version()
    return Request(
        prompts=_prompts(parsed),
        named=tuple(parsed.named or ()),
        decoding=decoding,
        storage=storage,
        block=parsed.block,
        text_column=parsed.text_column,
        top=parsed.top,
    )


def _prompts(parsed: argparse.Namespace) -> tuple[str, ...]:
    if parsed.prompts is not None:
        path, column = file_and_column(parsed.prompts, parsed.text_column)
        return read_prompts(path, text_column=column)
    try:
        # A shell's `echo` ends what it writes with a line break that nobody means.
        prompt = sys.stdin.read().rstrip("\n") if parsed.prompt == "-" else parsed.prompt
        prompt.encode()  # Python gives bytes that are no text as surrogates, which no tokenizer takes
    except UnicodeError as error:
        raise RayfitError("--prompt: is not UTF-8 text") from error
    if not prompt.strip():
        raise RayfitError("--prompt: is empty; give the text to be continued")
    return (prompt,)


def _in_color(choice: str) -> bool:
    if choice == "auto":
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return choice == "always"


def _print(text: str) -> None:
    """Print what the terminal's encoding cannot write as a question mark."""
    if text:
        encoding = sys.stdout.encoding or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding))


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)

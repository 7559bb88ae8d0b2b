"""The GPUs of this machine, as torch sees them: looked at in a process of its own, before anything is fetched or made."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rayfit.errors import RayfitError

# What the pinned torch of PyPI is built for; another build asks for another driver.
_DRIVER = "580 or newer for torch's CUDA 13 build"

# Where Linux shows an NVIDIA driver, and Windows' Linux its own.
_SIGNS = ("/dev/nvidiactl", "/dev/dxg")

_PROBE_SECONDS = 180.0
_PROBE = """
import json, torch
found = {"torch": torch.__version__, "cuda": torch.version.cuda, "error": "", "cards": []}
if torch.version.cuda is not None:
    try:
        torch.cuda.init()
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            ones = torch.ones(8, 8, device=f"cuda:{index}")
            assert float((ones @ ones).sum()) == 512, "it computes wrongly"
            found["cards"].append([card.name, [card.major, card.minor], card.total_memory])
    except Exception as error:
        found["error"], found["cards"] = str(error) or type(error).__name__, []
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Card:
    """A GPU: its name, compute capability and memory in bytes."""

    name: str
    capability: tuple[int, int]
    num_bytes: int

    @property
    def text(self) -> str:
        """Its name with its memory."""
        return f"{self.name} of {self.num_bytes / 2**30:.1f} GiB"

    @property
    def has_bf16(self) -> bool:
        """Whether it computes in bf16 by itself: from compute capability 8.0 (Ampere) on."""
        return self.capability >= (8, 0)


class Found(msgspec.Struct, frozen=True):
    """What such a process found: torch's version, the CUDA it is built for, why there are no cards, or the cards."""

    torch: str
    cuda: str | None
    error: str
    cards: list[tuple[str, tuple[int, int], int]]


def seem_there() -> bool:
    """Whether this machine seems to have GPUs that torch can use, without asking it, which takes seconds.

    There is a driver, no CUDA_VISIBLE_DEVICES hides all cards, and torch is no build for CPUs alone.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        return False
    return any(Path(sign).exists() for sign in _SIGNS) and not _is_for_cpus()


def _is_for_cpus() -> bool:
    """Whether the torch that is installed says in its own version file that it has no CUDA."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return True
    try:
        text = (Path(found.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"^cuda\b[^=]*= None$", text, re.MULTILINE) is not None


def find_cards() -> tuple[Card, ...]:
    """The GPUs that torch can use. Raises RayfitError, in one line with the way out, where it can use none."""
    command = [sys.executable, "-c", _PROBE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise RayfitError(
            f"--use-gpu: the GPUs did not answer within {_PROBE_SECONDS:g} seconds; see what nvidia-smi says, or give "
            "--use-gpu no"
        ) from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason"])[-1]
        raise RayfitError(f"--use-gpu: torch cannot be asked for its GPUs: {said}")
    return cards_of(msgspec.json.decode(done.stdout.strip().splitlines()[-1], type=Found))


def cards_of(found: Found) -> tuple[Card, ...]:
    """As `find_cards`, of what the process found."""
    if found.cuda is None:
        raise RayfitError(
            f"--use-gpu: torch {found.torch} is a build for CPUs alone; install a CUDA build of it (README, Install), "
            "or give --use-gpu no"
        )
    if not found.cards:
        said = " ".join(found.error.split()) or "it finds none"
        raise RayfitError(
            f"--use-gpu: torch {found.torch} for CUDA {found.cuda} can use no GPU: {said} (it needs an NVIDIA driver of "
            f"{_DRIVER}); mend that, or give --use-gpu no"
        )
    return tuple(Card(*card) for card in found.cards)


def cards_text(cards: tuple[Card, ...]) -> str:
    """The cards in words, equal ones counted."""
    counted = Counter(card.text for card in cards)
    return ", ".join(f"{count} x {text}" if count > 1 else text for text, count in counted.items())


def check_cards(cards: tuple[Card, ...], *, precision: str) -> None:
    """Raises RayfitError where training would be in bf16 and a card has no units for it, which makes it slow."""
    without = next((card for card in cards if not card.has_bf16), None)
    if without is not None and precision != "fp32":
        major, minor = without.capability
        raise RayfitError(
            f"--precision: {without.name} (compute capability {major}.{minor}) has no bf16 units, and training is in bf16 "
            "there by default; give --precision fp32, hide the card with CUDA_VISIBLE_DEVICES, or give --use-gpu no"
        )

"""Tests that need an NVIDIA GPU; where there is none they are skipped with the reason."""

from __future__ import annotations

import pytest

from rayfit.errors import RayfitError
from rayfit.plan.cards import Card, find_cards


@pytest.fixture(scope="session")
def cards() -> tuple[Card, ...]:
    """The GPUs that torch can use."""
    try:
        return find_cards()
    except RayfitError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _on_a_card(cards: tuple[Card, ...]) -> None:
    """Every test here needs one."""

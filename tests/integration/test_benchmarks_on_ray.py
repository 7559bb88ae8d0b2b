"""Every benchmark that starts a Ray runs, in a form of seconds."""

from __future__ import annotations

import pytest

from tests.integration.test_benchmarks import quick, results

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", ["launches", "whole_sweep", "memory", "many_trials", "scoring"])
def test_a_benchmark_measures_what_it_names(name: str) -> None:
    assert results(quick(name))

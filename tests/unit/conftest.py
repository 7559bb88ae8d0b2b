"""Settings of hypothesis for the unit tests: the same examples on every machine, and nothing kept on disk."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("rayfit", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("rayfit")

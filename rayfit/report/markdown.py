"""A sweep in a few lines of Markdown: the question, the command, the table, who agrees with whom."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from rayfit.report.table import render_table


def render_markdown(record: Mapping[str, Any]) -> str:
    """A section on a sweep from its record, as `docs/results.md` is made of."""
    agreement = record.get("agreement")
    shown = "agreement" in {figure["kind"] for figure in record.get("figures", [])}
    parts = [
        f"## {record['sweep_kind']}",
        f"{record['question']} ({record['source']})",
        f"```console\n$ {_command(record)}\n```",
        f"```text\n{render_table(record['rows'], record['options']['contexts'], record.get('prompts'))}\n```",
    ]
    if shown and agreement:
        parts.append(
            f"Top-1 agreement, over {agreement['num_positions']:,} positions:\n\n{_matrix(agreement)}"
        )
    return "\n\n".join(parts) + "\n"


def _command(record: Mapping[str, Any]) -> str:
    """The last launch's command without where its storage and its tracking were."""
    words = shlex.split(record["launches"][-1]["command"])
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word not in ("--storage", "--tracking-uri"):
            kept.append(word)
        skip = not skip and word in ("--storage", "--tracking-uri")
    return shlex.join(kept)


def _matrix(agreement: Mapping[str, Any]) -> str:
    labels = agreement["labels"]
    lines = ["| | " + " | ".join(labels) + " |", "|" + " --- |" * (len(labels) + 1)]
    for name, row in zip(labels, agreement["matrix"], strict=True):
        lines.append(f"| {name} | " + " | ".join(f"{share:.3f}" for share in row) + " |")
    return "\n".join(lines)

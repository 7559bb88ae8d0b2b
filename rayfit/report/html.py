"""The report of a sweep: one HTML file that holds everything it shows and asks nothing of any network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rayfit.columns import POOLED, TRAINED
from rayfit.findings.measured import measured
from rayfit.records.frames import GENERATIONS
from rayfit.records.storage import SWEEPS, Storage, write_text
from rayfit.records.sweep import Row, SweepRecord
from rayfit.records.trial import TrialRecord
from rayfit.report.beside import published
from rayfit.report.board import headlines, sweep_board
from rayfit.report.differences import difference_table
from rayfit.report.figures import figures
from rayfit.report.figures.model import Figure
from rayfit.report.made import how_it_was_made
from rayfit.report.shading import SHADES
from rayfit.report.shown import shown_figure
from rayfit.report.table import contexts_text
from rayfit.report.texts import comparisons

REPORT = "report.html"
_TEMPLATES = Path(__file__).parent / "templates"
_SMALL = {
    "ci": "Scale ci: a run small enough for a test of the program. That an effect does not show here says little.",
}


@dataclass(frozen=True)
class Notice:
    """A sentence above everything else; `kind`: "failed", or empty."""

    text: str
    kind: str = ""


def write_report(record: SweepRecord, storage: Storage, drawn: Sequence[Figure] | None = None) -> Path:
    """Write `report.html` into the sweep's folder from its record and what that points to; returns its path.

    `drawn`: the sweep's figures, where they are there already. What is not measured is left out or said to be missing.
    Raises RayfitError for a kind of figure that there is not.
    """
    target = storage.folder(SWEEPS, record.id) / REPORT
    write_text(target, render_report(record, storage, drawn))
    return target


def render_report(record: SweepRecord, storage: Storage, drawn: Sequence[Figure] | None = None) -> str:
    """The report as HTML, as `write_report` writes it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8"))
    shown = figures(record, storage) if drawn is None else drawn
    view = _view(record, storage, shown)
    return environment.get_template("report.html").render(style=style, record=record, **view)


def _view(record: SweepRecord, storage: Storage, drawn: Sequence[Figure]) -> dict[str, Any]:
    on_texts = record.on_texts()
    table = sweep_board(record)
    return {
        "title": f"{record.question} - rayfit",
        "lede": _lede(record, on_texts),
        "notices": _notices(record, storage),
        "headlines": headlines(on_texts),
        "board": table,
        "board_width": 150 + 88 * (table.width - 1),
        "counts": _counts(record, table.several_seeds, on_texts, storage),
        "paper": published(record.sweep_kind),
        "figures": [shown_figure(figure) for figure in drawn],
        "differences": difference_table(record.differences),
        "comparisons": comparisons(record, storage),
        "bounds": [begin for begin, _ in SHADES],
        "made": how_it_was_made(record, storage),
        "version": metadata.version("rayfit"),
    }


def _lede(record: SweepRecord, rows: Sequence[Row]) -> str:
    models = dict.fromkeys(row.model for row in rows)
    domains = dict.fromkeys(row.domain for row in rows if row.domain != POOLED)
    parts = [f"{', '.join(models)} on {', '.join(domains)}"]
    trials = {row.trial_id: row for row in rows if row.who == TRAINED and row.update is None}
    done = [row for row in trials.values() if row.hyperfitted is not None]
    count = sum(bool(row.hyperfitted) for row in done)
    parts.append(
        f"{len(done)} of {len(trials)} trials finished, {count} of them hyperfitted (a training loss within 0.1 nats "
        "of the least that these rows allow)"
    )
    source = record.source
    if source:
        is_own = source.startswith("not in the paper")
        parts.append(source if is_own else f"after the paper (arXiv 2412.04318), {source}")
    return "; ".join(parts) + "."


def _notices(record: SweepRecord, storage: Storage) -> list[Notice]:
    found = []
    failed = [row for row in record.rows if not row.is_finished]
    if failed:
        text = f"{len(failed)} of {len(record.rows)} rows have no numbers; the table says why."
        found.append(Notice(text, "failed"))
    if record.scale in _SMALL:
        found.append(Notice(_SMALL[record.scale]))
    for axis, alone in record.alone.items():
        word = axis.replace("_", " ")
        text = f"The sweep compares several values of {word}; this launch had {alone} alone, so other rows do not exist."
        found.append(Notice(text))
    trials = (storage.trial(key) for key in record.trials)
    own = [trial for trial in trials if trial is not None and _is_on_own_text(trial)]
    if own:
        models = ", ".join(sorted({trial.model.name for trial in own}))
        texts = ", ".join(sorted({trial.text for trial in own}))
        text = (
            f"Models that rayfit trains itself ({models}) have seen the text of their hyperfitting rows before, where that "
            f"is {texts}. Held-out text, from which contexts and validation rows come, they have never seen."
        )
        found.append(Notice(text))
    return found


def _is_on_own_text(trial: TrialRecord) -> bool:
    """Whether a made model was hyperfitted on the embedded text, which it was made from."""
    text = trial.declared["rows"]["text"]
    # The whole of the embedded text names no domain.
    seen = "pydoc" in text and text.get("domain") in (None, "topics", "docstrings")
    return trial.model.kind == "made" and seen


def _counts(record: SweepRecord, several_seeds: bool, on_texts: Sequence[Row], storage: Storage) -> str:
    found = (one.record.about["num_contexts"] for one in measured(on_texts, GENERATIONS, storage))
    numbers = sorted({number for number in found if isinstance(number, int)})
    counted = " or ".join(map(str, numbers))
    contexts = f"{contexts_text(counted, record.prompts)} " if numbers else ""
    spread = "Small: one standard deviation over seeds (±), or " if several_seeds else "Small: "
    arrows = "↑ higher is better, ↓ lower is better; a dash is not measured."
    return f"{contexts}{spread}the 95% interval over contexts. {arrows}"

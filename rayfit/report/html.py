"""The report of a sweep: one HTML file that holds everything it shows and asks nothing of any network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rayfit.columns import POOLED
from rayfit.records.storage import Storage, write_text
from rayfit.report.beside import published
from rayfit.report.board import headlines, sweep_board
from rayfit.report.differences import difference_table
from rayfit.report.figures import figures
from rayfit.report.figures.draw import look_svg, panel_svg
from rayfit.report.figures.model import Figure, Heat
from rayfit.report.figures.palette import heat_colours
from rayfit.report.figures.words import alt_text
from rayfit.report.joined import evaluated
from rayfit.report.made import duration, how_it_was_made
from rayfit.report.rows import Row, is_finished, is_trained, rows_on_texts, value
from rayfit.report.shading import SHADES
from rayfit.report.table import contexts_text
from rayfit.report.texts import comparisons

REPORT = "report.html"
_TEMPLATES = Path(__file__).parent / "templates"
_SMALL = {
    "ci": "Scale ci: a run small enough for a test of the program. That an effect does not show here says little.",
}


def write_report(record: dict[str, Any], storage: Storage) -> Path:
    """Write `report.html` into the sweep's folder from its record and what that points to; returns its path.

    What the record does not have is left out or said to be missing. Raises RayfitError for a kind of figure that there
    is not.
    """
    target = storage.folder("sweeps", record["id"]) / REPORT
    write_text(target, render_report(record, storage))
    return target


def render_report(record: Mapping[str, Any], storage: Storage) -> str:
    """The report as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    known = {"sweep_kind": "", "scale": "", "question": "", **record}
    style = Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8"))
    return environment.get_template("report.html").render(style=style, record=known, **_view(known, storage))


def _view(record: Mapping[str, Any], storage: Storage) -> dict[str, Any]:
    rows: list[Row] = record.get("rows", [])
    on_texts = rows_on_texts(rows, record.get("prompts"))
    kind = record["sweep_kind"]
    drawn = figures(record, storage)
    table = sweep_board(record)
    made = how_it_was_made(record, storage)
    for trial in made["trials"]:
        for part in ("train", "measure"):
            seconds = trial["seconds"].get(part)
            trial[part] = "" if seconds is None else duration(seconds)
    return {
        "title": f"{record['question'] or record['id']} - rayfit",
        "lede": _lede(record, on_texts, storage),
        "notices": _notices(record, rows, storage),
        "headlines": headlines(on_texts),
        "board": table,
        "board_width": 150 + 88 * (table.width - 1),
        "counts": _counts(table.several_seeds, storage, {**record, "rows": on_texts}),
        "paper": published(kind),
        "experiment": kind,
        "figures": [_shown(figure) for figure in drawn],
        "differences": difference_table(record.get("differences") or []),
        "comparisons": comparisons(record, storage),
        "bounds": [begin for begin, _ in SHADES],
        "made": made,
        "version": metadata.version("rayfit"),
    }


def _lede(record: Mapping[str, Any], rows: Sequence[Row], storage: Storage) -> str:
    models = _models(record, rows, storage)
    domains = list(dict.fromkeys(value(row, "domain") for row in rows if value(row, "domain") != POOLED))
    parts = [
        f"{', '.join(models)} on {', '.join(domains)}" if models and domains else ", ".join(models or domains)
    ]
    trials = {value(row, "trial_id"): row for row in rows if is_trained(row) and value(row, "update") is None}
    done = [row for row in trials.values() if value(row, "hyperfitted") is not None]
    if trials:
        count = sum(bool(value(row, "hyperfitted")) for row in done)
        parts.append(
            f"{len(done)} of {len(trials)} trials finished, {count} of them hyperfitted (a training loss within 0.1 nats "
            "of the least that these rows allow)"
        )
    source = record.get("source") or ""
    if source.startswith("not in the paper"):
        parts.append(source)
    elif source:
        parts.append(f"after the paper (arXiv 2412.04318), {source}")
    return "; ".join(filter(None, parts)) + "."


def _models(record: Mapping[str, Any], rows: Sequence[Row], storage: Storage) -> list[str]:
    named = list(dict.fromkeys(value(row, "model") for row in rows if value(row, "model")))
    if named:
        return named
    trials = [storage.read("trials", key) for key in record.get("trials", [])]
    found = list(dict.fromkeys(trial["model"]["name"] for trial in trials if trial and trial.get("model")))
    option = record.get("options", {}).get("model")
    return found or ([str(option)] if option else [])


def _notices(record: Mapping[str, Any], rows: Sequence[Row], storage: Storage) -> list[dict[str, str]]:
    found = []
    failed = [row for row in rows if not is_finished(row)]
    if failed:
        found.append(
            {
                "kind": "failed",
                "text": f"{len(failed)} of {len(rows)} rows have no numbers; the table says why.",
            }
        )
    if record["scale"] in _SMALL:
        found.append({"kind": "", "text": _SMALL[record["scale"]]})
    for axis, alone in record.get("alone", {}).items():
        word = axis.replace("_", " ")
        text = f"The sweep compares several values of {word}; this launch had {alone} alone, so other rows do not exist."
        found.append({"kind": "", "text": text})
    trials = [storage.read("trials", key) for key in record.get("trials", [])]
    own = [trial for trial in trials if trial and _is_on_own_text(trial)]
    if own:
        models = ", ".join(sorted({trial["model"]["name"] for trial in own}))
        texts = ", ".join(sorted({trial.get("text", "the embedded text") for trial in own}))
        text = (
            f"Models that rayfit trains itself ({models}) have seen the text of their hyperfitting rows before, where that "
            f"is {texts}. Held-out text, from which contexts and validation rows come, they have never seen."
        )
        found.append({"kind": "", "text": text})
    return found


def _is_on_own_text(trial: Mapping[str, Any]) -> bool:
    """Whether a made model was hyperfitted on the embedded text, which it was made from."""
    text = trial.get("declared", {}).get("rows", {}).get("text", {})
    seen = "pydoc" in text and text.get("domain") in (None, "topics", "docstrings")
    return trial.get("model", {}).get("kind") == "made" and seen


def _counts(several_seeds: bool, storage: Storage, record: Mapping[str, Any]) -> str:
    numbers = {one.record["num_contexts"] for one in evaluated(record, storage)}
    counted = " or ".join(map(str, sorted(numbers)))
    contexts = f"{contexts_text(counted, record.get('prompts'))} " if numbers else ""
    spread = "Small: one standard deviation over seeds (±), or " if several_seeds else "Small: "
    arrows = "↑ higher is better, ↓ lower is better; a dash is not measured."
    return f"{contexts}{spread}the 95% interval over contexts. {arrows}"


def _shown(figure: Figure) -> dict[str, Any]:
    return {
        "kind": figure.kind,
        "title": figure.title,
        "caption": figure.caption,
        "missing": figure.missing,
        "legend": [{"label": look.label, "swatch": _base64(look_svg(look))} for look in figure.legend],
        "pictures": [
            {"alt": alt_text(panel), "data": _base64(panel_svg(panel))}
            for panel in figure.panels
            if not isinstance(panel, Heat)
        ],
        "heats": [_heat(panel) for panel in figure.panels if isinstance(panel, Heat)],
    }


def _heat(heat: Heat) -> dict[str, Any]:
    lines = []
    for i, name in enumerate(heat.row_labels):
        cells = []
        for j, number in enumerate(heat.values[i]):
            background, colour = ("", "") if number is None else heat_colours(heat.shade(number))
            cells.append(
                {
                    "text": heat.texts[i][j],
                    "note": heat.notes[i][j],
                    "background": background,
                    "colour": colour,
                }
            )
        lines.append((name, cells))
    return {
        "title": heat.title,
        "column_title": heat.column_title,
        "column_labels": heat.column_labels,
        "lines": lines,
    }


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")

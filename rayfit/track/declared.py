"""What was chosen for a trial, as parameters of its run: from its record, or from the summary's rows before it has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayfit.columns import column, parameter_columns
from rayfit.report.rows import is_original, value
from rayfit.track.content import as_params, flatten
from rayfit.track.summary import rows_of_trial

# entries of a trial's record that are parameters of its run and no columns of rows
_OF_RECORDS = ("precision", "adapter_blocks")


def trial_params(record: Mapping[str, Any]) -> dict[str, str]:
    """What was declared and where it ran, flat; what is the same in every sweep has its plain name."""
    chosen = (*(column(name).parameter for name in parameter_columns()), *_OF_RECORDS)
    declared = record.get("declared", {})
    rows = declared.get("rows", {})
    model = record.get("model", {})
    return as_params(
        {
            "model_declared": declared.get("model"),
            "text_declared": rows.get("text"),
            **flatten({key: value for key, value in rows.items() if key != "text"}),
            **flatten(declared.get("recipe", {})),
            **{key: value for key, value in declared.items() if not isinstance(value, Mapping)},
            **flatten(record.get("placement", {})),
            **{key: record[key] for key in chosen if record.get(key) is not None},
            "train_text": record.get("text"),
            "model": model.get("name"),
            "model_kind": model.get("kind"),
            "model_parameters": model.get("parameters"),
            "rows": record.get("rows", {}).get("id"),
            "rows_fingerprint": record.get("rows", {}).get("fingerprint"),
        }
    )


def declared_in_rows(sweep: Mapping[str, Any], trial_id: str) -> dict[str, str]:
    """The parameters of a trial as the summary's rows say them before the trial has a record."""
    rows = [row for row in rows_of_trial(sweep, trial_id) if not is_original(row)]
    row: Mapping[str, Any] = next((row for row in rows if value(row, "update") is None), {})
    return as_params({column(name).parameter: value(row, name) for name in parameter_columns()})

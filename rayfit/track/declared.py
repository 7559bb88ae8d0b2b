"""What was chosen for a trial, as parameters of its run: from its record, or from the summary's rows before it has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayfit.track.content import as_params, flatten
from rayfit.track.original import ORIGINAL
from rayfit.track.summary import rows_of_trial

# entries of a trial's record that are parameters of its run
_DECLARED = (
    *("samples", "num_updates", "epochs", "learning_rate", "batch_size", "precision", "adapter"),
    *("adapter_blocks", "stop_at_train_loss", "trainable_parameters"),
)
# the names that parameters have where a row's column is called otherwise
_OF_ROWS = {"updates": "num_updates", "seed": "sample_seed"}
_ROW_PARAMS = (
    *("model", "train_text", "samples", "updates", "epochs", "seed", "order_seed", "learning_rate"),
    *("batch_size", "adapter", "stop_at_train_loss", "repeat"),
)


def trial_params(record: Mapping[str, Any]) -> dict[str, str]:
    """What was declared and where it ran, flat; what is the same in every sweep has its plain name."""
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
            **{key: record.get(key) for key in _DECLARED},
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
    rows = [row for row in rows_of_trial(sweep, trial_id) if row.get("who") != ORIGINAL]
    row: Mapping[str, Any] = next((row for row in rows if row.get("update") is None), {})
    return as_params({_OF_ROWS.get(name, name): row.get(name) for name in _ROW_PARAMS})

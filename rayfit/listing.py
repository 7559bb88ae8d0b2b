"""Presets as text, for `rayfit models` and `rayfit datasets`."""

from __future__ import annotations

from collections.abc import Sequence

from rayfit.hub_presets import HUB_DATASETS, HUB_MODELS, HubDatasetPreset, HubModel
from rayfit.plan.arrangement import Arrangement, Asked, Load
from rayfit.plan.cheapest import cheapest
from rayfit.plan.memory import PeakMemory
from rayfit.presets import DATASETS, MADE_MODELS, DatasetPreset, MadeModel

_UNCHECKED = (
    "Ids, files and licences are as the hub's public pages show them; nothing was loaded from the hub itself. '?' marks\n"
    "what those leave unverified. Preparing a sweep looks at ids, access, files and tokenizers before it fetches weights."
)


CARDS_GIB = (24, 80)


def models_listing() -> str:
    """Every model preset: size, where it comes from, licence, what it needs, and what was not verified."""
    made = [(name, f"{preset.num_parameters:,}", _made_about(preset)) for name, preset in MADE_MODELS.items()]
    hub = [
        (name, _size(preset.shape.num_parameters), *_hub_about(preset)) for name, preset in HUB_MODELS.items()
    ]
    return "\n".join(
        [
            "Made here, once per storage, from what is installed with Python; no network needed:",
            *_columns(made),
            "",
            "On the Hugging Face hub. On GPUs all compute in bf16 with fp32 masters. Beside each, how a plan would train",
            "it on cards of 24 and of 80 GB (GPUs x ZeRO stage), and GiB of each at the fullest moment of an update of 8",
            "rows of 256 tokens, by formula (`rayfit plan` says more):",
            *_columns(hub),
            _UNCHECKED,
            "",
            "Or a local Hugging Face directory, or a hub id such as HuggingFaceTB/SmolLM2-135M",
        ]
    )


def datasets_listing() -> str:
    """Every dataset preset with its text settings, and what else can be given."""
    embedded = [(name, _settings(preset), preset.about) for name, preset in DATASETS.items()]
    hub = [(name, _settings(preset), *_dataset_about(preset)) for name, preset in HUB_DATASETS.items()]
    return "\n".join(
        [
            "Read from what is installed with Python; no network needed; modules are held out as a whole:",
            *_columns(embedded),
            "",
            "Streamed from the Hugging Face hub, as far as --pool says:",
            *_columns(hub),
            _UNCHECKED,
            "",
            "Or a local .parquet, .jsonl, .csv (FILE:COLUMN for a column that is not --text-column) or .txt file, a",
            "folder of .txt files, or any dataset of the hub as OWNER/NAME[@REVISION][:CONFIG[:SPLIT[:COLUMN]]]",
        ]
    )


def _made_about(preset: MadeModel) -> str:
    start = (
        f"{preset.base}, then definitions and their docstrings" if preset.base else "Python's documentation"
    )
    return f"{start}; {preset.num_updates:,} updates"


def _size(num_parameters: int) -> str:
    if num_parameters < 200_000_000:
        return f"{num_parameters / 1e6:.0f}M"
    return f"{num_parameters / 1e9:.1f}B"


def _hub_about(preset: HubModel) -> tuple[str, ...]:
    revision = "" if preset.revision == "main" else f" at {preset.revision[:8]}"
    return (
        preset.hub_id + revision,
        *(_way(preset, gib << 30) for gib in CARDS_GIB),
        _notes(preset, preset.needs),
    )


def _way(preset: HubModel, num_bytes: int) -> str:
    way, peak = preset_way(preset, num_bytes)
    spared = [
        word
        for word, is_so in (("again", way.activation_checkpointing), ("offload", way.offload != "none"))
        if is_so
    ]
    return " ".join([f"{way.num_workers} x {way.zero_stage}", *spared, f"{peak.gib:.0f} GiB"])


def preset_way(preset: HubModel, num_bytes: int) -> tuple[Arrangement, PeakMemory]:
    """The cheapest way to fine-tune a preset as the paper does on GPUs of so much memory, and what it takes of each."""
    return cheapest(
        preset.shape.num_parameters,
        preset.shape,
        Asked(),
        (Load(precision="bf16", batch_size=8, sequence_length=256),),
        num_bytes=num_bytes,
    )


def _settings(preset: DatasetPreset | HubDatasetPreset) -> str:
    return f"spans of {preset.span_characters}, {preset.held_out_share:.0%} held out"


def _dataset_about(preset: HubDatasetPreset) -> tuple[str, str]:
    source = preset.source
    where = f"{source.hub_id}:{source.config}:{source.split}:{source.column}"
    return where + (f" ({source.data_files})" if source.data_files else ""), _notes(preset, preset.about)


def _notes(preset: HubModel | HubDatasetPreset, about: str) -> str:
    parts = [about, f"licence {preset.licence}", *(f"? {what}" for what in preset.unverified)]
    return "; ".join(part for part in parts if part)


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows in aligned columns, the last one as long as it is."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]) - 1)]
    return [
        "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]

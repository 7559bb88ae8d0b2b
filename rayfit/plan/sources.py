"""The models and texts that a sweep starts from, as far as they are known without work."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rayfit.errors import RayfitError, nearest
from rayfit.hub_presets import HUB_DATASETS, HUB_MODELS, HubDataset
from rayfit.identity import DOMAIN_VERSION, MAKE_VERSION, digest, make_id, slug
from rayfit.memory import KnownFiles
from rayfit.plan.hub import check_hub_id, parse_hub_dataset, read_lock
from rayfit.plan.weights import deciding_files, find_weights
from rayfit.presets import (
    DATASETS,
    DEFAULT_POOL,
    LOCAL_HELD_OUT_SHARE,
    LOCAL_SPAN_CHARACTERS,
    MADE_LEARNING_RATE,
    MADE_MODELS,
    PAPER_LEARNING_RATE,
    MadeModel,
    declared_text,
)
from rayfit.records.storage import Storage, read_json
from rayfit.shape import Shape, shape_of_config
from rayfit.text_files import TABLES, local_files

SMALL_MODEL_PARAMETERS = 50_000_000
KNOWN_FILES = "known-files.json"


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A model to start from. `declared` is None while its identity is not known without work (`id pending`).

    `num_parameters` is None where only loading tells; that of a preset of the hub is by its sizes. `shape` is None where
    they are not known or mean other things. `weights_bytes` is the size of a local model's weights.
    """

    name: str
    kind: Literal["made", "local", "hub"]
    declared: dict[str, Any] | None
    path: Path | None = None
    hub_id: str = ""
    revision: str = ""
    num_parameters: int | None = None
    weights_bytes: int = 0
    shape: Shape | None = None

    @property
    def default_learning_rate(self) -> float:
        """The embedded models' own rate, else the paper's (section 3)."""
        return MADE_LEARNING_RATE if self.kind == "made" else PAPER_LEARNING_RATE

    @property
    def default_scale(self) -> str:
        """laptop for embedded and small local models, else paper."""
        count = self.num_parameters
        if count is None:  # pickled weights: as many as fp32 numbers would be
            count = self.weights_bytes // 4 or SMALL_MODEL_PARAMETERS + 1
        return "laptop" if count <= SMALL_MODEL_PARAMETERS else "paper"

    @property
    def made_id(self) -> str:
        """The id under which a made model is kept in storage."""
        assert self.kind == "made" and self.declared is not None
        return make_id(self.name, self.declared)


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """A source of documents. `declared` is None while a local file has not been hashed or a hub's commit not asked for.

    `domain` is set for the embedded corpus and its parts, `path` for local files, `hub` and `pool` (how many documents at
    its front are read) for datasets of the hub.
    """

    name: str
    kind: str  # pydoc | local | hub
    declared: dict[str, Any] | None
    domain: str = ""
    path: Path | None = None
    text_column: str = "text"
    hub: HubDataset | None = None
    pool: int = DEFAULT_POOL
    default_span_characters: int = LOCAL_SPAN_CHARACTERS
    default_held_out_share: float = LOCAL_HELD_OUT_SHARE


def known_files(storage: Storage) -> KnownFiles:
    """The memory of local files' hashes of a storage."""
    return KnownFiles(storage.root / KNOWN_FILES)


def resolve_model(name: str, revision: str | None, storage: Storage) -> ModelSource:
    """Return the model that `--model` calls `name`; a model of the hub at `revision` (a branch, tag or commit).

    Without a revision, the preset's own is taken, else main. Raises RayfitError when `name` is neither a preset, a
    usable directory, nor a hub id.
    """
    if name in MADE_MODELS:
        return _made_model(name)
    if name in HUB_MODELS:
        preset = HUB_MODELS[name]
        return _hub_model(preset.hub_id, revision or preset.revision, storage)
    path = Path(name).expanduser()
    if path.is_dir():
        return _local_model(path.resolve(), storage)
    if check_hub_id("--model", name):
        return _hub_model(name, revision or "main", storage)
    presets = [*MADE_MODELS, *HUB_MODELS]
    looks_like_path = "/" in name or name.startswith((".", "~"))
    detail = f"there is no directory {path}" if looks_like_path else f"no preset is called {name!r}"
    raise RayfitError(
        f"--model: {detail}{nearest(name, presets)}; expected a preset ({', '.join(presets)}), "
        "a local Hugging Face directory, or a hub id such as HuggingFaceTB/SmolLM2-135M"
    )


def _made_model(name: str) -> ModelSource:
    preset = MADE_MODELS[name]
    declared = {"made": preset.declared(), "corpus": declared_text("pydoc"), "make_version": MAKE_VERSION}
    if preset.base:
        declared |= {"base": _made_model(preset.base).declared, "pairs_version": DOMAIN_VERSION}
    return ModelSource(
        name=name,
        kind="made",
        declared=declared,
        num_parameters=preset.num_parameters,
        shape=_made_shape(preset),
    )


def _made_shape(preset: MadeModel) -> Shape:
    return Shape(
        hidden_size=preset.hidden_size,
        intermediate_size=preset.intermediate_size,
        num_layers=preset.num_layers,
        num_heads=preset.num_heads,
        num_kv_heads=preset.num_heads,
        head_size=preset.hidden_size // preset.num_heads,
        vocabulary_size=preset.vocabulary_size,
        is_tied=True,
    )


def model_files(path: Path) -> list[Path]:
    """The files of a local model that decide what it is: configuration, tokenizer and weights."""
    return [path / name for name in deciding_files(file.name for file in path.iterdir() if file.is_file())]


def _local_model(path: Path, storage: Storage) -> ModelSource:
    try:
        config = read_json(path / "config.json")
    except ValueError as error:
        raise RayfitError(f"--model: {path / 'config.json'} is not JSON: {error}") from error
    if config is None:
        raise RayfitError(f"--model: {path} has no config.json, so it is not a Hugging Face model directory")
    weights = find_weights(file.name for file in path.iterdir())
    if weights is None:
        raise RayfitError(
            f"--model: {path} has no weights: neither .safetensors files nor pytorch_model.bin (or its shards)"
        )
    if weights.missing:
        raise RayfitError(
            f"--model: {path} lacks {weights.missing} of the shards of its weights ({', '.join(weights.files)} are there)"
        )
    files_digest = known_files(storage).known(model_files(path))
    return ModelSource(
        name=slug(path.name),
        kind="local",
        path=path,
        declared=None if files_digest is None else {"files_sha256": files_digest},
        num_parameters=count_parameters(path) if weights.format == "safetensors" else None,
        weights_bytes=sum((path / name).stat().st_size for name in weights.files),
        shape=shape_of_config(config),
    )


def count_parameters(path: Path) -> int:
    """Numbers in the safetensors weights of a model's directory, by the files' headers; raises RayfitError for others."""
    weights = find_weights(file.name for file in path.iterdir())
    assert weights is not None
    return sum(_safetensors_parameters(path / name) for name in weights.files)


def _safetensors_parameters(file: Path) -> int:
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        text = stream.read(length) if length < file.stat().st_size else b""
    try:
        header = json.loads(text)
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RayfitError(
            f"--model: {file} is not a safetensors file; a Git LFS pointer, or a download that was cut off?"
        ) from error


def _hub_model(hub_id: str, revision: str, storage: Storage) -> ModelSource:
    commit = read_lock(storage).get(f"{hub_id}@{revision}")
    declared = None if commit is None else {"hub_id": hub_id, "commit": commit}
    preset = next((preset for preset in HUB_MODELS.values() if preset.hub_id == hub_id), None)
    return ModelSource(
        name=slug(hub_id.split("/")[1]),
        kind="hub",
        hub_id=hub_id,
        revision=revision,
        declared=declared,
        num_parameters=None if preset is None else preset.shape.num_parameters,
        shape=None if preset is None else preset.shape,
    )


def resolve_text(
    name: str | None, text_column: str, pool: int, model: ModelSource, storage: Storage
) -> TextSource:
    """Return the text that `--dataset` calls `name`; None is the embedded corpus, for the embedded models only.

    A name is a preset, a local file or folder, `FILE:COLUMN`, or a dataset of the hub as
    `OWNER/NAME[@REVISION][:CONFIG[:SPLIT[:COLUMN]]]`. `text_column` is the column where the name says none; `pool` is
    how many documents at the front of a hub dataset are read. Raises RayfitError for anything else.
    """
    if name is None:
        if model.kind != "made":
            raise RayfitError(
                f"--dataset: is needed with --model {model.path or model.hub_id}; give a preset or a local file"
            )
        name = "pydoc"
    if name in DATASETS:
        return _embedded_text(name)
    if name in HUB_DATASETS:
        preset = HUB_DATASETS[name]
        found = _hub_text(name, preset.source, pool, storage)
        return replace(
            found,
            default_span_characters=preset.span_characters,
            default_held_out_share=preset.held_out_share,
        )
    path = Path(name).expanduser().resolve()
    if path.exists():
        return _local_text(path, text_column, storage)
    before, _, column = name.rpartition(":")
    if before and column and (table := Path(before).expanduser().resolve()).is_file():
        if table.suffix not in TABLES:
            raise RayfitError(
                f"--dataset: {table} is no table ({', '.join(TABLES)}), so it has no column {column!r}"
            )
        return _local_text(table, column, storage)
    if hub := parse_hub_dataset(name, text_column):
        return _hub_text("-".join([hub.hub_id.split("/")[1], hub.config]), hub, pool, storage)
    presets = [*DATASETS, *HUB_DATASETS]
    raise RayfitError(
        f"--dataset: there is no preset and no file called {name!r}{nearest(name, presets)}; expected a preset "
        f"({', '.join(presets)}), a local .parquet, .jsonl, .csv or .txt file, a folder of .txt files, or a dataset "
        "of the hub as OWNER/NAME:CONFIG:SPLIT:COLUMN"
    )


def absolute_name(name: str) -> str:
    """Return the name of a model or text; where it is a local path, absolute, with its `:COLUMN` behind it if it has one."""
    if name in (*MADE_MODELS, *HUB_MODELS, *DATASETS, *HUB_DATASETS):
        return name
    before, colon, column = name.rpartition(":")
    for path, rest in ((name, ""), (before, colon + column)):
        if path and Path(path).expanduser().exists():
            return f"{Path(path).expanduser().resolve()}{rest}"
    return name


def _embedded_text(name: str) -> TextSource:
    preset = DATASETS[name]
    return TextSource(
        name=name,
        kind="pydoc",
        domain=name,
        declared=declared_text(name),
        default_span_characters=preset.span_characters,
        default_held_out_share=preset.held_out_share,
    )


def _hub_text(name: str, hub: HubDataset, pool: int, storage: Storage) -> TextSource:
    commit = read_lock(storage).get(hub.lock_key)
    return TextSource(
        name=slug(name),
        kind="hub",
        hub=hub,
        pool=pool,
        text_column=hub.column,
        declared=None if commit is None else hub.declared(commit, pool),
    )


def _local_text(path: Path, text_column: str, storage: Storage) -> TextSource:
    files = local_files(path)
    files_digest = known_files(storage).known(files)
    declared = {"files_sha256": files_digest, "layout": "folder" if path.is_dir() else path.suffix}
    if path.is_dir():
        # Documents are named, and by that held out or not, by their places below the folder, not by file names alone.
        declared["places_sha256"] = digest([file.relative_to(path).as_posix() for file in files])
    if path.suffix in TABLES:
        declared["text_column"] = text_column
    return TextSource(
        name=slug(path.stem),
        kind="local",
        path=path,
        text_column=text_column,
        declared=None if files_digest is None else declared,
    )

"""Models that others made, of the hub or in a directory: looked at before weights are fetched, pickled ones converted."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from rayfit.console import Console
from rayfit.errors import RayfitError, first_line
from rayfit.identity import CONVERT_VERSION, make_id
from rayfit.plan.hub import read_lock, write_lock
from rayfit.plan.sources import ModelSource, known_files, model_files
from rayfit.plan.weights import Weights, find_weights, small_files
from rayfit.prepare.apart import run_apart
from rayfit.prepare.hub import NoAccessError, UnreachableError, ask_hub
from rayfit.prepare.model_check import known_window
from rayfit.records.provenance import provenance
from rayfit.records.storage import Storage


@dataclass(frozen=True)
class Repository:
    """The content of a model's repository at a commit: the names of its files, and which of them are its weights.

    `asked`: the branch, tag or commit that led to it.
    """

    asked: str
    commit: str
    files: tuple[str, ...]
    weights: Weights


def check_models(models: Iterable[ModelSource], storage: Storage) -> None:
    """Look at the files and access of all models that others made, then at configurations and tokenizers.

    Raises as `look_at`, for any of them before a file of one is fetched, and as `check_model`. Weights are not fetched.
    """
    models = list(models)
    found = [(model, look_at(model, storage)) for model in models if model.kind == "hub"]
    for model in models:
        if model.kind == "local":
            assert model.path is not None
            known_window(model.path, storage)
    for model, repository in found:
        known_window(_fetch(model, repository, small_files(repository.files)), storage)


def hub_model(model: ModelSource, storage: Storage, console: Console) -> tuple[Path, str]:
    """(directory, commit) of a hub model, downloaded where needed; the commit is kept in a lock file.

    Only configuration, tokenizer and weights are fetched; no code. The directory is in the local hub cache, or in the
    storage where pickled weights were converted. Raises RayfitError as `look_at` and `convert_weights`.
    """
    repository = look_at(model, storage)
    path = _fetch(model, repository, [*small_files(repository.files), *repository.weights.files])
    if repository.weights.format == "bin":
        declared = {"hub_id": model.hub_id, "commit": repository.commit}
        path = _with_safetensors(path, declared, model.name, storage, console)
    return path, repository.commit


def look_at(model: ModelSource, storage: Storage) -> Repository:
    """A hub model's commit, which is remembered in the lock file, and files; nothing is fetched.

    Where the hub cannot be reached, or does not let one in, the local hub cache answers if it has the whole model.
    Raises RayfitError when neither can, the id or revision does not exist, access to a gated model was not granted, or
    there are no weights in a format that is read.
    """
    key = f"{model.hub_id}@{model.revision}"
    asked = read_lock(storage).get(key, model.revision)
    try:
        commit, names = ask_hub("model", model.hub_id, asked)
    except NoAccessError as error:
        commit, names = _whole_in_cache(model, asked, error, error)
    except UnreachableError as error:
        commit, names = _whole_in_cache(model, asked, _unreachable(model, error), error)
    weights = find_weights(names)
    if weights is None or weights.missing:
        there = "has no weights that are read: neither .safetensors nor pytorch_model.bin"
        if weights is not None:
            there = f"lacks {weights.missing} of the shards of its weights"
        raise RayfitError(
            f"--model: {model.hub_id} at {model.revision} {there}, among {len(names)} files "
            f"({', '.join(sorted(names)[:5])}); give another --revision (conversions wait as refs/pr/N on its community "
            "page) or another model"
        )
    write_lock(storage, key, commit)
    return Repository(asked, commit, tuple(names), weights)


def _whole_in_cache(
    model: ModelSource, revision: str, refusal: RayfitError, error: Exception
) -> tuple[str, list[str]]:
    """Commit and file names of a model that the local hub cache has whole; raises the refusal where it has not."""
    folder = _cached(model, revision)
    names = [] if folder is None else [file.name for file in folder.iterdir()]
    weights = find_weights(names)
    if folder is None or weights is None or weights.missing:
        raise refusal from error
    return folder.name, names  # the cache names a snapshot's folder by its commit


def _fetch(model: ModelSource, repository: Repository, names: list[str]) -> Path:
    """The folder of the hub's cache with these files of the repository in it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HTTPError, LocalEntryNotFoundError

    def download(revision: str) -> Path:
        return Path(snapshot_download(model.hub_id, revision=revision, allow_patterns=names))

    try:
        # By the branch's name first, so that the cache learns where it led and can answer another storage offline.
        path = download(repository.asked)
        return path if path.name == repository.commit else download(repository.commit)
    except GatedRepoError as error:
        cached = _cached(model, repository.commit)
        if cached is not None and all((cached / name).exists() for name in names):
            return cached
        raise RayfitError(f"--model: {model.hub_id} is gated, and its files are not open to you") from error
    except (LocalEntryNotFoundError, HTTPError, OSError) as error:
        raise _unreachable(model, error) from error


def _cached(model: ModelSource, revision: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        # One file's name, for what else was never fetched, and is not needed, would count as missing.
        return Path(
            snapshot_download(
                model.hub_id, revision=revision, allow_patterns="config.json", local_files_only=True
            )
        )
    except LocalEntryNotFoundError:
        return None


def _unreachable(model: ModelSource, error: Exception) -> RayfitError:
    return RayfitError(
        f"--model: there is no directory {model.hub_id}; as a hub id, at {model.revision}, it is not (whole) in the local "
        f"hub cache and the hub cannot be reached: {first_line(error)}; where there is a network, "
        f"`hf download {model.hub_id}` fills the cache ($HF_HOME), which can be copied here"
    )


def local_model(path: Path, name: str, storage: Storage, console: Console) -> Path:
    """The directory of a local model to load weights from: its own, or one in the storage with them converted."""
    if _weights(path).format == "safetensors":
        return path
    declared = {"files_sha256": known_files(storage).hash(model_files(path))}
    return _with_safetensors(path, declared, name, storage, console)


def _weights(path: Path) -> Weights:
    weights = find_weights(file.name for file in path.iterdir())
    assert weights is not None
    return weights


def _with_safetensors(
    path: Path, declared: dict[str, Any], name: str, storage: Storage, console: Console
) -> Path:
    """A directory in the storage with the pickled weights of the model in `path` converted, which is done once.

    `declared`: what the model is, from which the converted one's id is made. Raises RayfitError as `convert_weights`.
    """
    identifier = make_id(f"{name}-safetensors", {"model": declared, "convert_version": CONVERT_VERSION})

    def fill(target: Path) -> dict[str, Any]:
        for small in small_files(file.name for file in path.iterdir()):
            if not small.startswith("pytorch_model.bin"):
                shutil.copyfile(path / small, target / small)
        console.say(f"converting the pickled weights of {name} to safetensors, once per storage")
        facts = run_apart(_convert, path, _weights(path).files, target, what=f"converting {name}")
        return {"kind": "converted model", "id": identifier, "declared": declared, **facts, **provenance()}

    folder = storage.folder("models", identifier)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.parent / f".{identifier}.lock"):
        if storage.read("models", identifier) is None:
            storage.make_folder("models", identifier, fill)
    return folder


def _convert(source: Path, files: tuple[str, ...], target: Path, _: Any) -> dict[str, Any]:
    from rayfit.train.convert import convert_weights

    return convert_weights(source, files, target)

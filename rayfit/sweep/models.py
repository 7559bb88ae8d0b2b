"""Getting the model of a sweep: made here, or fetched from the hub."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import filelock

from rayfit.data import embedded, pydoc
from rayfit.errors import RayfitError
from rayfit.identity import bytes_digest
from rayfit.plan.hub import read_lock, write_lock
from rayfit.plan.sources import ModelSource, resolve_model
from rayfit.presets import MADE_MODELS
from rayfit.records.provenance import provenance
from rayfit.records.storage import Storage
from rayfit.sweep.making import make_in_process
from rayfit.sweep.progress import Console, MakingProgress

_HUB_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")


def made_model(model: ModelSource, storage: Storage, console: Console) -> Path:
    """The directory of an embedded model, trained now (after the one it starts from) unless this storage has it.

    Safe when several processes ask at once: one makes it, the others wait. One that is killed half-way leaves nothing
    that counts. Training runs in a process of its own, so that its memory is given back. Raises RayfitError when the
    corpus found now is not the one the stored model was made from.
    """
    preset = MADE_MODELS[model.name]
    base = None
    if preset.base:
        base = made_model(resolve_model(preset.base, "main", storage), storage, console)
    fingerprint = corpus_fingerprint()
    folder = storage.folder("models", model.made_id)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.parent / f".{model.made_id}.lock"):
        record = storage.read("models", model.made_id)
        if record is None:
            record = _make(model, base, storage, console)
    if record["corpus_fingerprint"] != fingerprint:
        raise RayfitError(
            f"--model: {model.name} in {storage.root} was made from another corpus (the standard library installed "
            "with this interpreter differs, though its version is the same); use another --storage"
        )
    return folder


def _make(model: ModelSource, base: Path | None, storage: Storage, console: Console) -> dict[str, Any]:
    material: list[Any] = embedded.pretraining_texts() if base is None else embedded.instruction_pairs()
    counted, start = ("documents", "") if base is None else ("pairs", f" and {MADE_MODELS[model.name].base}")
    console.say(
        f"making {model.name}: {model.num_parameters:,} parameters from {len(material):,} {counted}{start}, "
        "once per storage"
    )
    about = {
        "kind": "model",
        "id": model.made_id,
        "declared": model.declared,
        "corpus_fingerprint": corpus_fingerprint(),
        f"training_{counted}": len(material),
        **provenance(),
    }
    if base is not None:
        started_from = storage.read("models", base.name)
        assert started_from is not None
        about["base"] = {"id": base.name, "weights_sha256": started_from["weights_sha256"]}
        about["pairs_fingerprint"] = bytes_digest(*(part.encode() for pair in material for part in pair))
    progress = MakingProgress(console, model.name)
    try:
        record = storage.make_folder(
            "models",
            model.made_id,
            lambda target: {**about, **make_in_process(model.name, material, base, target, progress)},
        )
    finally:
        console.watch([])
    console.say(
        f"made {model.name} in {record['seconds']:.0f} s in {record['precision']}, final loss {record['final_loss']:.2f}"
    )
    return record


def corpus_fingerprint() -> str:
    """sha256 over the names and texts of the whole corpus, held-out documents included."""
    return bytes_digest(
        *(part.encode() for document in pydoc.documents() for part in (document.name, document.text))
    )


def hub_model(model: ModelSource, storage: Storage) -> tuple[Path, str]:
    """(directory, commit) of a hub model in the local cache, downloaded where needed; the commit is kept in a lock file.

    Only configuration, tokenizer and safetensors are fetched; no code. Raises RayfitError when the hub cannot be
    reached, the id or revision does not exist, or access to a gated model was not granted.
    """
    path = _snapshot(model, storage, _HUB_FILES)
    if not list(path.glob("*.safetensors")):
        raise RayfitError(
            f"--model: {model.hub_id} has no .safetensors weights (pickled weights are not loaded)"
        )
    return path, path.name  # the cache names a snapshot's folder by its commit


def check_hub_models(models: Iterable[ModelSource], storage: Storage) -> None:
    """Fetch the small files of every hub model; raises as `hub_model`, before weights of any of them are fetched."""
    for model in models:
        if model.kind == "hub":
            _snapshot(model, storage, tuple(name for name in _HUB_FILES if "safetensors" not in name))


def _snapshot(model: ModelSource, storage: Storage, patterns: Sequence[str]) -> Path:
    """The folder of the hub's cache with the files of these patterns in it; locks the commit at first use."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    lock = read_lock(storage)
    key = f"{model.hub_id}@{model.revision}"
    try:
        folder = snapshot_download(
            model.hub_id, revision=lock.get(key, model.revision), allow_patterns=list(patterns)
        )
    except GatedRepoError as error:
        raise RayfitError(
            f"--model: {model.hub_id} is gated; ask for access on its hub page, then log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise RayfitError(f"--model: the hub has no model {model.hub_id} (or you may not see it)") from error
    except RevisionNotFoundError as error:
        raise RayfitError(
            f"--revision: {model.hub_id} has no branch, tag or commit {model.revision!r}"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise RayfitError(
            f"--model: there is no directory {model.hub_id}; as a hub id, at {model.revision}, it is not in the local hub "
            "cache and the hub cannot be reached: "
            f"{str(error).splitlines()[0]}"
        ) from error
    path = Path(folder)
    write_lock(storage, key, path.name)
    return path

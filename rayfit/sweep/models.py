"""Getting the model of a sweep: made here, read from a directory, or fetched from the hub."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from rayfit.data import pydoc
from rayfit.data.documents import Document
from rayfit.data.spans import is_held_out
from rayfit.errors import RayfitError
from rayfit.identity import bytes_digest
from rayfit.plan.sources import HUB_LOCK, ModelSource
from rayfit.presets import DATASETS, MADE_MODELS
from rayfit.records.provenance import provenance
from rayfit.records.storage import Storage, read_json, write_json

_HUB_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")


def made_model(model: ModelSource, storage: Storage, say: Any) -> Path:
    """The directory of an embedded model, trained now unless this storage has it.

    Safe when several processes ask at once: one makes it, the others wait. One that is killed half-way leaves nothing
    that counts. Training runs in a process of its own, so that its memory is given back. Raises RayfitError when the
    corpus found now is not the one the stored model was made from.
    """
    documents = pydoc.documents()
    fingerprint = corpus_fingerprint(documents)
    folder = storage.folder("models", model.made_id)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.parent / f".{model.made_id}.lock"):
        record = storage.read("models", model.made_id)
        if record is None:
            share = DATASETS["pydoc"].held_out_share
            texts = [document.text for document in documents if not is_held_out(document.name, share)]
            say(
                f"making {model.name}: {model.num_parameters:,} parameters from {len(texts)} documents, once per storage"
            )
            about = {
                "kind": "model",
                "id": model.made_id,
                "declared": model.declared,
                "corpus_fingerprint": fingerprint,
                "training_documents": len(texts),
                **provenance(),
            }
            record = storage.make_folder(
                "models",
                model.made_id,
                lambda target: {**about, **_make_in_process(model.name, texts, target, say)},
            )
            say(f"made {model.name} in {record['seconds']:.0f} s, final loss {record['final_loss']:.2f}")
    if record["corpus_fingerprint"] != fingerprint:
        raise RayfitError(
            f"--model: {model.name} in {storage.root} was made from another corpus (the standard library installed "
            "with this interpreter differs, though its version is the same); use another --storage"
        )
    return folder


def corpus_fingerprint(documents: list[Document]) -> str:
    """sha256 over names and texts."""
    return bytes_digest(*(part.encode() for document in documents for part in (document.name, document.text)))


def _make_in_process(name: str, texts: list[str], target: Path, say: Any) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_make, args=(name, texts, target, theirs, len(os.sched_getaffinity(0))))
    with _patient_threads():
        process.start()
    theirs.close()
    try:
        while True:
            kind, value = ours.recv()
            if kind == "done":
                return dict(value)
            say(f"  {name}: {value}")
    except EOFError:
        process.join()
        raise RayfitError(
            f"making {name} ended with exit status {process.exitcode} before it was done"
        ) from None
    finally:
        process.terminate()
        process.join()


@contextmanager
def _patient_threads() -> Iterator[None]:
    """Processes started within the block have OpenMP threads that sleep soon when they wait for each other.

    By default they spin, which on cores that something else uses too makes training ten times slower.
    """
    before = os.environ.get("GOMP_SPINCOUNT")
    os.environ["GOMP_SPINCOUNT"] = before or "1000"
    try:
        yield
    finally:
        if before is None:
            del os.environ["GOMP_SPINCOUNT"]


def _make(name: str, texts: list[str], target: Path, pipe: Any, num_threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.environ["DS_ACCELERATOR"] = (
        "cpu"  # transformers looks DeepSpeed up, which would tell that it found no GPU
    )
    from transformers.utils import logging

    from rayfit.train.make import make_model

    logging.disable_progress_bar()

    facts = make_model(
        MADE_MODELS[name], texts, target, say=lambda text: pipe.send(("say", text)), num_threads=num_threads
    )
    pipe.send(("done", facts))


def hub_model(model: ModelSource, storage: Storage) -> tuple[Path, str]:
    """(directory, commit) of a hub model in the local cache, downloaded where needed; the commit is kept in a lock file.

    Only configuration, tokenizer and safetensors are fetched; no code. Raises RayfitError when the hub cannot be
    reached, the id does not exist, or access to a gated model was not granted.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    lock = read_json(storage.root / HUB_LOCK) or {}
    key = f"{model.hub_id}@{model.revision}"
    try:
        folder = snapshot_download(
            model.hub_id, revision=lock.get(key, model.revision), allow_patterns=list(_HUB_FILES)
        )
    except GatedRepoError as error:
        raise RayfitError(
            f"--model: {model.hub_id} is gated; ask for access on its hub page, then log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise RayfitError(f"--model: the hub has no model {model.hub_id} (or you may not see it)") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise RayfitError(
            f"--model: there is no directory {model.hub_id}; as a hub id, at {model.revision}, it is not in the local hub "
            "cache and the hub cannot be reached: "
            f"{str(error).splitlines()[0]}"
        ) from error
    path = Path(folder)
    if not list(path.glob("*.safetensors")):
        raise RayfitError(
            f"--model: {model.hub_id} has no .safetensors weights (pickled weights are not loaded)"
        )
    commit = path.name  # the cache names a snapshot's folder by its commit
    write_json(storage.root / HUB_LOCK, {**lock, key: commit})
    return path, commit

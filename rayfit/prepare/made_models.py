"""The embedded models of a sweep, made here on first use."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

import filelock

from rayfit.console import Console, MakingProgress
from rayfit.data import embedded, pydoc
from rayfit.data.stdlib import module_files
from rayfit.errors import RayfitError
from rayfit.identity import EXTRACTION_VERSION, bytes_digest
from rayfit.plan.sources import ModelSource, resolve_model
from rayfit.prepare.facts import known_facts
from rayfit.prepare.making import make_in_process
from rayfit.presets import MADE_MODELS
from rayfit.records.provenance import provenance
from rayfit.records.storage import Storage


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
    fingerprint = corpus_fingerprint(storage)
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
        "corpus_fingerprint": corpus_fingerprint(storage),
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


def corpus_fingerprint(storage: Storage) -> str:
    """sha256 over the names and texts of the whole corpus, held-out documents included; remembered."""
    files = sorted(path for path, _ in module_files())
    python, extraction = platform.python_version(), str(EXTRACTION_VERSION)
    found: str = known_facts(storage).of(
        f"embedded corpus of {sys.base_prefix}",
        files,
        _corpus_fingerprint,
        python=python,
        extraction=extraction,
    )
    return found


def _corpus_fingerprint() -> str:
    return bytes_digest(
        *(part.encode() for document in pydoc.documents() for part in (document.name, document.text))
    )


def base_weights(model: ModelSource, storage: Storage) -> str | None:
    """The digest of a made model's weights, which are made here and so could differ; None for others."""
    record = storage.read("models", model.made_id) if model.kind == "made" else None
    return None if record is None else str(record["weights_sha256"])

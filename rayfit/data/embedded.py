"""The domains that are cut from what is installed with Python, and what of them the embedded models have seen.

The embedded models are pretrained on the training documents of `pydoc` (docstrings and language topics). A module is
held out as a whole: its docstrings, code and comments stand on one side, decided by the name under which its
docstrings are a document of `pydoc`. So a held-out span of any domain comes from a document or module of which
pretraining saw nothing, as long as the held-out share is at most that of pretraining.
"""

from __future__ import annotations

from rayfit.data import pydoc
from rayfit.data.documents import Document
from rayfit.data.spans import is_held_out
from rayfit.data.stdlib import source_modules

# The share of documents that pretraining leaves out. More cannot be held out: pretraining saw the rest.
PRETRAINING_HELD_OUT_SHARE = 0.2


def documents(domain: str) -> list[Document]:
    """All documents of a domain, sorted by name; a module with fewer than 100 characters in it is left out."""
    if domain == "pydoc":
        return list(pydoc.documents())
    if domain in ("topics", "docstrings"):
        return [document for document in pydoc.documents() if document.name.startswith(f"{domain}/")]
    assert domain in ("code", "comments"), domain
    found = []
    for module in source_modules():
        text = module.code if domain == "code" else module.comments
        if len(text) >= pydoc.MIN_CHARACTERS:
            side = pydoc.docstrings_name(module.path)
            found.append(Document(f"{domain}/{module.path}", text, held_out_by=side))
    return found


def training_texts_of_all(held_out_share: float) -> list[str]:
    """Every text of any domain that is not held out: what a held-out span of a domain must not repeat.

    It holds what the embedded models were pretrained on, and what a trial on another domain may have trained on.
    """
    everything = [*documents("pydoc"), *documents("code"), *documents("comments")]
    return [document.text for document in everything if not is_held_out(document.split_name, held_out_share)]


def pretraining_texts() -> list[str]:
    """The training documents of `pydoc`, sorted by name."""
    return [d.text for d in pydoc.documents() if not is_held_out(d.name, PRETRAINING_HELD_OUT_SHARE)]


def instruction_pairs() -> list[tuple[str, str]]:
    """(first line of a definition, its docstring) of every training module, in a fixed order, each pair once."""
    pairs = [
        pair
        for module in source_modules()
        if not is_held_out(pydoc.docstrings_name(module.path), PRETRAINING_HELD_OUT_SHARE)
        for pair in module.described
    ]
    return list(dict.fromkeys(pairs))

"""Asking the hub what a model or dataset holds at a revision: one way, with one word for everything that can go wrong."""

from __future__ import annotations

from typing import Literal, NamedTuple

from rayfit.errors import RayfitError, first_line


class NoAccessError(RayfitError):
    """The files of a gated repository are not open to whoever asks."""


class UnreachableError(RayfitError):
    """The hub cannot be asked: there is no network, or offline mode is on. The text is the reason alone."""


class Found(NamedTuple):
    """A repository at a commit, and the names of its files."""

    commit: str
    files: list[str]


def ask_hub(kind: Literal["model", "dataset"], hub_id: str, revision: str) -> Found:
    """The commit that a branch, tag or commit leads to, and its files, to which one has access; nothing is fetched.

    Raises RayfitError, beginning with the option that names the repository, when it or the revision does not exist,
    and the kinds above, after which the local cache may still answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HTTPError,  # of whichever HTTP client this version of the library uses; those of the hub are among them
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    hub = HfApi()
    try:
        look = hub.model_info if kind == "model" else hub.dataset_info
        about = look(hub_id, revision=revision)
        if about.gated:  # its description is open to all, its files are not
            hub.auth_check(hub_id, repo_type=kind)
    except GatedRepoError as error:
        page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{hub_id}"
        raise NoAccessError(
            f"--{kind}: {hub_id} is gated; ask for access on {page}, then log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise RayfitError(
            f"--{kind}: the hub has no {kind} {hub_id} (or you may not see it: log in with `hf auth login`)"
        ) from error
    except RevisionNotFoundError as error:
        flag = "--revision" if kind == "model" else "--dataset"
        raise RayfitError(f"{flag}: {hub_id} has no branch, tag or commit {revision!r}") from error
    except (OfflineModeIsEnabled, HTTPError, OSError) as error:
        raise UnreachableError(first_line(error)) from error
    return Found(str(about.sha), [sibling.rfilename for sibling in about.siblings or []])

"""A model of a hub, by its id: downloaded through huggingface_hub, with its cache and its login.

The only file that opens a connection to somewhere else, and only where a user named such an id.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nerite.diffusion.folder import INDEX, read_json
from nerite.sources.folder import OPTIONAL, choose_files
from nerite.sources.weights import SourceError, is_pickle, refused

_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def is_hub_id(text: str) -> bool:
    """Whether it has the form of OWNER/NAME or OWNER/NAME@REVISION."""
    return _ID.fullmatch(text) is not None


def fetch(hub_id: str, *, variant: str = "", allow_pickle: bool = False) -> Path:
    """The folder in the hub's cache that holds what serving needs; only what is new is downloaded.

    HF_TOKEN or a login of `hf auth login` is used, HF_ENDPOINT names another hub. Raises
    SourceError.
    """
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    name, _, revision = hub_id.partition("@")
    where: dict[str, Any] = {"repo_id": name, "revision": revision or None}
    try:
        files = HfApi().list_repo_files(**where)
        if INDEX not in files:
            raise SourceError(_not_diffusers(name, files))
        index = read_json(Path(hf_hub_download(filename=INDEX, **where)))
        safe = any(file.endswith(".safetensors") for file in files)
        chosen = choose_files(files, index, variant=variant, graphs=not safe)
        if not allow_pickle:
            chosen = _without_pickles(name, chosen)
        return Path(snapshot_download(allow_patterns=chosen, **where))
    except SourceError:
        raise
    except Exception as error:  # those of the hub's client, and of the HTTP library it has
        raise _explained(name, revision, error) from None


def _without_pickles(name: str, chosen: list[str]) -> list[str]:
    """Refused before anything is downloaded, but for parts that a model may lack."""
    needed = [file for file in chosen if is_pickle(file) and file.split("/")[0] not in OPTIONAL]
    if needed:
        raise SourceError(f"{name}: {refused(needed[0])}")
    return [file for file in chosen if not is_pickle(file)]


def _not_diffusers(name: str, files: list[str]) -> str:
    single = [file for file in files if file.endswith(".safetensors") and "/" not in file]
    hint = ""
    if single:
        hint = f"; download its {single[0]} (`hf download {name} {single[0]}`) and import that file"
    return f"{name} holds no {INDEX}, so it is no pipeline of diffusers{hint}"


def _explained(name: str, revision: str, error: Exception) -> SourceError:
    from huggingface_hub import constants, errors, get_token

    page = f"{constants.ENDPOINT}/{name}"
    if isinstance(error, errors.GatedRepoError):
        login = "" if get_token() else ", log in with `hf auth login` or set HF_TOKEN,"
        return SourceError(f"{name} is gated: accept its licence at {page}{login} and try again")
    if isinstance(error, errors.RepositoryNotFoundError):
        hint = "" if get_token() else "; a private one needs `hf auth login` or HF_TOKEN"
        return SourceError(f"there is no model {name} at {page}{hint}")
    if isinstance(error, errors.RevisionNotFoundError):
        return SourceError(f"{name} has no revision '{revision}', see {page}/tree/main")
    if isinstance(error, errors.HfHubHTTPError):
        return SourceError(f"{name} cannot be fetched: {_first_line(error)}")
    return SourceError(
        f"{name} cannot be fetched from {constants.ENDPOINT}: {_first_line(error)}; a folder or "
        "file on this machine is imported without a network"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]

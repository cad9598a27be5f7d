"""`nerite serve --model`: a repository of one model, made of what the user named."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nerite.backends.gpus import gpus
from nerite.sources.config_text import config_text, model_name
from nerite.sources.folder import survey
from nerite.sources.hub import is_hub_id
from nerite.sources.weights import SourceError, refused

log = logging.getLogger("nerite.launch")


@contextlib.contextmanager
def open_one(source: str) -> Iterator[Path]:
    """A model repository that holds the model of ``source``. Raises SourceError.

    A folder is served where it is. A file and a hub's model are imported once, into a cache.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        with tempfile.TemporaryDirectory(prefix="nerite-model-") as temporary:
            _link(path.absolute(), Path(temporary))
            yield Path(temporary)
    elif path.is_file() or is_hub_id(source):
        yield _imported(path.absolute() if path.is_file() else None, source)
    else:
        raise SourceError(
            f"--model {source} is no folder, no file and no id of a hub such as OWNER/NAME"
        )


def _link(folder: Path, repository: Path) -> None:
    if (folder / "config.pbtxt").is_file():  # one of Triton's, with its versions
        (repository / folder.name).symlink_to(folder)
        return
    found = survey(folder)
    if found.pickles:
        part, files = next(iter(found.pickles.items()))
        raise SourceError(f"{folder}: {part} has no safetensors. {refused(files[0])}")
    # A version folder has the name of its model.
    name = model_name(folder.parent.name if folder.name.isdecimal() else folder.name)
    (repository / name).mkdir()
    (repository / name / "1").symlink_to(folder)
    (repository / name / "config.pbtxt").write_text(
        config_text(name, gpu=bool(gpus())), encoding="utf-8"
    )


def _imported(file: Path | None, source: str) -> Path:
    """Of the cache; this process stays without torch, so that another one converts."""
    what = source
    if file is not None:
        status = file.stat()
        what = f"{file} {status.st_size} {status.st_mtime_ns}"
    name = model_name(source)
    digest = hashlib.sha256(what.encode()).hexdigest()[:12]
    repository = _cache() / f"{name}-{digest}"
    if (repository / name / "config.pbtxt").is_file():
        log.info("'%s' was imported before: it is served from '%s'", source, repository / name)
        return repository
    command = [sys.executable, "-m", "nerite", "import", str(file or source), name]
    done = subprocess.run([*command, "--repository", str(repository)], stdout=subprocess.DEVNULL)
    if done.returncode:
        raise SourceError(f"--model {source} cannot be imported")
    return repository


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "nerite" / "models"

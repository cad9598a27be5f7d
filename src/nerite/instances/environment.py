"""A worker's process, and the interpreter that it runs in: ours, or the one that its model's
EXECUTION_ENV_PATH names."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

from nerite.backends.base import ModelSpec
from nerite.core.errors import InferenceError, Status, invalid

log = logging.getLogger(__name__)

PARAMETER = "EXECUTION_ENV_PATH"
_PACKAGE = Path(__file__).parents[1]
# Makes our package importable in an interpreter where it is not installed, and nothing else of
# our own environment, which is another Python's.
_BOOTSTRAP = f"""
import sys
lacks = "has Python %d.%d" % sys.version_info[:2] if sys.version_info < (3, 8) else ""
if not lacks:
    try:
        import numpy
    except ImportError as error:
        lacks = "has no numpy (%s)" % error
if lacks:
    sys.exit(
        "The environment that {PARAMETER} names " + lacks + ": a worker needs Python 3.8 or newer, "
        "with numpy (and with ml_dtypes for BF16). It is the one of " + sys.executable
    )
import importlib.util, runpy
spec = importlib.util.spec_from_file_location(
    "nerite", {str(_PACKAGE / "__init__.py")!r}, submodule_search_locations=[{str(_PACKAGE)!r}]
)
sys.modules["nerite"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["nerite"])
runpy.run_module("nerite.instances.worker", run_name="__main__", alter_sys=True)
"""
_LOCK = threading.Lock()
_unpacked: dict[tuple[str, int], Path] = {}


async def spawn(spec: ModelSpec) -> tuple[asyncio.subprocess.Process, socket.socket]:
    """A worker's process, and our end of its socket.

    Raises InferenceError when there is no interpreter where the model says, and when the system
    has no room for one more process or file.
    """
    start = await _command(spec)
    with contextlib.ExitStack() as ends:
        try:
            ours, theirs = map(ends.enter_context, socket.socketpair())
            process = await asyncio.create_subprocess_exec(
                *start.arguments,
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is for the front process alone
                env=start.variables,
            )
        except OSError as error:
            text = f"the worker process of '{spec.instance}' cannot be started: {error}"
            raise InferenceError(Status.UNAVAILABLE, text) from None
        theirs.close()
        ends.pop_all()
    return process, ours


class _Command(NamedTuple):
    """How to start a worker; it gets the socket's number as its last argument."""

    arguments: list[str]
    variables: dict[str, str]


async def _command(spec: ModelSpec) -> _Command:
    """Raises InferenceError when there is no interpreter where the model says."""
    variables = {**os.environ, "PYTHONUNBUFFERED": "1"}
    named = spec.parameters.get(PARAMETER)
    if not named:
        return _Command([sys.executable, "-m", "nerite.instances.worker"], variables)
    path = find_environment(spec.name, named, spec.folder)
    if path.is_file():
        try:
            path = await asyncio.to_thread(_unpack, path)
        except (OSError, tarfile.TarError, subprocess.SubprocessError) as error:
            raise _wrong(spec.name, path, f"cannot be unpacked: {error}") from None
        _check_folder(spec.name, path)
    return _Command([str(path / "bin" / "python"), "-c", _BOOTSTRAP], _activated(path, variables))


def find_environment(model: str, named: str, folder: Path) -> Path:
    """The environment's folder that EXECUTION_ENV_PATH names, or its archive, still unopened.

    folder: the model's. Raises InferenceError when there is no such environment.
    """
    path = Path(named.replace("$$TRITON_MODEL_DIRECTORY", str(folder)))
    if path.parent.name == "bin" and path.name.startswith("python"):
        raise _wrong(model, path, f"is an interpreter: say '{path.parents[1]}'")
    if not path.is_file():
        _check_folder(model, path)
    return path


def _check_folder(model: str, path: Path) -> None:
    if not (path / "bin" / "python").exists():
        raise _wrong(model, path, "holds no bin/python" if path.is_dir() else "does not exist")


def _wrong(model: str, path: Path, what: str) -> InferenceError:
    return invalid(
        f"{PARAMETER} of model '{model}': '{path}' {what}. It names the folder of a virtual "
        "or conda environment, or a conda-pack archive of one (.tar.gz)"
    )


def _activated(path: Path, variables: dict[str, str]) -> dict[str, str]:
    """What the environment's own `activate` sets."""
    changed = {**variables, "PATH": f"{path / 'bin'}{os.pathsep}{variables.get('PATH', '')}"}
    changed.pop("PYTHONHOME", None)
    if (path / "conda-meta").is_dir():
        libraries = [str(path / "lib"), variables.get("LD_LIBRARY_PATH", "")]
        changed["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
        changed["CONDA_PREFIX"] = str(path)
    else:
        changed["VIRTUAL_ENV"] = str(path)
    return changed


def _unpack(archive: Path) -> Path:
    """The folder of an archive's environment, unpacked once for all the models that name it."""
    key = (str(archive.resolve()), archive.stat().st_mtime_ns)
    with _LOCK:
        if key not in _unpacked:
            folder = Path(tempfile.mkdtemp(prefix="nerite-env-"))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            log.info("unpacking %s", archive)
            with tarfile.open(archive) as packed:
                # Refuses what would be written anywhere else.
                packed.extractall(folder, filter="tar")
            fix = folder / "bin" / "conda-unpack"
            if fix.is_file():
                subprocess.run([folder / "bin" / "python", fix], check=True, capture_output=True)
            _unpacked[key] = folder
        return _unpacked[key]

"""`nerite build`: fills the models that say by their `version` what they are, and hold nothing.

The job of the script of that name in Triton's tutorial, with its arguments. There are no engines
to build: what takes time is the download, and a process of its own takes it on.
"""

from __future__ import annotations

import multiprocessing
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from nerite.core.errors import InferenceError
from nerite.diffusion import find_model_folder
from nerite.import_model import describe
from nerite.repository.config import to_dict
from nerite.repository.repository import ModelEntry, Repository
from nerite.sources.bring import Wish, bring
from nerite.sources.config_text import model_name
from nerite.sources.versions import source_of
from nerite.sources.weights import SourceError

ALL = "all"
_STOPPED = 15.0  # seconds for a build that ran out of time to go


def run(model: str, repository: Path, timeout: float, wish: Wish) -> int:
    """The exit status: 0 when every model that was asked for is filled."""
    try:
        for entry in _chosen(model, repository):
            print(_build(entry, timeout, wish), flush=True)
    except SourceError as error:
        print(f"nerite build: {error}", file=sys.stderr)
        return 1
    except InferenceError as error:
        print(f"nerite build: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _chosen(model: str, repository: Path) -> list[ModelEntry]:
    entries = {entry.name: entry for entry in Repository([repository]).scan()}
    if model != ALL:
        if model not in entries:
            known = ", ".join(entries) or "none"
            raise SourceError(f"{repository} has no model {model}; there are {known}")
        return [entries[model]]
    return [entry for entry in entries.values() if entry.config.backend == "diffusion"]


def _build(entry: ModelEntry, timeout: float, wish: Wish) -> str:
    if entry.error is not None:
        raise SourceError(f"{entry.name}: {entry.error.message}")
    if entry.config.backend != "diffusion":
        raise SourceError(f"{entry.name} is no diffusion model: its backend is another")
    parameters = _parameters(entry)
    version_folder = entry.folder / str(entry.versions[-1] if entry.versions else 1)
    target = version_folder / f"{model_name(parameters.get('version', ''))}-pytorch_model"
    forced = bool(parameters.get("force_engine_build"))
    if _is_filled(version_folder) and not (forced and target.is_dir()):
        return f"{entry.name}: {version_folder} holds its model"
    if "version" not in parameters:
        raise SourceError(
            f"{entry.folder / 'config.pbtxt'}: the parameter version says what the model is, as "
            "1.5, xl-1.0 or the OWNER/NAME of a hub; it is missing"
        )
    source = source_of(parameters["version"])
    print(f"{entry.name}: fetching {source}", flush=True)
    if target.is_dir():
        shutil.rmtree(target)
    _in_time(entry.name, source, target, timeout, wish)
    return f"{entry.name}: {target}"


def _parameters(entry: ModelEntry) -> Mapping[str, str]:
    given = to_dict(entry.config)["parameters"]
    values = {name: one["string_value"] for name, one in given.items()}
    return {name: value for name, value in values.items() if value}


def _is_filled(version_folder: Path) -> bool:
    try:
        find_model_folder(version_folder)
    except FileNotFoundError:
        return False
    except ValueError as error:
        raise SourceError(str(error)) from None
    return True


def _in_time(name: str, source: str, target: Path, timeout: float, wish: Wish) -> None:
    """Bring the model there, in a process that can be stopped. Raises SourceError."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_bring, args=(source, target, wish), daemon=True)
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.terminate()
        process.join(_STOPPED)
        for left in target.parent.glob(".importing-*"):
            shutil.rmtree(left, ignore_errors=True)
        raise SourceError(
            f"{name} was not there after {timeout:g} s: what was downloaded is kept, so try again, "
            "or give it more time with --timeout"
        )
    if process.exitcode:
        raise SourceError(f"{name} could not be built")


def _bring(source: str, target: Path, wish: Wish) -> None:
    try:
        print(describe(target.parents[1].name, bring(source, target, wish)))
    except SourceError as error:
        print(f"nerite build: {error}", file=sys.stderr)
        sys.exit(1)

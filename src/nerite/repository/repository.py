"""Repository: folders of models. A look at them says what is there and what is wrong with it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from nerite.core.errors import InferenceError, Status, invalid
from nerite.repository import config as configs
from nerite.repository.config import ModelConfig

_VERSION = re.compile(r"[1-9][0-9]*")


@dataclass
class ModelEntry:
    """A model's folder as found: its config and the versions its policy asks for, or an error."""

    name: str
    folder: Path
    config: ModelConfig = field(default_factory=ModelConfig)
    versions: list[int] = field(default_factory=list)
    error: InferenceError | None = None


class Repository:
    """One or several folders whose subfolders are models."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def scan(self) -> list[ModelEntry]:
        """Every model, by name. Raises InferenceError when a repository is not there."""
        found: dict[str, ModelEntry] = {}
        for path in self.paths:
            for folder in _subfolders(path):
                if folder.name in found:
                    entry = ModelEntry(folder.name, folder)
                    text = f"model '{folder.name}' appears in two or more repositories"
                    entry.error = invalid(text)
                    found[folder.name] = entry
                else:
                    found[folder.name] = _look(folder)
        return [found[name] for name in sorted(found)]


def _subfolders(path: Path) -> list[Path]:
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise InferenceError(Status.NOT_FOUND, f"model repository '{path}' {what}{_nearest(path)}")
    return sorted(
        folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith(".")
    )


def _nearest(path: Path) -> str:
    for parent in path.absolute().parents:
        if parent.is_dir():
            return f"; the nearest folder that does is '{parent}'"
    return ""


def _look(folder: Path) -> ModelEntry:
    entry = ModelEntry(folder.name, folder)
    try:
        versions = sorted(
            int(item.name)
            for item in folder.iterdir()
            if item.is_dir() and _VERSION.fullmatch(item.name)
        )
        file = folder / "config.pbtxt"
        if file.is_file():
            entry.config = configs.read(file)
        entry.versions = _wanted(entry.config, versions)
        configs.complete(entry.config, folder.name, folder, entry.versions)
    except InferenceError as error:
        entry.error = error
    except OSError as error:
        entry.error = InferenceError(Status.INTERNAL, f"cannot read model '{folder}': {error}")
    return entry


def _wanted(config: ModelConfig, versions: list[int]) -> list[int]:
    """The versions that the config's version policy asks for; the newest one by default."""
    policy = config.version_policy
    if policy.HasField("all"):
        return versions
    if policy.HasField("specific"):
        return [version for version in versions if version in policy.specific.versions]
    return versions[-max(policy.latest.num_versions, 1) :]

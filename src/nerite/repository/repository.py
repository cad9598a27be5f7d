"""Repository: folders of models. A look at them says what is there and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from nerite.core.errors import InferenceError, Status, invalid
from nerite.repository import config as configs
from nerite.repository.config import ModelConfig
from nerite.repository.ensemble import graph_breaches
from nerite.repository.problem import Breach
from nerite.repository.storage import Mirror, is_remote

_VERSION = re.compile(r"[1-9][0-9]*")
_OTHERS = ("warmup", "initial_state", "configs")  # folders with a meaning of their own

# A file's path within the model's folder, its time of change in ns, and its size.
Fingerprint = tuple[tuple[str, int, int], ...]


@dataclass
class ModelEntry:
    """A model's folder as found: its config and the versions its policy asks for, or an error.

    Two looks at an unchanged model give equal fingerprints. ignored: what might have been meant
    for a version, and why it is none. borrowed: a folder made for this entry alone, which goes
    with it. overridden: the config is a client's. namespace: its repository, where models of
    several may have the same name. rivals: other folders that claim its name, which is an error.
    """

    name: str
    folder: Path
    config: ModelConfig = field(default_factory=ModelConfig)
    versions: list[int] = field(default_factory=list)
    error: InferenceError | None = None
    fingerprint: Fingerprint = ()
    ignored: list[str] = field(default_factory=list)
    borrowed: TemporaryDirectory[str] | None = None
    overridden: bool = False
    namespace: str = ""
    rivals: int = 0

    @property
    def key(self) -> str:
        """What tells it from all other models."""
        return key_of(self.namespace, self.name)

    def give_back(self) -> None:
        """Remove what was borrowed: nothing is loaded from here any more."""
        if self.borrowed is not None:
            self.borrowed.cleanup()


def key_of(namespace: str, name: str) -> str:
    return f"{namespace}::{name}" if namespace else name


class Repository:
    """One or several folders, or URIs of object stores, whose subfolders are models.

    config_name: `configs/<config_name>.pbtxt` of a model that has it is read in place of its
    config.pbtxt. written: a model must have one, as nothing is completed. namespaced: models of
    several repositories may have the same name, and each is known by its repository too.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        config_name: str = "",
        *,
        written: bool = False,
        namespaced: bool = False,
    ) -> None:
        """Raises InferenceError for a URI that cannot be served."""
        self.namespaced = namespaced
        self._config_name = config_name
        self._written = written
        self._mirrors: dict[str, Mirror] = {}
        self._folders: dict[str, Path] = {}
        self._names: dict[Path, str] = {}  # of the models that have another than their folder's
        for path in paths:
            self._add(str(path))

    def _add(self, path: str) -> Path:
        if is_remote(path):
            self._mirrors[path] = Mirror(path)
        mirror = self._mirrors.get(path)
        self._folders[path] = mirror.folder if mirror else Path(path)
        return self._folders[path]

    def add(self, path: str, names: Mapping[str, str]) -> None:
        """One more repository. names: the subfolders of models that shall have another name.

        Raises InferenceError when there is no such folder, or it is one of them already.
        """
        if path in self._folders:
            text = f"model repository '{path}' has already been registered"
            raise InferenceError(Status.ALREADY_EXISTS, text)
        taken = next((name for name in names if name in self._names.values()), None)
        if taken is not None:
            text = f"failed to register '{taken}', there is a conflicting mapping for '{taken}'"
            raise InferenceError(Status.ALREADY_EXISTS, text)
        if not is_remote(path) and not Path(path).is_dir():
            raise invalid(f"failed to register '{path}', repository not found")
        folder = self._add(path)
        self._names |= {folder / subfolder: name for name, subfolder in names.items()}

    def remove(self, path: str) -> None:
        """Look there no more. Raises InferenceError for one that is not among them."""
        if path not in self._folders:
            text = "failed to unregister, repository not found"
            raise invalid(f"{text}: '{path}'")
        gone = self._folders.pop(path)
        self._names = {at: name for at, name in self._names.items() if at.parent != gone}
        mirror = self._mirrors.pop(path, None)
        if mirror is not None:
            mirror.close()

    def close(self) -> None:
        """Remove the local copies of what is remote; nothing is loaded from them any more."""
        for mirror in self._mirrors.values():
            mirror.close()

    def names(self) -> dict[str, list[Path]]:
        """Every name and the folders that claim it: one, if all is well without namespaces.

        Raises InferenceError when a repository is not there.
        """
        for mirror in list(self._mirrors.values()):
            mirror.refresh()
        found: dict[str, list[Path]] = {}
        for path in list(self._folders.values()):
            for folder in _subfolders(path):
                found.setdefault(self._names.get(folder, folder.name), []).append(folder)
        return dict(sorted(found.items()))

    def scan(self) -> list[ModelEntry]:
        """A look at every model, by name. Raises InferenceError as `names` does."""
        return [
            self._look(name, folders)
            for name, claims in self.names().items()
            for folders in self.apart(claims)
        ]

    def find_all(self, name: str) -> list[ModelEntry]:
        """A look at the models of that name: one, or none, where there are no namespaces.

        Raises InferenceError as `names` does.
        """
        return [self._look(name, folders) for folders in self.apart(self.names().get(name, []))]

    def find(self, name: str) -> ModelEntry | None:
        """A look at one model; None where no repository has it. InferenceError as `names`."""
        return next(iter(self.find_all(name)), None)

    def apart(self, folders: list[Path]) -> list[list[Path]]:
        """Of the folders that claim a name: those of each model."""
        if self.namespaced:
            return [[folder] for folder in folders]
        return [folders] if folders else []

    def namespace(self, folder: Path) -> str:
        """A model's, by its folder: the repository as it was named; empty without namespaces."""
        if not self.namespaced:
            return ""
        return next((path for path, at in self._folders.items() if at == folder.parent), "")

    def _look(self, name: str, folders: list[Path]) -> ModelEntry:
        entry = ModelEntry(name, folders[0], namespace=self.namespace(folders[0]))
        if len(folders) > 1:
            entry.rivals = len(folders) - 1
            entry.error = invalid("model appears in two or more repositories")
            return entry
        try:
            entry.fingerprint = _fingerprint(entry.folder)
            file = self._config_file(entry.folder)
            if file.is_file():
                entry.config = configs.read(file)
            elif self._written:
                text = f"failed to open text file for read {file}: No such file or directory"
                raise InferenceError(Status.NOT_FOUND, text)
            if entry.folder in self._names:
                entry.config.name = name
            settle(entry)
        except InferenceError as error:
            entry.error = error
        except OSError as error:
            text = f"cannot read model '{entry.folder}': {error}"
            entry.error = InferenceError(Status.INTERNAL, text)
        return entry

    def _config_file(self, folder: Path) -> Path:
        custom = folder / "configs" / f"{self._config_name}.pbtxt"
        return custom if self._config_name and custom.is_file() else folder / "config.pbtxt"


def settle(entry: ModelEntry) -> None:
    """Choose the versions and complete the config. Raises InferenceError, OSError."""
    folders = [item.name for item in entry.folder.iterdir() if item.is_dir()]
    versions = sorted(int(name) for name in folders if _VERSION.fullmatch(name))
    entry.ignored = [
        f"ignore version directory '{name}' which {_flaw(name)}"
        for name in sorted(folders)
        if not _VERSION.fullmatch(name) and name not in _OTHERS and not name.startswith((".", "_"))
    ]
    entry.versions = _wanted(entry.config, versions)
    configs.complete(entry.config, entry.name, entry.folder, entry.versions)
    for breach in breaches(entry):
        raise invalid(f"{entry.folder / 'config.pbtxt'}: {breach}")


def breaches(entry: ModelEntry) -> Iterator[Breach]:
    """What is wrong with a config in its folder, whatever the model's own files are."""
    if configs.is_ensemble(entry.config):
        yield from graph_breaches(entry.config)
    if entry.config.name != entry.name:  # told last, as Triton does: what is above tells more
        yield Breach(
            f"unexpected directory name '{entry.name}' for model '{entry.config.name}', directory "
            "name must equal model name",
            ("name",),
            "Give one the other's name, or remove 'name'.",
        )


def _flaw(name: str) -> str:
    if len(name) > 1 and name[0] == "0":
        return "contains leading zeros in its directory name"
    return "fails to convert to integral number"


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


def _fingerprint(folder: Path) -> Fingerprint:
    found = []
    for item in folder.rglob("*"):
        if "__pycache__" in item.parts:
            continue  # loading a model.py writes there, and that changes nothing
        status = item.stat()
        size = status.st_size if item.is_file() else 0
        # A folder's own time changes with __pycache__ too; what is in it is told by its files.
        changed = status.st_mtime_ns if item.is_file() else 0
        found.append((str(item.relative_to(folder)), changed, size))
    return tuple(sorted(found))


def _wanted(config: ModelConfig, versions: list[int]) -> list[int]:
    """The versions that the config's version policy asks for; the newest one by default."""
    policy = config.version_policy
    if policy.HasField("all"):
        return versions
    if policy.HasField("specific"):
        return [version for version in versions if version in policy.specific.versions]
    count = policy.latest.num_versions if policy.HasField("latest") else 1
    return versions[-count:] if count else []

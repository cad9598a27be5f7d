"""A model as a suite wants it: where it is copied from, and what is changed in the copy."""

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

CONFIG = "config.pbtxt"


@dataclass(frozen=True)
class Edit:
    """Replaces `pattern` in a file; an empty pattern appends."""

    pattern: str
    by: str
    file: str = CONFIG

    def apply(self, text: str) -> str:
        if not self.pattern:
            return f"{text}\n{self.by}\n"
        return re.sub(self.pattern, self.by, text, flags=re.MULTILINE)


def add(text: str, file: str = CONFIG) -> Edit:
    """Appends `text` to a file of the model."""
    return Edit("", text, file)


@dataclass(frozen=True)
class Model:
    """One model folder, or one for each match of `source`, whose first part names a checkout.

    Without a source the folder is made of `config` alone. A model.py at the top, as in Triton's
    qa/python_models, goes into version 1, and a model without a version gets an empty one: git
    keeps no empty folders.
    """

    source: str = ""
    name: str = ""
    rename: tuple[str, str] = ("", "")  # in the folder's name and in the configuration
    without: str = ""  # a glob of matches to leave out
    config: str = ""
    more: tuple[str, ...] = ()  # files whose text is appended to the configuration
    edits: tuple[Edit, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)  # path in the model -> source
    versions: tuple[str, ...] | None = None  # keep only these, made where missing
    remove: tuple[str, ...] = ()  # globs
    into: str = "models"

    def make(self, folder: Path, roots: Mapping[str, Path]) -> None:
        """Writes the model under `folder`; FileNotFoundError when the source is not there."""
        for source, name in self._sources(folder, roots):
            target = folder / self.into / name
            if source is None:
                target.mkdir(parents=True, exist_ok=True)
                (target / CONFIG).write_text(f'name: "{name}"\n{self.config}\n')
            else:
                if source != target:
                    shutil.copytree(source, target, dirs_exist_ok=True)
            self._change(target, source.name if source else name, roots)

    def _sources(
        self, folder: Path, roots: Mapping[str, Path]
    ) -> Iterator[tuple[Path | None, str]]:
        if not self.source:
            yield None, self.name
            return
        root, _, pattern = self.source.partition("/")
        base = folder if root == "." else roots[root]
        found = sorted(path for path in base.glob(pattern) if path.is_dir())
        if not found:
            raise FileNotFoundError(f"no model {self.source}")
        for path in found:
            if not (self.without and fnmatch(path.name, self.without)):
                yield path, self.name or path.name.replace(*self.rename)

    def _change(self, target: Path, old: str, roots: Mapping[str, Path]) -> None:
        for pattern in self.remove:
            for path in target.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for inside, source in self.files.items():
            root, _, path_text = source.partition("/")
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(roots[root] / path_text, target / inside)
        self._settle_versions(target)
        config = target / CONFIG
        if config.exists():
            text = config.read_text()
            if self.rename[0]:
                text = text.replace(*self.rename)
            if target.name != old:
                text = re.sub(r"^name:.*$", f'name: "{target.name}"', text, flags=re.MULTILINE)
            for source in self.more:
                root, _, path_text = source.partition("/")
                text += "\n" + (roots[root] / path_text).read_text()
            config.write_text(text)
        for edit in self.edits:
            path = target / edit.file
            if edit.pattern and not path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(edit.apply(path.read_text() if path.exists() else ""))

    def _settle_versions(self, target: Path) -> None:
        versions = [path.name for path in target.iterdir() if path.name.isdigit()]
        wanted = (versions or ["1"]) if self.versions is None else list(self.versions)
        for version in versions:
            if version not in wanted:
                shutil.rmtree(target / version)
        for version in wanted:
            (target / version).mkdir(exist_ok=True)
        if not versions and wanted:
            for path in target.glob("*.py"):
                path.rename(target / wanted[0] / path.name)


@dataclass(frozen=True)
class Text:
    """A text file that a test expects in its folder: a copy of `source`, changed."""

    target: str
    source: str
    edits: tuple[Edit, ...] = ()

    def make(self, folder: Path, roots: Mapping[str, Path]) -> None:
        """Writes the file under `folder`."""
        root, _, inside = self.source.partition("/")
        text = ((folder if root == "." else roots[root]) / inside).read_text()
        for edit in self.edits:
            text = edit.apply(text)
        path = folder / self.target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)


def fill_versions(repository: Path) -> None:
    """Gives every model of a repository a version, as git keeps no empty folders."""
    for config in repository.glob(f"*/{CONFIG}"):
        if not any(path.name.isdigit() for path in config.parent.iterdir() if path.is_dir()):
            (config.parent / "1").mkdir()


def docs(name: str, /) -> Model:
    """One of the models in Triton's documentation."""
    return Model(f"server/docs/examples/model_repository/{name}")


def python(source: str, /, **changes: Any) -> Model:
    """One of qa/python_models."""
    return Model(f"server/qa/python_models/{source}", **changes)


def made(source: str, /, repository: str = "qa_model_repository", **changes: Any) -> Model:
    """What the checkout's generators make."""
    return Model(f"data/{repository}/{source}", **changes)


def custom(source: str, /, *edits: Edit, **changes: Any) -> Model:
    """One of qa/custom_models."""
    return Model(f"server/qa/custom_models/{source}", edits=edits, **changes)


def stand_in(kind: str, source: str, /, **changes: Any) -> Model:
    """A model of the checkout's ONNX ones under the name of a backend that is not here.

    Tests of the server itself take whatever backend they know; this one answers alike.
    """
    platform = Edit(r"^platform:.*", 'platform: "onnxruntime_onnx"')
    edits = (platform, *changes.pop("edits", ()))
    return made(f"onnx_{source}", rename=("onnx", kind), edits=edits, **changes)


def tensor(name: str, datatype: str, dims: str) -> str:
    """A tensor as a configuration lists it."""
    return f'[{{ name: "{name}" data_type: TYPE_{datatype} dims: [ {dims} ] }}]'


def identity(name: str, datatype: str, batch: int, *more: str, dims: str = "-1") -> Model:
    """A model of the identity backend; `more` are lines of its configuration."""
    config = [
        'backend: "identity"',
        f"max_batch_size: {batch}",
        f"input {tensor('INPUT0', datatype, dims)}",
        f"output {tensor('OUTPUT0', datatype, dims)}",
        "instance_group [{ count: 1 kind: KIND_CPU }]",
    ]
    return Model(name=name, config="\n".join([*config, *more]))


def parameters(**values: object) -> str:
    """`parameters` of a configuration, one entry for each."""
    return "\n".join(
        f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}'
        for key, value in values.items()
    )

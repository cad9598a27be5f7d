"""`nerite check`: what is wrong with a repository, and what clients must send; serves nothing."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nerite import warmup
from nerite.backends.base import backend_names, find_runtime
from nerite.backends.diffusion_config import complete, unfilled
from nerite.backends.onnx.outline import is_model
from nerite.contract import Contract, TensorSpec
from nerite.core.errors import InferenceError, Status
from nerite.diffusion import find_model_folder
from nerite.instances.environment import PARAMETER, find_environment
from nerite.placing import Placing
from nerite.repository import config as configs
from nerite.repository import rules
from nerite.repository.config import ModelConfig
from nerite.repository.dependencies import find_circles, needs
from nerite.repository.ensemble import place_of, step_breaches, steps
from nerite.repository.problem import Breach, Problem, nearest
from nerite.repository.repository import ModelEntry, Repository, breaches
from nerite.repository.text import ConfigText

_ONNX_FILE = "model.onnx"


@dataclass
class Finding:
    """One model and its problems; none if it can load, as far as its files tell.

    inputs, outputs: what clients send and get; empty where only loading the model tells.
    """

    name: str
    backend: str = ""
    versions: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    inputs: list[TensorSpec] = field(default_factory=list)
    outputs: list[TensorSpec] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "problems": [problem.to_json() for problem in self.problems]}


def run(paths: Sequence[str | Path], *, as_json: bool = False) -> int:
    """Print what `check` finds; the exit status: 1 when there is a problem."""
    try:
        findings = check(paths)
    except InferenceError as error:
        print(f"error: {error}")
        return 1
    if as_json:
        print(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        print("\n\n".join("\n".join(_lines(finding)) for finding in findings) or "no models")
    return 1 if any(finding.problems for finding in findings) else 0


def check(paths: Sequence[str | Path]) -> list[Finding]:
    """Look at every model of the repositories; nothing of a user's code is run.

    Raises InferenceError when a repository is not there.
    """
    repository = Repository(list(paths))
    try:
        entries = {entry.name: entry for entry in repository.scan()}
        circles = find_circles({name: needs(entry) for name, entry in entries.items()})
        return [_look(entry, entries, circles) for entry in entries.values()]
    finally:
        repository.close()


def _look(
    entry: ModelEntry, entries: Mapping[str, ModelEntry], circles: Mapping[str, Breach]
) -> Finding:
    backend = "ensemble" if configs.is_ensemble(entry.config) else entry.config.backend
    finding = Finding(entry.name, backend, entry.versions)
    finding.problems += _unread(entry)
    if finding.problems:
        return finding
    config = _complete(entry.config)
    found = [*_breaches(entry, config), *_step_breaches(entry, entries, circles)]
    finding.problems += _located(entry, found)
    finding.problems += _file_problems(entry)
    if config.input or config.output:
        contract = Contract(config)
        finding.inputs = list(contract.inputs.values())
        finding.outputs = list(contract.outputs.values())
    return finding


def _unread(entry: ModelEntry) -> Iterator[Problem]:
    """Why there is nothing more to look at: the folder or its config could not be read."""
    file = entry.folder / "config.pbtxt"
    if entry.error is not None and (entry.rivals or entry.error.status is Status.INTERNAL):
        remedy = "Rename or remove one of them." if entry.rivals else None
        yield Problem(str(entry.folder), entry.error.message, remedy=remedy)
        return
    try:
        if file.is_file():
            yield from ConfigText(file).problems()
    except OSError as error:
        yield Problem(str(file), f"cannot be read: {error.strerror}")


def _complete(config: ModelConfig) -> ModelConfig:
    """The config with what its backend adds to it at load, where that is known beforehand."""
    if config.backend == "diffusion":
        return configs.from_dict(complete(configs.to_dict(config)))
    return config


def _located(entry: ModelEntry, found: Iterable[Breach]) -> list[Problem]:
    """In the order of the text; a model without a config.pbtxt is at fault as a whole."""
    file = entry.folder / "config.pbtxt"
    if not file.is_file():
        return [Problem(str(entry.folder), one.message, remedy=one.remedy) for one in found]
    return ConfigText(file).locate(found)


def _breaches(entry: ModelEntry, config: ModelConfig) -> Iterator[Breach]:
    """What is wrong with the model's own config."""
    own = list(breaches(entry))
    yield from own
    if entry.error is not None and not own:
        yield Breach(entry.error.message)
    if not entry.versions and config.version_policy.HasField("specific"):
        yield Breach(
            "no version to serve: there are folders of none of these",
            ("version_policy", "specific", "versions"),
            "Add the folder of one, or name those there are.",
        )
    yield from _backend_breaches(entry)
    if config.input or config.output:
        yield from rules.breaches(config)
        if not _completes_itself(entry):
            yield from warmup.breaches(config, entry.folder)
    for index, output in enumerate(config.output):
        label_file = entry.folder / output.label_filename
        if output.label_filename and not label_file.is_file():
            yield Breach(
                f"{label_file}: the label file is not there",
                ("output", index, "label_filename"),
                "Put it there, or mend 'label_filename'.",
            )


def _completes_itself(entry: ModelEntry) -> bool:
    """Whether its code may add inputs to the config's, so that samples for them are no mistake."""
    files = (
        entry.folder / str(version) / entry.config.default_model_filename
        for version in entry.versions
    )
    return entry.config.backend == "python" and any(
        b"auto_complete_config" in file.read_bytes() for file in files if file.is_file()
    )


def _backend_breaches(entry: ModelEntry) -> Iterator[Breach]:
    config = entry.config
    if configs.is_ensemble(config) or not config.backend:
        return
    if config.backend not in backend_names():
        try:
            find_runtime(config.backend, entry.folder, Placing().backend_directory)
        except FileNotFoundError as error:
            field = "platform" if config.platform == config.backend else "backend"
            text = f"unknown backend '{config.backend}'; {error}"
            yield Breach(text, (field,), nearest(config.backend, backend_names()))
    named = config.parameters[PARAMETER].string_value if PARAMETER in config.parameters else ""
    if named:
        try:
            find_environment(entry.name, named, entry.folder.absolute())
        except InferenceError as error:
            at = ("parameters", PARAMETER, "string_value")
            yield Breach(error.message, at, "Mend the path, or remove the parameter.")


def _step_breaches(
    entry: ModelEntry, entries: Mapping[str, ModelEntry], circles: Mapping[str, Breach]
) -> Iterator[Breach]:
    """What is wrong with an ensemble's steps, as far as the models' own files tell."""
    if entry.error is not None or not steps(entry.config):
        return
    if entry.name in circles:
        yield circles[entry.name]
        return
    models = []
    for index, step in enumerate(steps(entry.config)):
        needed = entries.get(step.model_name)
        if needed is None:
            remedy = nearest(step.model_name, entries) or f"There are {', '.join(entries)}."
            text = f"no model '{step.model_name}' for a step"
            yield Breach(text, (*place_of(index), "model_name"), remedy)
        elif step.model_version > 0 and step.model_version not in needed.versions:
            where = f"'{step.model_name}' of a step"
            text = f"version {step.model_version} of {where} is not one that is served"
            remedy = f"Served are {', '.join(map(str, needed.versions)) or 'none'}."
            yield Breach(text, (*place_of(index), "model_version"), remedy)
        elif needed.error is None:
            models.append(_complete(needed.config))
    if len(models) == len(steps(entry.config)) and all(one.input and one.output for one in models):
        yield from step_breaches(entry.config, models)


def _file_problems(entry: ModelEntry) -> Iterator[Problem]:
    if not entry.versions and not entry.config.version_policy.HasField("specific"):
        remedy = f"Put the model into a folder such as {entry.folder / '1'}."
        yield Problem(str(entry.folder), "no version to serve", remedy=remedy)
    for version in entry.versions:
        folder = entry.folder / str(version)
        if entry.config.backend == "python":
            yield from _python_problems(folder / entry.config.default_model_filename)
        elif entry.config.backend == "onnxruntime":
            yield from _onnx_problems(folder / entry.config.default_model_filename)
        elif entry.config.backend == "diffusion":
            yield from _diffusion_problems(entry, folder)


def _diffusion_problems(entry: ModelEntry, folder: Path) -> Iterator[Problem]:
    parameters = entry.config.parameters
    named = parameters["version"].string_value if "version" in parameters else ""
    try:
        find_model_folder(folder)
    except (OSError, ValueError) as error:
        remedy = None
        if isinstance(error, FileNotFoundError):
            remedy = unfilled(entry.folder, named).removeprefix(". ") or None
        yield Problem(str(folder), str(error).removeprefix(f"{folder} "), remedy=remedy)


def _onnx_problems(file: Path) -> Iterator[Problem]:
    file = file / _ONNX_FILE if file.is_dir() else file
    if not file.is_file():
        yield Problem(str(file), "not there", remedy="Put the graph there.")
    elif not is_model(file):
        yield Problem(str(file), "no ONNX model", remedy="Export it anew, or fetch all of it.")


def _python_problems(file: Path) -> Iterator[Problem]:
    if not file.is_file():
        remedy = "It must define the class TritonPythonModel."
        yield Problem(str(file), "not there", remedy=remedy)
        return
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except SyntaxError as error:
        yield Problem(str(file), error.msg, error.lineno, error.offset)
        return
    except ValueError as error:
        yield Problem(str(file), str(error))
        return
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    model = next((node for node in classes if node.name == "TritonPythonModel"), None)
    imported = any(
        alias.asname or alias.name == "TritonPythonModel"
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    )
    if model is None and not imported:
        yield Problem(str(file), "no class TritonPythonModel", remedy="Define it, or import it.")
    elif model is not None and not model.bases and not _has_execute(model):
        text = "TritonPythonModel has no method execute"
        remedy = "Add `def execute(self, requests)`."
        yield Problem(str(file), text, model.lineno, model.col_offset + 1, remedy)


def _has_execute(model: ast.ClassDef) -> bool:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(isinstance(node, functions) and node.name == "execute" for node in model.body)


def _lines(finding: Finding) -> Iterator[str]:
    versions = ", ".join(map(str, finding.versions)) or "none"
    state = f"{len(finding.problems)} to mend" if finding.problems else "ok"
    yield f"{finding.name} ({finding.backend or 'no backend'}, versions {versions}): {state}"
    for problem in finding.problems:
        yield "  ! " + str(problem).replace("\n", "\n    ")
    if finding.inputs:
        yield "  send  " + "\n        ".join(map(_tensor, finding.inputs))
        yield "  get   " + "\n        ".join(map(_tensor, finding.outputs))
    elif not finding.problems:
        yield "  what to send is known when it has been loaded (auto-complete)"


def _tensor(spec: TensorSpec) -> str:
    dims = ", ".join("any" if dim == -1 else str(dim) for dim in spec.shape)
    optional = ", optional" if spec.optional else ""
    return f"{spec.name}: {spec.datatype} [{dims}]{optional}"

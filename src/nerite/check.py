"""`nerite check`: what is wrong with a repository, and what clients must send; serves nothing."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nerite.backends.base import backend_names, find_runtime
from nerite.backends.diffusion_config import complete, unfilled
from nerite.contract import Contract, TensorSpec
from nerite.core.errors import InferenceError
from nerite.diffusion import find_model_folder
from nerite.placing import Placing
from nerite.repository import config as configs
from nerite.repository import rules
from nerite.repository.config import ModelConfig
from nerite.repository.dependencies import find_circles, needs
from nerite.repository.ensemble import check_steps, steps
from nerite.repository.repository import ModelEntry, Repository


@dataclass
class Finding:
    """One model: its problems, each a sentence with file, place and remedy; none if it can load.

    inputs, outputs: what clients send and get; empty where only loading the model tells.
    """

    name: str
    backend: str = ""
    versions: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    inputs: list[TensorSpec] = field(default_factory=list)
    outputs: list[TensorSpec] = field(default_factory=list)


def run(paths: Sequence[str | Path], *, as_json: bool = False) -> int:
    """Print what `check` finds; the exit status: 1 when there is a problem."""
    try:
        findings = check(paths)
    except InferenceError as error:
        print(f"error: {error}")
        return 1
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
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
        findings = [_look(entry) for entry in entries.values()]
        circles = find_circles({name: needs(entry) for name, entry in entries.items()})
        for finding in findings:
            if not finding.problems:
                finding.problems += _ensemble_problems(entries[finding.name], entries, circles)
        return findings
    finally:
        repository.close()


def _look(entry: ModelEntry) -> Finding:
    backend = "ensemble" if configs.is_ensemble(entry.config) else entry.config.backend
    finding = Finding(entry.name, backend, entry.versions)
    if entry.error is not None:
        finding.problems.append(entry.error.message)
        return finding
    if not entry.versions:
        finding.problems.append(
            f"{entry.folder}: no version to serve; put the model into a folder such as "
            f"{entry.folder / '1'}, or mend version_policy"
        )
    config = _complete(entry.config)
    finding.problems += _backend_problems(entry)
    finding.problems += _file_problems(entry)
    if config.input or config.output:
        try:
            rules.check(config)
        except InferenceError as error:
            finding.problems.append(f"{entry.folder / 'config.pbtxt'}: {error}")
        contract = Contract(config)
        finding.inputs = list(contract.inputs.values())
        finding.outputs = list(contract.outputs.values())
    return finding


def _complete(config: ModelConfig) -> ModelConfig:
    """The config with what its backend adds to it at load, where that is known beforehand."""
    if config.backend == "diffusion":
        return configs.from_dict(complete(configs.to_dict(config)))
    return config


def _ensemble_problems(
    entry: ModelEntry, entries: Mapping[str, ModelEntry], circles: Mapping[str, str]
) -> Iterator[str]:
    """What is wrong with an ensemble's steps, as far as the models' own files tell."""
    if not steps(entry.config):
        return
    file = entry.folder / "config.pbtxt"
    if entry.name in circles:
        yield f"{file}: {circles[entry.name]}"
        return
    models = []
    for step in steps(entry.config):
        needed = entries.get(step.model_name)
        if needed is None:
            names = ", ".join(entries)
            yield f"{file}: no model '{step.model_name}' for a step; the repository has {names}"
        elif step.model_version > 0 and step.model_version not in needed.versions:
            where = f"'{step.model_name}' of a step"
            yield f"{file}: version {step.model_version} of {where} is not one that is served"
        elif needed.error is None:
            models.append(_complete(needed.config))
    if len(models) == len(steps(entry.config)) and all(one.input and one.output for one in models):
        try:
            check_steps(entry.config, models)
        except InferenceError as error:
            yield f"{file}: {error}"


def _backend_problems(entry: ModelEntry) -> Iterator[str]:
    config = entry.config
    if config.backend in backend_names() or configs.is_ensemble(config):
        return
    try:
        find_runtime(config.backend, entry.folder, Placing().backend_directory)
    except FileNotFoundError as error:
        yield f"{entry.folder / 'config.pbtxt'}: unknown backend '{config.backend}'; {error}"


def _file_problems(entry: ModelEntry) -> Iterator[str]:
    for version in entry.versions:
        folder = entry.folder / str(version)
        if entry.config.backend == "python":
            yield from _python_problems(folder / entry.config.default_model_filename)
        elif entry.config.backend == "diffusion":
            parameters = entry.config.parameters
            named = parameters["version"].string_value if "version" in parameters else ""
            try:
                find_model_folder(folder)
            except FileNotFoundError as error:
                yield f"{error}{unfilled(entry.folder, named)}"
            except (OSError, ValueError) as error:
                yield str(error)
    for output in entry.config.output:
        if output.label_filename and not (entry.folder / output.label_filename).is_file():
            yield f"{entry.folder / output.label_filename}: the label file is not there"


def _python_problems(file: Path) -> Iterator[str]:
    if not file.is_file():
        yield f"{file}: not there; it must define the class TritonPythonModel"
        return
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except SyntaxError as error:
        yield f"{file}:{error.lineno}:{error.offset}: {error.msg}"
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
        yield f"{file}: no class TritonPythonModel"
    elif model is not None and not model.bases and not _has_execute(model):
        yield f"{file}:{model.lineno}: TritonPythonModel has no method execute"


def _has_execute(model: ast.ClassDef) -> bool:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(isinstance(node, functions) and node.name == "execute" for node in model.body)


def _lines(finding: Finding) -> Iterator[str]:
    versions = ", ".join(map(str, finding.versions)) or "none"
    state = f"{len(finding.problems)} to mend" if finding.problems else "ok"
    yield f"{finding.name} ({finding.backend or 'no backend'}, versions {versions}): {state}"
    for problem in finding.problems:
        yield "  ! " + problem.replace("\n", "\n    ")
    if finding.inputs:
        yield "  send  " + "\n        ".join(map(_tensor, finding.inputs))
        yield "  get   " + "\n        ".join(map(_tensor, finding.outputs))
    elif not finding.problems:
        yield "  what to send is known when it has been loaded (auto-complete)"


def _tensor(spec: TensorSpec) -> str:
    dims = ", ".join("any" if dim == -1 else str(dim) for dim in spec.shape)
    optional = ", optional" if spec.optional else ""
    return f"{spec.name}: {spec.datatype} [{dims}]{optional}"

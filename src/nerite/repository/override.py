"""A model as a load request describes it, in place of what the repository says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nerite.core.errors import InferenceError, Status, invalid
from nerite.repository import config as configs
from nerite.repository.repository import ModelEntry, settle

# A string, which is left as it is, or a name without quotes.
_NAMES = re.compile(r'"(?:\\.|[^"\\])*"|([A-Za-z_]\w*)(?=\s*:)')
# What in a config says which code runs, or which files a backend reads and writes. Not the backend:
# those that there are run what the model's own folder holds.
_CODE = (
    "runtime",
    "default_model_filename",
    "cc_model_filenames",
    "model_operations",
    "parameters",
)
_NOT_ALLOWED = (
    "which was not started with '--allow-model-overrides', nor with an '--api-key-file' that says "
    "who may"
)


def override(
    name: str,
    found: ModelEntry | None,
    config: str | None,
    files: Mapping[str, bytes],
    *,
    code: bool = True,
) -> ModelEntry:
    """An entry with `config` (ModelConfig as JSON) in place of its file's, and with `files`
    (paths within the model's folder) in place of the whole folder.

    code: whether it may say which code runs; else that must be as in the model's own config.

    Raises InferenceError: bad JSON, files without a config, a path that leaves the folder, code
    where there may be none.
    """
    if files and not code:
        text = f"a load request with files runs their code on the server, {_NOT_ALLOWED}"
        raise InferenceError(Status.UNSUPPORTED, text)
    if config is None:
        reason = "Load parameter 'config' must be specified for model file override"
        raise _unpolled(name, f": {reason}")
    if found is None and not files:
        raise _unpolled(name)
    try:
        entry = ModelEntry(name, Path(), configs.from_dict(_read(config)), overridden=True)
    except (json.JSONDecodeError, TypeError) as error:
        raise invalid(f"failed to load '{name}', Invalid config override: {error}") from None
    if found is not None:
        entry = replace(entry, folder=found.folder, namespace=found.namespace)
    try:
        if files:
            entry.borrowed = TemporaryDirectory(prefix=f"nerite-{name}-")
            entry.folder = Path(entry.borrowed.name)
            _write(name, entry.folder, files)
        elif found is not None:
            entry.fingerprint = found.fingerprint
        settle(entry)
        if found is not None and not code:
            _check_code(entry.config, found.config)
    except InferenceError as error:
        entry.give_back()
        if error.message.startswith("failed to load"):
            raise
        raise InferenceError(error.status, f"failed to load '{name}', {error.message}") from None
    except OSError as error:
        entry.give_back()
        raise _unpolled(name, f": {error.strerror}") from None
    return entry


def _read(config: str) -> Any:
    """JSON as protobuf's reader takes it, and with it Triton's clients: names may be bare, and
    one instance group need not stand in a list."""
    try:
        found = json.loads(config)
    except json.JSONDecodeError:
        if not any(match[1] for match in _NAMES.finditer(config)):
            raise
        bare = _NAMES.sub(lambda match: f'"{match[1]}"' if match[1] else match[0], config)
        found = json.loads(bare)
    groups = found.get("instance_group") if isinstance(found, dict) else None
    return found | {"instance_group": [groups]} if isinstance(groups, dict) else found


def _check_code(wanted: configs.ModelConfig, own: configs.ModelConfig) -> None:
    """Raises InferenceError where `wanted` names code or files that the model's `own` does not."""
    told, known = _code(wanted), _code(own)
    field = next((field for field, value in told.items() if known.get(field) != value), None)
    if field is not None:
        text = f"'{field}' of a load request's config says which code runs on the server, "
        raise InferenceError(Status.UNSUPPORTED, text + _NOT_ALLOWED)


def _code(config: configs.ModelConfig) -> dict[str, Any]:
    found = configs.to_dict(config)
    told = {field: found[field] for field in _CODE if found.get(field)}
    if Path(config.default_model_filename).name == config.default_model_filename:
        told.pop("default_model_filename", None)  # in the model's own folder
    for name, value in told.pop("parameters", {}).items():
        told[f"parameters['{name}']"] = value
    accelerators = found.get("optimization", {}).get("execution_accelerators")
    return told | {"execution_accelerators": accelerators} if accelerators else told


def _write(name: str, folder: Path, files: Mapping[str, bytes]) -> None:
    root = folder.resolve()
    for path, content in files.items():
        if "\0" in path:
            raise invalid(f"file override {path!r} is no path")
        target = (root / path.lstrip("/")).resolve()  # as Triton joins them
        if not target.is_relative_to(root) or target == root:
            raise _unpolled(name, f": file override '{path}' leaves the model's folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _unpolled(name: str, reason: str = "") -> InferenceError:
    text = f"failed to load '{name}', failed to poll from model repository{reason}"
    return InferenceError(Status.INTERNAL, text)

"""Finds the user's model.py and imports its TritonPythonModel, under the names Triton uses."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from nerite.backends.base import ModelSpec
from nerite.backends.python import c_python_backend_utils
from nerite.backends.python import triton_python_backend_utils as pb_utils
from nerite.backends.python.errors import RAISED
from nerite.core.errors import InferenceError, Status
from nerite.core.text import sayable


def model_class(spec: ModelSpec) -> Any:
    """The class TritonPythonModel of a model, or of the Python-based backend it names.

    Raises InferenceError, which names the file and what is wrong in it.
    """
    sys.modules["triton_python_backend_utils"] = pb_utils
    sys.modules["c_python_backend_utils"] = c_python_backend_utils
    if spec.runtime is not None:
        sys.path.insert(0, str(spec.runtime.parent))
        return _class_in(spec.runtime, spec.runtime.stem)
    file = spec.version_folder / (spec.config.get("default_model_filename") or "model.py")
    # A model's own folders come first on the path, so that sibling modules and relative imports
    # both work.
    folders = [str(spec.version_folder), str(spec.folder)]
    name = spec.version_folder.name
    if spec.in_server:  # where others are too
        sys.path += folders
        name = f"nerite_models.{spec.name}.{name}"
    else:
        sys.path[:0] = folders
    package = ModuleType(name)
    package.__path__ = [str(spec.version_folder)]
    sys.modules[package.__name__] = package
    return _class_in(file, f"{package.__name__}.{file.stem}")


def _class_in(file: Path, name: str) -> Any:
    if not file.is_file():
        raise _refusal(f"Python model file not found in '{file}'")
    spec = importlib.util.spec_from_file_location(name, file)
    if file.suffix != ".py" or spec is None or spec.loader is None:
        raise _refusal(f"Model name must end with '.py'. Model name is \"{file.name}\".")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except RAISED as error:
        traceback.print_exc()
        raise _refusal(describe(error)) from None
    found = getattr(module, "TritonPythonModel", None)
    if found is None:
        raise _refusal(f"{file} defines no class TritonPythonModel, which every model.py must")
    if not callable(getattr(found, "execute", None)):
        raise _refusal(f"Python model {file} does not implement `execute` method.")
    return found


def _refusal(text: str) -> InferenceError:
    return InferenceError(Status.INTERNAL, text)


def describe(error: BaseException) -> str:
    """An exception of the user's code and where it came from, as Triton shows it: without ours."""
    own = str(Path(__file__).parent)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((own, "<frozen importlib"))
    ]
    if isinstance(error, SyntaxError):
        text = "".join(traceback.format_exception_only(type(error), error)).strip()
    else:
        text = f"{type(error).__name__}: {error}"
    lines = [f"  {frame.filename}({frame.lineno}): {frame.name}" for frame in reversed(frames)]
    return sayable("\n".join([text, "", "At:", *lines, ""]) if lines else text)

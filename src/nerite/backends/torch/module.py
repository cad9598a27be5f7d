"""Triton's Python runtime of PyTorch: a class in model.py, and its weights beside it."""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nerite.backends.torch.naming import positions
from nerite.core.errors import InferenceError, Status, invalid

_COMPILE = "TORCH_COMPILE_OPTIONAL_PARAMETERS"


class Module:
    """A torch.nn.Module: its inputs are the arguments of `forward`."""

    def __init__(self, file: Path, device: Any, parameters: Mapping[str, str]) -> None:
        """Raises InferenceError for a file without such a class, or one that does not run."""
        import torch

        try:
            module = _class_in(file, torch)()
            weights = file.with_suffix(".pt")
            if weights.is_file():
                module.load_state_dict(torch.load(weights, device, weights_only=True))
        except InferenceError:
            raise
        except Exception as error:
            text = f"failed to load model '{file}': {type(error).__name__}: {error}"
            raise InferenceError(Status.INTERNAL, text) from error
        arguments = inspect.signature(module.forward).parameters.values()
        self._names = [one.name for one in arguments if one.kind is one.POSITIONAL_OR_KEYWORD]
        self._module = module.to(device).eval()
        if _COMPILE in parameters:
            self._module = torch.compile(self._module, **_options(parameters[_COMPILE]))

    def places(self, names: Sequence[str]) -> dict[str, str]:
        found = positions("input", names, [frozenset((name,)) for name in self._names])
        return {name: self._names[place] for name, place in found.items()}

    def run(self, values: Mapping[str, Any]) -> Any:
        return self._module(**values)


def _class_in(file: Path, torch: Any) -> Any:
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise invalid(f"'{file}' is not a Python file")
    source = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = source
    spec.loader.exec_module(source)
    for name in sorted(vars(source)):
        found = getattr(source, name)
        own = inspect.isclass(found) and found.__module__ == file.stem
        if own and issubclass(found, torch.nn.Module):
            return found
    raise invalid(f"'{file}' defines no subclass of torch.nn.Module")


def _options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except ValueError as error:
        raise invalid(f"parameter {_COMPILE} is not JSON: {error}") from None
    if not isinstance(options, dict) or "model" in options:
        raise invalid(f"parameter {_COMPILE} must be an object of torch.compile's options")
    return options

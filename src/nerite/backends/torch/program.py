"""A PyTorch program from a file: TorchScript, torch.export's or an AOTInductor package.

Files that are no more than a pickle are refused.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from nerite.backends.torch.naming import positions
from nerite.core.errors import InferenceError, Status, invalid

_PICKLE = (
    "'{file}' was written by torch.save, as a pickle of Python code that is not in it, and is not "
    "loaded: export the model with torch.export.save (model.pt2), or with "
    "torch.jit.script(model).save (model.pt)"
)


class Program(Protocol):
    def places(self, names: Sequence[str]) -> Mapping[str, Any]:
        """Where `run` wants each input that a config names. Raises InferenceError."""
        ...

    def run(self, values: Mapping[Any, Any]) -> Any:
        """What the program returns for its inputs, each by its place."""
        ...


def open_program(file: Path, device: str, device_id: int) -> Program:
    """device: "cpu" or "cuda". Raises InferenceError for what is not a program."""
    import torch

    where = torch.device(device, device_id if device == "cuda" else None)
    kind = _kind(file)
    try:
        # Both loaders warn of themselves, and of warnings a server's user learns nothing.
        with warnings.catch_warnings(action="ignore"):
            if kind == "script":
                return Script(torch.jit.load(str(file), map_location=where).eval())
            if kind == "package":
                index = device_id if device == "cuda" else -1
                return Package(torch._inductor.aoti_load_package(str(file), device_index=index))
            program = torch.export.load(str(file))
            if device == "cuda":
                from torch.export.passes import move_to_device_pass

                program = move_to_device_pass(program, where)
            return Exported(program)
    except Exception as error:
        text = f"failed to load model '{file}': {error}"
        raise InferenceError(Status.INTERNAL, text) from None


def _kind(file: Path) -> str:
    """What an archive is, by the names in it."""
    if not zipfile.is_zipfile(file):
        raise invalid(
            f"'{file}' is not an archive of PyTorch: neither TorchScript nor a .pt2 file, or a "
            "pickle of an old torch.save, which is not loaded"
        )
    with zipfile.ZipFile(file) as archive:
        names = [name.partition("/")[2] for name in archive.namelist()]
    if any(name.startswith("data/aotinductor/") for name in names):
        return "package"
    if "archive_format" in names:
        return "exported"
    if any(name.startswith("code/") for name in names) and "constants.pkl" in names:
        return "script"
    raise invalid(_PICKLE.format(file=file))


class Script:
    """TorchScript: its inputs are the arguments of `forward`, or the keys of its one dict."""

    def __init__(self, module: Any) -> None:
        self._module = module
        arguments = [one for one in module.forward.schema.arguments if one.name != "self"]
        self._names = [one.name for one in arguments]
        self._dict = len(arguments) == 1 and arguments[0].type.kind() == "DictType"

    def places(self, names: Sequence[str]) -> dict[str, str]:
        if self._dict:
            return {name: name for name in names}
        found = positions("input", names, [frozenset((name,)) for name in self._names])
        return {name: self._names[place] for name, place in found.items()}

    def run(self, values: Mapping[str, Any]) -> Any:
        return self._module(dict(values)) if self._dict else self._module(**values)


class _Tree:
    """A program whose inputs are the leaves of a tree of arguments and keyword arguments."""

    def __init__(self, spec: Any, call: Any, names: Sequence[str]) -> None:
        from torch.utils import _pytree

        self._call = call
        self._tree: Any = _pytree
        self._spec = spec
        places = self._tree.tree_unflatten([*range(spec.num_leaves)], spec)
        leaves, _ = self._tree.tree_flatten_with_path(places)
        own = [*names, *[""] * (len(leaves) - len(names))]
        self._known = [
            frozenset({_path(path), name} - {""})
            for (path, _), name in zip(leaves, own, strict=True)
        ]

    def places(self, names: Sequence[str]) -> dict[str, int]:
        found = positions("input", names, self._known)
        missing = [min(own) for place, own in enumerate(self._known) if place not in found.values()]
        if missing:
            raise invalid(f"the model's input {missing[0]} is not in the model configuration")
        return found

    def run(self, values: Mapping[int, Any]) -> Any:
        leaves = [values[place] for place in range(len(self._known))]
        arguments, keywords = self._tree.tree_unflatten(leaves, self._spec)
        return self._call(*arguments, **keywords)


class Exported(_Tree):
    """A program of torch.export."""

    def __init__(self, program: Any) -> None:
        names = [str(name) for name in program.graph_signature.user_inputs]
        super().__init__(program.call_spec.in_spec, program.module(), names)


class Package(_Tree):
    """A program that AOTInductor has compiled."""

    def __init__(self, compiled: Any) -> None:
        from torch.utils import _pytree

        spec = _pytree.treespec_loads(compiled.loader.get_call_spec()[0])
        super().__init__(spec, compiled, ())


def _path(keys: Sequence[Any]) -> str:
    """`ARGS[2][key]` or `KWARGS[name]`, as Triton writes a leaf's path."""
    (first, *rest) = keys
    steps = (getattr(key, "idx", getattr(key, "key", None)) for key in rest)
    return ("ARGS", "KWARGS")[first.idx] + "".join(f"[{step}]" for step in steps)

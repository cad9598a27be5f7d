"""`nerite export`: a model as ONNX graphs, or as the repository of Triton's BLS tutorial."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nerite.core.errors import InferenceError
from nerite.diffusion import find_model_folder
from nerite.diffusion.export import OPSET, export_folder
from nerite.repository.config import to_dict
from nerite.repository.repository import Repository
from nerite.sources.bls import write_repository
from nerite.sources.weights import SourceError


@dataclass(frozen=True, slots=True)
class Export:
    """What to write: model is a name in repository, or a folder of diffusers.

    output: a folder of graphs. pipeline: in place of it, a repository; tensorrt: with a plan.
    """

    model: str
    repository: Path
    output: Path | None = None
    pipeline: Path | None = None
    tensorrt: bool = False
    opset: int | None = None


def run(wish: Export) -> int:
    """The exit status: 0 when everything is written."""
    try:
        folder, opset = _find(wish)
        target = wish.pipeline or wish.output or Path(f"{Path(wish.model).name}-onnx")
        if target.exists():
            raise SourceError(f"{target} is there already: name another, or remove it")
        _write(wish, folder, target, opset)
    except (SourceError, OSError, ValueError) as error:
        print(f"nerite export: {error}", file=sys.stderr)
        return 1
    except InferenceError as error:
        print(f"nerite export: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _write(wish: Export, folder: Path, target: Path, opset: int) -> None:
    told: Callable[[str], None] = lambda part: print(f"  {part}", flush=True)  # noqa: E731
    print(f"{folder} in ONNX:", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=target.parent) as temporary:
        made = Path(temporary) / "made"
        notices: list[str] = []
        if wish.pipeline is None:
            export_folder(folder, made, opset=opset, told=told)
        else:
            tensorrt = wish.tensorrt
            notices = write_repository(folder, made, opset=opset, tensorrt=tensorrt, told=told)
        made.rename(target)
    for notice in notices:
        print(notice)
    flag = "--model" if wish.pipeline is None else "--model-repository"
    print(f"Serve it with: nerite serve {flag} {target}")


def _find(wish: Export) -> tuple[Path, int]:
    """The folder of diffusers, and the opset that is wished, or that its config names."""
    given = Path(wish.model).expanduser()
    if given.is_dir() and (given / "model_index.json").is_file():
        return given, wish.opset or OPSET
    entry = Repository([wish.repository]).find(wish.model)
    if entry is None:
        raise SourceError(f"{wish.repository} has no model {wish.model}, and no folder is so named")
    if entry.error is not None:
        raise entry.error
    if entry.config.backend != "diffusion" or not entry.versions:
        raise SourceError(f"{wish.model} is no diffusion model with a version to export")
    named = to_dict(entry.config)["parameters"].get("onnx_opset", {}).get("string_value", "")
    opset = wish.opset or (int(named) if named.isdecimal() else OPSET)
    return find_model_folder(entry.folder / str(entry.versions[-1])), opset

"""`nerite import`: a model folder that is ready to serve, from a diffusers folder, file or hub."""

from __future__ import annotations

import sys
from pathlib import Path

from nerite.backends.gpus import gpus
from nerite.diffusion.space import memory_available
from nerite.sources.bring import Wish, bring
from nerite.sources.config_text import config_text
from nerite.sources.folder import Survey
from nerite.sources.weights import SourceError

_FLOAT32, _BFLOAT16 = 4, 2


def run(source: str, name: str, repository: Path, wish: Wish) -> int:
    """The exit status: 0 when the model is in the repository."""
    if Path(source).expanduser().is_file():  # the others have bars of their own
        print(f"converting {source}, which may take minutes", file=sys.stderr, flush=True)
    try:
        print(import_model(source, name, repository, wish))
    except SourceError as error:
        print(f"nerite import: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"nerite import: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"\nServe it with: nerite serve --model-repository {repository}")
    return 0


def import_model(source: str, name: str, repository: Path, wish: Wish) -> str:
    """Make the model ``name`` in ``repository``; what there is to tell of it.

    Raises SourceError, and OSError.
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise SourceError(f"{name!r} cannot be a model's name: it becomes a folder's")
    folder = repository / name
    if folder.exists():
        raise SourceError(f"{folder} is there already: choose another name, or remove it")
    try:
        found = bring(source, folder / "1", wish)
    except BaseException:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise
    (folder / "config.pbtxt").write_text(config_text(name, gpu=bool(gpus())), encoding="utf-8")
    return describe(name, found)


def describe(name: str, found: Survey) -> str:
    """The parts of a model, and the memory they need."""
    lines = [f"{name}: {found.pipeline}"]
    lines += [
        f"  {part.name:<16}{part.kind:<32}{_size(part.size):>9}  {part.dtype}"
        for part in found.parts
    ]
    cpu, gpu = found.needed(_FLOAT32), found.needed(_BFLOAT16)
    lines.append(
        f"Weights take {_size(cpu)} of memory on a CPU (float32), {_size(gpu)} on a GPU "
        "(bfloat16); what pictures take beside them is measured when it is loaded."
    )
    free = memory_available()
    if free is not None and cpu > free:
        lines.append(
            f"This machine has {_size(free)} free now: on its CPU there is no room for it."
        )
    return "\n".join(lines)


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1000:.1f} kB"

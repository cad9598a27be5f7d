"""A model from wherever it is into a folder of its own, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerite.diffusion.folder import INDEX
from nerite.sources import hub, pickles
from nerite.sources.folder import OPTIONAL, Survey, read_index, survey
from nerite.sources.single_file import convert
from nerite.sources.weights import PICKLES, SourceError, refused

_CHUNK = 16 << 20


@dataclass(frozen=True, slots=True)
class Wish:
    """variant: of the weights, as "fp16". tokenizer: a folder with that of a single file."""

    variant: str = ""
    allow_pickle: bool = False
    tokenizer: Path | None = None


def bring(source: str, target: Path, wish: Wish) -> Survey:
    """Make ``target`` the model of ``source``: a folder, a single file, or a hub's id.

    Files of a folder are linked where they can be, else copied. Raises SourceError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".importing-", dir=target.parent) as temporary:
        made = Path(temporary) / "model"
        path = Path(source).expanduser()
        if path.is_file():
            _from_file(path, made, wish)
        elif path.is_dir():
            _from_folder(survey(path, variant=wish.variant), made, wish)
        elif hub.is_hub_id(source):
            folder = hub.fetch(source, variant=wish.variant, allow_pickle=wish.allow_pickle)
            _from_folder(survey(folder, variant=wish.variant), made, wish)
        else:
            raise SourceError(
                f"{source} is no folder, no file and no id of a hub such as OWNER/NAME"
            )
        survey(made)
        made.rename(target)
    return survey(target)


def _from_file(file: Path, target: Path, wish: Wish) -> None:
    if file.suffix == ".safetensors":
        convert(file, target, wish.tokenizer)
        return
    if not file.name.endswith(PICKLES):
        raise SourceError(f"{file}: a .safetensors file is expected")
    if not wish.allow_pickle:
        raise SourceError(refused(str(file)))
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        safe = Path(temporary) / pickles.safe_name(file.name)
        pickles.to_safetensors(file, safe)
        convert(safe, target, wish.tokenizer)


def _from_folder(found: Survey, target: Path, wish: Wish) -> None:
    unsafe = {name: files for name, files in found.pickles.items() if name not in OPTIONAL}
    if unsafe and not wish.allow_pickle:
        name, files = next(iter(unsafe.items()))
        raise SourceError(f"{found.folder}: {name} has no safetensors. {refused(files[0])}")
    dropped = () if wish.allow_pickle else tuple(found.pickles)
    taken = [
        name
        for name in found.files
        if not (name.endswith(PICKLES) or ".bin." in name or name == INDEX)
        and name.split("/")[0] not in dropped
    ]
    _take(found.folder, taken, target)
    for part, pickled in found.pickles.items():
        if part not in dropped:
            (target / part).mkdir(exist_ok=True)
            pickles.convert_part(found.folder, pickled, target)
    index = read_index(found.folder)
    missing = [name for name in OPTIONAL if name in index and not (target / name).is_dir()]
    index |= {name: [None, None] for name in missing}
    (target / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")


def _take(source: Path, names: list[str], target: Path) -> None:
    total = sum((source / name).stat().st_size for name in names)
    with _bar(total) as told:
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy((source / name).resolve(), target / name, told)


def _link_or_copy(file: Path, target: Path, told: Any) -> None:
    with contextlib.suppress(OSError):
        os.link(file, target)
        told.update(file.stat().st_size)
        return
    with file.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(_CHUNK):
            writer.write(block)
            told.update(len(block))
    shutil.copymode(file, target)


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Any]:
    from tqdm import tqdm

    with tqdm(total=total, unit="B", unit_scale=True, desc="importing", disable=None) as bar:
        yield bar

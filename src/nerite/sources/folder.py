"""A folder in diffusers' layout before it is served: what it needs, and what of it is there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from nerite.diffusion.folder import INDEX, read_json
from nerite.diffusion.weights import Weights
from nerite.sources.weights import (
    SourceError,
    choose_variant,
    is_pickle,
    read_weights,
    variant_of,
)

# Parts that are read as words and settings; they have no weights.
_WEIGHTLESS = ("Tokenizer", "TokenizerFast", "Scheduler", "ImageProcessor", "FeatureExtractor",
               "Processor", "ImageProcessorFast")  # fmt: skip
OPTIONAL = ("safety_checker", "feature_extractor", "image_encoder")
_TEXTS = (".json", ".txt", ".model", ".jinja")
_GRAPHS = (".onnx", ".onnx_data", ".onnx.data", ".pb")
# Graphs of one part that have folders of their own beside it.
_HALVES = {"vae": ("vae_decoder", "vae_encoder")}


@dataclass(frozen=True, slots=True)
class Part:
    """One network of the pipeline, as its files tell."""

    name: str
    kind: str
    weights: tuple[Weights, ...] = ()
    graphs: int = 0

    @property
    def numbers(self) -> int:
        return sum(one.numbers for one in self.weights)

    @property
    def size(self) -> int:
        return sum(one.size for one in self.weights) or self.graphs

    @property
    def dtype(self) -> str:
        return self.weights[0].dtype if self.weights else "onnx"


@dataclass(frozen=True, slots=True)
class Survey:
    """files: what is to be taken, relative to the folder. pickles: parts with nothing else."""

    folder: Path
    pipeline: str
    parts: tuple[Part, ...]
    files: tuple[str, ...]
    pickles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum((self.folder / name).stat().st_size for name in self.files)

    def needed(self, bytes_each: int) -> int:
        """Bytes of all weights where every number takes so many."""
        return sum(part.numbers * bytes_each if part.weights else part.size for part in self.parts)


def read_index(folder: Path) -> dict[str, Any]:
    """model_index.json. Raises SourceError for a folder that is none of diffusers'."""
    if not (folder / INDEX).is_file():
        files = sorted(path.name for path in folder.glob("*.safetensors"))
        hint = f"; it holds {files[0]}: name that file itself" if files else ""
        raise SourceError(f"{folder} holds no {INDEX}: a folder of diffusers has one{hint}")
    try:
        return read_json(folder / INDEX)
    except ValueError as error:
        raise SourceError(str(error)) from None


def named_parts(index: Mapping[str, Any]) -> dict[str, str]:
    """The parts that an index names, and the class of each."""
    return {
        name: str(entry[1])
        for name, entry in index.items()
        if isinstance(entry, list) and len(entry) == 2 and entry[1]
    }


def has_weights(kind: str) -> bool:
    return not kind.endswith(_WEIGHTLESS)


def choose_files(
    names: Iterable[str], index: Mapping[str, Any], *, variant: str = "", graphs: bool = True
) -> list[str]:
    """Of the files of a folder or hub those that serving needs.

    Weights of one variant; pickles only where a part has nothing else. graphs: take ONNX too
    where there are safetensors.
    """
    listed = sorted(names)
    chosen = [INDEX]
    for part in named_parts(index):
        for folder in (part, *(_HALVES.get(part, ()) if graphs else ())):
            inside = [name for name in listed if PurePosixPath(name).parent.as_posix() == folder]
            chosen += _choose(inside, variant, graphs)
    return chosen


def _choose(names: list[str], variant: str, graphs: bool) -> Iterator[str]:
    safe = [name for name in names if name.endswith(".safetensors")]
    onnx = [name for name in names if name.endswith(_GRAPHS)]
    pickled = [name for name in names if is_pickle(name)]
    weights = safe or ([] if onnx else pickled)
    taken = choose_variant(weights, variant)
    for name in names:
        if name.endswith(".index.json") or ".index." in PurePosixPath(name).name:
            fits = (".safetensors." in name) == bool(safe) and variant_of(name) == taken
            if weights and fits:
                yield name
        elif (
            name.endswith(_TEXTS)
            or (name in weights and variant_of(name) == taken)
            or (name in onnx and (graphs or not safe))
        ):
            yield name


def survey(folder: Path, *, variant: str = "") -> Survey:
    """Look at every file of a model. Raises SourceError for what is missing or broken."""
    index = read_index(folder)
    names = [path.relative_to(folder).as_posix() for path in folder.glob("*/*") if path.is_file()]
    files = choose_files(names, index, variant=variant)
    parts, pickles = [], {}
    for name, kind in named_parts(index).items():
        inside = [file for file in files if file.split("/")[0] in (name, *_HALVES.get(name, ()))]
        if not inside and name in OPTIONAL:
            continue
        if not inside:
            raise SourceError(f"{folder / name} is missing or empty: {INDEX} names {name}, {kind}")
        if not has_weights(kind):
            continue
        found = tuple(file for file in inside if is_pickle(file))
        if found:
            pickles[name] = found
            continue
        parts.append(_look(folder, name, kind, inside))
    return Survey(folder, str(index.get("_class_name")), tuple(parts), tuple(files), pickles)


def _look(folder: Path, name: str, kind: str, inside: list[str]) -> Part:
    weights = [read_weights(folder / file) for file in inside if file.endswith(".safetensors")]
    graphs = sum((folder / file).stat().st_size for file in inside if file.endswith(_GRAPHS))
    if not weights and not graphs:
        raise SourceError(
            f"{folder / name} holds no weights: a .safetensors file or a model.onnx is expected"
        )
    for file in inside:
        if ".index." in file and file.endswith(".json"):
            _check_shards(folder / file)
    return Part(name, kind, tuple(weights), graphs)


def _check_shards(file: Path) -> None:
    try:
        shards = set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError) as error:
        raise SourceError(f"{file} lists no files: {error}") from None
    missing = sorted(name for name in shards if not (file.parent / name).is_file())
    if missing:
        raise SourceError(f"{file.parent / missing[0]} is missing: {file.name} lists it")

"""CLIP's vocabulary for checkpoints that come without one: from a folder, a cache or a package."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

from nerite.diffusion.clip import read_words
from nerite.sources.weights import SourceError

_Words = tuple[dict[str, int], list[tuple[str, str]]]

_FILES = ("vocab.json", "merges.txt")
_MERGES = 49152 - 256 - 2
# Models whose tokenizer this is, as they may lie in the hub's cache: where in them, the file.
_CACHED = (
    ("openai/clip-vit-large-patch14", ""),
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "tokenizer/"),
    ("stabilityai/stable-diffusion-xl-base-1.0", "tokenizer/"),
    ("CompVis/stable-diffusion-v1-4", "tokenizer/"),
)
_START, _END = "<|startoftext|>", "<|endoftext|>"


def write_tokenizer(target: Path, given: Path | None, vocabulary: int, pad: str = _END) -> None:
    """The files of a CLIPTokenizer of so many words in ``target``. Raises SourceError.

    given: a folder that holds them, or holds a folder named tokenizer that does.
    """
    target.mkdir(parents=True)
    words, merges = _in_folder(given) if given is not None else _cached() or _from_package()
    if len(words) != vocabulary:
        raise SourceError(
            f"{given or 'the tokenizer that was found'} has a vocabulary of {len(words)} words, "
            f"and the text encoder knows {vocabulary}: name the model's own with --tokenizer"
        )
    (target / "vocab.json").write_text(json.dumps(words), encoding="utf-8")
    text = "\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n"
    (target / "merges.txt").write_text(text, encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True,
        "bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": pad,
    }  # fmt: skip
    (target / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _in_folder(given: Path) -> _Words:
    for folder in (given, given / "tokenizer"):
        try:
            return read_words(folder)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except ValueError as error:
            raise SourceError(f"--tokenizer: {error}") from None
    raise SourceError(f"--tokenizer {given}: it holds no vocab.json, merges.txt or tokenizer.json")


def _cached() -> _Words | None:
    from huggingface_hub import try_to_load_from_cache

    for name, where in _CACHED:
        files = [try_to_load_from_cache(name, where + file) for file in _FILES]
        if all(isinstance(file, str) for file in files):
            return read_words(Path(str(files[0])).parent)
    return None


def _from_package() -> _Words:
    """Of the list of merges that OpenCLIP's package brings, which is OpenAI's own."""
    spec = importlib.util.find_spec("open_clip")
    places = [] if spec is None else [Path(one) for one in spec.submodule_search_locations or ()]
    for folder in places:
        for file in folder.glob("bpe_simple_vocab*.txt.gz"):
            lines = gzip.decompress(file.read_bytes()).decode().split("\n")
            pairs = [line.split() for line in lines[1 : 1 + _MERGES]]
            merges = [(first, second) for first, second in pairs]
            return _vocabulary(merges), merges
    raise SourceError(
        "a single file brings no tokenizer, and CLIP's is not on this machine: name a folder "
        "that has one with --tokenizer DIR (the tokenizer folder of any Stable Diffusion 1.x or "
        "XL), or `pip install --no-deps open_clip_torch`, whose vocabulary is taken"
    )


def _vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
    """Bytes as letters, the same ending a word, what merges make, and the two ends of a text."""
    letters = _byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += ["".join(pair) for pair in merges]
    return {word: number for number, word in enumerate([*words, _START, _END])}


def _byte_letters() -> list[str]:
    """A letter for each byte: itself where it can be printed, else the next from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + place) for place in range(len(hidden))]

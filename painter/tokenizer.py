"""Our own byte-level vocabulary in CLIP's file format, learnt from the caption grammar."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from painter import words
from painter.captions import caption, nonsense
from painter.data import training_scene

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77
SIZE = 1280
_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def byte_letters() -> list[str]:
    """The printable stand-ins of the 256 bytes, in CLIP's order."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) for byte in shown] + [chr(256 + place) for place in range(len(hidden))]


def bpe(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """The tokenizer that two such files stand for, without the special tokens around."""
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=END, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _corpus() -> Iterator[str]:
    rng = random.Random("vocabulary")
    for _ in range(20_000):
        yield caption(training_scene(rng), rng).text
    for _ in range(2_000):
        yield nonsense(rng)
    for _ in range(40):
        yield words.EXTRA_WORDS


def learn() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges: the bytes, the bytes that end a word, the merges, the specials."""
    letters = byte_letters()
    base = [*letters, *(letter + "</w>" for letter in letters)]
    student = bpe({}, [])
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - 2,
        initial_alphabet=letters,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    student.train_from_iterator(_corpus(), trainer)
    learnt = json.loads(student.to_str())["model"]["merges"]
    room = SIZE - 2 - len(base)
    merges = [(first, second) for first, second in learnt][:room]
    tokens = [*base, *(first + second for first, second in merges), START, END]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}, merges


def edges(tokenizer: Tokenizer) -> tuple[int, int]:
    """The ids of the start and of the end."""
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    if start is None or end is None:
        raise ValueError("the vocabulary lacks its special tokens")
    return start, end


def write(folder: Path) -> None:
    """The four files that ``transformers.CLIPTokenizer`` loads."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = learn()
    lines = ["#version: 0.2", *(f"{first} {second}" for first, second in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": LENGTH,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
        **special,
    }
    files = {
        "vocab.json": vocabulary,
        "tokenizer_config.json": settings,
        "special_tokens_map.json": special,
    }
    for name, content in files.items():
        text = json.dumps(content, ensure_ascii=False, indent=None if name == "vocab.json" else 2)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def load(folder: Path) -> Tokenizer:
    """The fast tokenizer of a written folder, padded to CLIP's length by ``encode_all``."""
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    merges = [(line.split()[0], line.split()[1]) for line in lines]
    return bpe(vocabulary, merges)


def ready(folder: Path) -> Tokenizer:
    """The tokenizer of ``folder``, learnt first where it is not there yet."""
    if not (folder / "vocab.json").exists():
        write(folder)
    return load(folder)


def encode_all(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Rows of 77 ids: start, words, then end up to the length."""
    start, end = edges(tokenizer)
    rows = []
    for found in tokenizer.encode_batch(texts, add_special_tokens=False):
        ids = [start, *found.ids[: LENGTH - 2]]
        rows.append(ids + [end] * (LENGTH - len(ids)))
    return rows

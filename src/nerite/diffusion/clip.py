"""CLIP's tokenizer without transformers: the same ids from the same files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.folder import read_json, read_json_if_there

_MAX_LENGTH = 77
# The tokens that count lie well within; a book sent as a prompt would hold up the others.
_MAX_TEXT = 20_000
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


class ClipTokenizer:
    """Byte-level BPE over lower-cased words, framed by a start and an end token.

    ``folder`` holds vocab.json and merges.txt, or the tokenizer.json that newer versions of
    transformers save instead; tokenizer_config.json and special_tokens_map.json (which wins) name
    the special tokens. Normalisation and word pattern are those of CLIPTokenizerFast.
    """

    def __init__(self, folder: Path) -> None:
        config = read_json_if_there(folder / "tokenizer_config.json")
        config.update(read_json_if_there(folder / "special_tokens_map.json"))
        tokens = {
            "bos_token": config.get("bos_token") or "<|startoftext|>",
            "eos_token": config.get("eos_token") or "<|endoftext|>",
            "unk_token": config.get("unk_token") or "<|endoftext|>",
            "pad_token": config.get("pad_token") or "<|endoftext|>",
        }
        # transformers writes 10 ** 30 where nobody gave a length.
        length = config.get("model_max_length") or _MAX_LENGTH
        self.length = int(length) if length < 1_000_000 else _MAX_LENGTH
        vocabulary, merges = read_words(folder)
        self._tokenizer = _build(vocabulary, merges, tokens)

        self.begin, self.end, self.pad = (
            vocabulary[_content(tokens[role])] for role in ("bos_token", "eos_token", "pad_token")
        )

    def words(self, text: str) -> list[int]:
        """The ids of a text, however long, without the tokens that frame it."""
        ids: list[int] = self._tokenizer.encode(text[:_MAX_TEXT]).ids
        return ids

    def frame(self, ids: Sequence[int]) -> list[int]:
        """As many of ``ids`` as fit, framed by start and end and padded to ``length``."""
        framed = [self.begin, *ids[: self.length - 2], self.end]
        return framed + [self.pad] * (self.length - len(framed))

    def encode(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Token ids, int64 [len(texts), length]: longer texts are cut, shorter ones padded."""
        return np.array([self.frame(self.words(text)) for text in texts], np.int64)

    def spelling(self, token: int) -> str:
        """A token as the vocabulary has it; ``</w>`` ends a word."""
        return str(self._tokenizer.id_to_token(token))


def read_words(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The vocabulary (token -> id) and the merges, most frequent first.

    Raises FileNotFoundError or ValueError where ``folder`` holds none.
    """
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
        pairs = [line.split() for line in lines if line.strip()]
        if lines[0].startswith("#version"):
            pairs = pairs[1:]
        vocabulary = read_json(folder / "vocab.json")
    elif (folder / "tokenizer.json").is_file():
        model = read_json(folder / "tokenizer.json").get("model", {})
        vocabulary, written = model.get("vocab", {}), model.get("merges", [])
        pairs = [pair.split() if isinstance(pair, str) else pair for pair in written]
    else:
        raise FileNotFoundError(f"{folder} needs vocab.json and merges.txt, or tokenizer.json")
    if not vocabulary or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{folder} does not hold a vocabulary and merges of byte-pair encoding")
    return vocabulary, [(first, second) for first, second in pairs]


def _build(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], tokens: dict[str, Any]
) -> Any:
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers

    names = {role: _content(token) for role, token in tokens.items()}
    missing = sorted({name for name in names.values() if name not in vocabulary})
    if missing:
        raise ValueError(f"the tokenizer's vocabulary lacks its special token {missing[0]!r}")
    bpe = models.BPE(
        vocab=vocabulary, merges=merges, unk_token=names["unk_token"], end_of_word_suffix="</w>"
    )
    tokenizer = tokenizers.Tokenizer(bpe)
    spaces = normalizers.Replace(tokenizers.Regex(r"\s+"), " ")
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), spaces, normalizers.Lowercase()]
    )
    words = pre_tokenizers.Split(tokenizers.Regex(_WORDS), "removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.add_special_tokens([_special(token) for token in tokens.values()])
    return tokenizer


def _content(token: str | dict[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])


def _special(token: str | dict[str, Any]) -> Any:
    """A token that is found in a prompt as it is written, before words are split."""
    import tokenizers

    if isinstance(token, str):
        return tokenizers.AddedToken(token, normalized=False, special=True)
    flags = {
        flag: bool(token.get(flag, False))
        for flag in ("single_word", "lstrip", "rstrip", "normalized")
    }
    return tokenizers.AddedToken(token["content"], special=True, **flags)

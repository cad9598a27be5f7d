"""T5's tokenizer from its tokenizer.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_PAD = 0
_MAX_TEXT = 20_000


class T5Tokenizer:
    """Ids as T5TokenizerFast gives them, cut or padded to ``length``."""

    def __init__(self, folder: Path, length: int) -> None:
        import tokenizers

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: T5's tokenizer is read from it")
        self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        self._tokenizer.enable_truncation(length)
        self._tokenizer.enable_padding(length=length, pad_id=_PAD, pad_token="<pad>")

    def encode(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """int64 [len(texts), length]."""
        encodings = self._tokenizer.encode_batch([text[:_MAX_TEXT] for text in texts])
        return np.array([encoding.ids for encoding in encodings], np.int64)

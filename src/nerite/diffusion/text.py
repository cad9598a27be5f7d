"""Prompts into what CLIP makes of them: any length, weighted in parts, as compel does it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.clip import ClipTokenizer
from nerite.diffusion.network import Network
from nerite.diffusion.prompts import parse
from nerite.diffusion.space import Array, Space

MAX_CHUNKS = 16
_MAX_ROWS = 64
_BATCH = 16
_IDS, _MASK = "input_ids", "attention_mask"
_SENTENCES, _PHRASES = (".</w>",), (".</w>", ",</w>", ";</w>", ":</w>")


class Text(NamedTuple):
    """A prompt, and how many of the encoder's last layers it leaves out."""

    words: str
    clip_skip: int = 0


class Encoded(NamedTuple):
    """``context`` is float32 [1, tokens, width], ``pooled`` float32 [1, width] or None."""

    context: Array
    pooled: Array


@dataclass(frozen=True, slots=True)
class Chunks:
    """A prompt cut into pieces that fit the encoder.

    ``ids`` int64 and ``weights`` float32 are [chunks, length]. Each of ``softened`` is the weight
    of a fragment that counts less than 1, with ``masks``, bool [chunks, length], that hide it.
    """

    ids: NDArray[np.int64]
    weights: NDArray[np.float32]
    softened: tuple[float, ...]
    masks: tuple[NDArray[np.bool_], ...]


def cut(tokenizer: ClipTokenizer, prompt: str, *, longer: bool = True) -> Chunks:
    """Raises ValueError for weights or a length beyond what is served.

    Without ``longer`` what does not fit in one chunk is left out.
    """
    fragments = parse(prompt)
    tokens = [tokenizer.words(fragment.text) for fragment in fragments]
    if not longer:
        tokens = _shortened(tokens, tokenizer.length - 2)
    flat = [token for part in tokens for token in part]
    weights = [f.weight for f, part in zip(fragments, tokens, strict=True) for _ in part]
    pieces = list(_pieces(tokenizer, flat))
    if len(pieces) > MAX_CHUNKS:
        most = MAX_CHUNKS * (tokenizer.length - 2)
        raise ValueError(f"it has {len(flat)} tokens, of which about {most} are served")
    grid = np.ones((len(pieces), tokenizer.length), np.float32)
    places, start = [], 0
    for row, count in enumerate(pieces):
        grid[row, 1 : count + 1] = weights[start : start + count]
        places += [row * tokenizer.length + 1 + i for i in range(count)]
        start += count
    starts = np.cumsum([0, *pieces])
    ids = [tokenizer.frame(flat[a:b]) for a, b in zip(starts, starts[1:], strict=False)]
    spans = _softened(fragments, tokens, places)
    if len(spans) * len(pieces) > _MAX_ROWS:
        raise ValueError(f"it weakens {len(spans)} of its parts, more than are served")
    return Chunks(
        np.array(ids, np.int64),
        grid,
        tuple(weight for weight, _, _ in spans),
        tuple(_mask(grid.shape, first, last) for _, first, last in spans),
    )


def _shortened(tokens: Sequence[list[int]], room: int) -> list[list[int]]:
    kept = []
    for part in tokens:
        kept.append(part[:room])
        room -= len(kept[-1])
    return kept


def _softened(
    fragments: Sequence[tuple[str, float]], tokens: Sequence[list[int]], places: Sequence[int]
) -> list[tuple[float, int, int]]:
    """(weight, first place, last place) of each fragment that counts less than 1."""
    spans, at = [], 0
    for (_, weight), part in zip(fragments, tokens, strict=True):
        if weight < 1 and part:
            spans.append((weight, places[at], places[at + len(part) - 1]))
        at += len(part)
    return spans


def _mask(shape: tuple[int, ...], first: int, last: int) -> NDArray[np.bool_]:
    """True where the encoder looks; the tokens that frame a chunk stay seen."""
    seen = np.ones(math.prod(shape), bool)
    seen[first : last + 1] = False
    seen = seen.reshape(shape)
    seen[:, [0, -1]] = True
    return seen


def _pieces(tokenizer: ClipTokenizer, ids: Sequence[int]) -> Iterator[int]:
    """How many tokens each chunk takes: up to a sentence's end, else a phrase's, else a word's."""
    room, start = tokenizer.length - 2, 0
    while len(ids) - start > room:
        spelt = [tokenizer.spelling(token) for token in ids[start : start + room]]
        count = (
            _last(spelt, lambda text: text in _SENTENCES)
            or _last(spelt, lambda text: text in _PHRASES)
            or _last(spelt, lambda text: text.endswith("</w>"))
            or room
        )
        yield count
        start += count
    yield len(ids) - start


def _last(spelt: Sequence[str], fits: Callable[[str], bool]) -> int:
    """One past the last that ``fits``, 0 for none."""
    return next((i + 1 for i in range(len(spelt) - 1, -1, -1) if fits(spelt[i])), 0)


class ClipText:
    """One text encoder with its tokenizer.

    ``hidden`` names the network's output to take, and that for a number of layers to skip;
    ``skipped`` are left out anyway. Where it takes nothing ``longer`` than its own length, a
    prompt is cut off there, as diffusers does.
    """

    def __init__(
        self,
        tokenizer: ClipTokenizer,
        network: Network,
        space: Space,
        hidden: tuple[str, str],
        *,
        pooled: bool,
        longer: bool,
        skipped: int = 0,
    ) -> None:
        self.tokenizer = tokenizer
        self._network = network
        self._space = space
        self._hidden = hidden
        self._pooled = pooled
        self._longer = longer
        self._skipped = skipped
        network.check_output(hidden[0])

    def check(self, text: Text) -> None:
        """Raises ValueError for what cannot be encoded."""
        if len(text.words) > self.tokenizer.length or not text.words.isalnum():
            cut(self.tokenizer, text.words, longer=self._longer)
        self._network.check_output(self._output(text.clip_skip))

    def encode(self, texts: Sequence[Text]) -> list[Encoded]:
        """Every text's rows go through the network together, at most 16 at a time."""
        cuts = [cut(self.tokenizer, text.words, longer=self._longer) for text in texts]
        masked = _MASK in self._network.inputs
        rows: list[tuple[NDArray[np.int64], NDArray[np.bool_]]] = []
        for text, chunks in zip(texts, cuts, strict=True):
            rows += self._rows(text, chunks, masked)
        outputs = tuple(dict.fromkeys(self._output(text.clip_skip) for text in texts))
        results = self._run(rows, outputs)
        encoded, at = [], 0
        for text, chunks in zip(texts, cuts, strict=True):
            count = len(self._rows(text, chunks, masked))
            here = slice(at, at + count)
            states = results[outputs.index(self._output(text.clip_skip))][here]
            pooled = results[-1][here][:1] if self._pooled else None
            encoded.append(Encoded(self._combine(chunks, states), pooled))
            at += count
        return encoded

    def _output(self, skip: int) -> str:
        plain, skipped = self._hidden
        return skipped.format(-(skip + 1 + self._skipped)) if skip else plain

    def _rows(
        self, text: Text, chunks: Chunks, masked: bool
    ) -> list[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
        """The whole text as far as it fits, nothing at all, the chunks, the chunks softened."""
        seen = np.ones(self.tokenizer.length, bool)
        frames = self.tokenizer.encode([text.words, ""])
        rows = [(frame, seen) for frame in frames] + [(ids, seen) for ids in chunks.ids]
        if not self._special(chunks):
            return rows[2:]
        for mask in chunks.masks:
            if masked:
                rows += list(zip(chunks.ids, mask, strict=True))
            else:
                pairs = zip(chunks.ids, mask, strict=True)
                rows += [(self._without(ids, part), seen) for ids, part in pairs]
        return rows

    def _without(self, ids: NDArray[np.int64], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """A chunk without its hidden tokens, for an encoder that cannot hide any."""
        left = [int(token) for token in ids[mask][1:]]
        end = left.index(self.tokenizer.end) if self.tokenizer.end in left else len(left)
        return np.array(self.tokenizer.frame(left[:end]), np.int64)

    @staticmethod
    def _special(chunks: Chunks) -> bool:
        return len(chunks.ids) > 1 or bool((chunks.weights != 1).any())

    def _run(
        self, rows: Sequence[tuple[NDArray[np.int64], NDArray[np.bool_]]], outputs: tuple[str, ...]
    ) -> list[Array]:
        wanted = (*outputs, "pooled") if self._pooled else outputs
        parts = []
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            feeds = {_IDS: self._space.put(np.stack([ids for ids, _ in part]))}
            masks = np.stack([mask for _, mask in part])
            if not masks.all():
                feeds[_MASK] = self._space.put(masks.astype(np.int64))
            parts.append(self._network.run(feeds, wanted))
        return [self._space.concat(column) for column in zip(*parts, strict=True)]

    def _combine(self, chunks: Chunks, states: Array) -> Array:
        """Float32 [1, chunks * length, width] out of the rows that ``_rows`` made."""
        count, width = len(chunks.ids), states.shape[-1]
        if not self._special(chunks):
            return states
        empty = states[1:2]
        extra = self._space.put(chunks.weights[:, :, None] - 1)
        versions = [
            states[i : i + count] + (states[i : i + count] - empty) * extra
            for i in range(2, len(states), count)
        ]
        # A weight of 1 means no step towards the version without the fragment, one of 0 all.
        steps = [1.0, *(math.tan((1 - max(1e-5, w)) * math.pi / 2) for w in chunks.softened)]
        total = sum(steps)
        mixed = sum(version * (step / total) for version, step in zip(versions, steps, strict=True))
        return mixed.reshape(1, -1, width)

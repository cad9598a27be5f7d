"""A family's networks as a pipeline whose requests join and leave between any two steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.denoise import Forward, denoise, in_fixed_batches
from nerite.diffusion.embeddings import Embeddings
from nerite.diffusion.images import to_mask, to_network
from nerite.diffusion.job import Conditioning, InvalidParams, Job, Kept, Params, Work
from nerite.diffusion.limits import Limits
from nerite.diffusion.memory import Memory, measure
from nerite.diffusion.samplers import SLOTS, Table, build_table
from nerite.diffusion.space import Array, Generator, Space
from nerite.diffusion.text import Text
from nerite.diffusion.vae import Vae

_EMBEDDINGS = 256 << 20
_PROMPTS = 512  # who asks again does so soon, and a small model's bytes would fill up for days
_TABLES = 256
_BLANK = ""


class Family(Protocol):
    """What one architecture adds; one file of ``families/`` each."""

    limits: Limits
    space: Space
    vae: Vae
    schedule: Mapping[str, Any]
    """The scheduler's options as the family bends them."""
    extra_channels: int
    """Of the denoiser's input: a mask and the picture under it, or 0."""
    guides: bool
    """Whether guidance takes a second branch; a distilled network takes the scale itself."""
    zeros_without_negative: bool
    """Whether an empty negative prompt stands for zeros."""

    def check_text(self, text: Text) -> None:
        """Raises ValueError for a prompt that cannot be encoded."""
        ...

    def encode(self, texts: Sequence[Text]) -> list[Conditioning]:
        """The denoiser's inputs for each text, one row each."""
        ...

    def conditions(self, params: Params) -> Conditioning:
        """Its inputs that come from the request's other words, one row each."""
        ...

    def forward(self, latents: Array, timesteps: Array, conditioning: Conditioning) -> Array:
        """See denoise.Forward."""
        ...

    def begin(self, steps: int, strength: float) -> int:
        """The first step of a picture that starts from an image."""
        ...

    def tokens(self, params: Params) -> int:
        """How many patches the denoiser sees, where the sampler wants to know."""
        ...


class Stepwise:
    """See pipeline.Pipeline. ``fixed_rows`` makes every forward as many rows wide."""

    def __init__(self, family: Family, *, fixed_rows: int | None = None) -> None:
        self._family = family
        self._space = family.space
        self.limits = family.limits
        self.scheduler = str(family.schedule.get("_class_name", ""))
        self._embeddings = Embeddings(_EMBEDDINGS, _PROMPTS)
        self.embeddings: Embeddings | None = self._embeddings
        self._fixed = fixed_rows is not None
        family.vae.fixed = self._fixed
        self._forward: Forward = family.forward
        if fixed_rows is not None:
            self._forward = in_fixed_batches(family.forward, fixed_rows, self._space)
        self._table: Callable[[str | None, int, int, int], Table]
        self._table = lru_cache(_TABLES)(self._build_table)

    def check(self, params: Params) -> None:
        self.limits.check(params)
        self._check_image(params)
        for field in ("prompt", "negative_prompt"):
            text = Text(getattr(params, field), params.clip_skip if field == "prompt" else 0)
            try:
                self._family.check_text(text)
            except ValueError as error:
                guilty = "clip_skip" if "clip_skip" in str(error) else field
                raise InvalidParams(guilty, f"{guilty}: {error}") from None
        try:
            self._table_of(params)
        except ValueError as error:
            guilty = "steps" if str(error).startswith("steps") else "scheduler"
            said = str(error) if str(error).startswith(guilty) else f"{guilty}: {error}"
            raise InvalidParams(guilty, said) from None

    def _check_image(self, params: Params) -> None:
        if params.image is not None and not self._family.vae.encodes:
            text = "image: this model was exported without its vae_encoder, so it takes none"
            raise InvalidParams("image", text)
        if self._family.extra_channels and params.mask is None:
            text = "mask is missing: this model paints under masks only, it needs image and mask"
            raise InvalidParams("mask", text)
        if params.image is None:
            return
        if not 0 <= self._begin(params) < params.steps:
            least = 1 / params.steps
            raise InvalidParams(
                "strength",
                f"strength is {params.chosen_strength:g}, which leaves none of {params.steps} "
                f"steps: it must be at least {least:.3g}",
            )

    def start(self, requests: Sequence[Params]) -> list[Job]:
        texts: dict[tuple[Text, bool], None] = {}
        for params in requests:
            texts |= dict.fromkeys(self._texts(params))
        rows = self._encode(list(texts))
        return [self._start(params, rows) for params in requests]

    def _texts(self, params: Params) -> list[tuple[Text, bool]]:
        """What a request has encoded, and whether as zeros: prompt, negative prompt, padding."""
        found = [(Text(params.prompt, params.clip_skip), False)]
        if params.guided and self._family.guides:
            zeros = self._family.zeros_without_negative and not params.negative_prompt
            found += [(Text(params.negative_prompt), zeros), (Text(_BLANK), False)]
        return found

    def _encode(self, texts: Sequence[tuple[Text, bool]]) -> dict[tuple[Text, bool], Conditioning]:
        known = {text: found for text, _ in texts if (found := self._embeddings.get(text))}
        missing = list(dict.fromkeys(text for text, _ in texts if text not in known))
        for part in [[text] for text in missing] if self._fixed else [missing]:
            for text, encoded in zip(part, self._family.encode(part) if part else [], strict=True):
                known[text] = encoded
                self._embeddings.put(text, encoded)
        factors = {True: 0, False: 1}
        return {
            (text, zeros): {name: row * factors[zeros] for name, row in known[text].items()}
            for text, zeros in texts
        }

    def _start(self, params: Params, rows: Mapping[tuple[Text, bool], Conditioning]) -> Job:
        own, *others = self._texts(params)
        positive, negative = rows[own], rows[others[0]] if others else None
        if negative is not None:
            positive, negative = self._same_length(positive, negative, rows[others[1]])
        conditions = self._family.conditions(params)
        table = self._table_of(params)
        generators = [self._space.generator(params.seed + k) for k in range(params.num_images)]
        latents, kept, extra = self._first_latents(params, table, generators)
        blank = self._space.concat([latents[:, None] * 0] * (SLOTS - 1), axis=1)
        return Job(
            params=params,
            table=table,
            states=self._space.concat([latents[:, None], blank], axis=1),
            positive={**positive, **conditions},
            negative=None if negative is None else {**negative, **conditions},
            generators=generators,
            kept=kept,
            extra=extra,
        )

    def _same_length(
        self, one: Conditioning, other: Conditioning, empty: Conditioning
    ) -> tuple[Conditioning, Conditioning]:
        """Both filled up with what nothing at all is encoded to."""
        longest = max(_length(one), _length(other))
        return self._fill(one, longest, empty), self._fill(other, longest, empty)

    def _fill(self, row: Conditioning, length: int, empty: Conditioning) -> Conditioning:
        missing = (length - _length(row)) // _length(empty)
        if not missing:
            return row
        return {
            name: self._space.concat([tensor, *[empty[name]] * missing], axis=1)
            if len(tensor.shape) == 3
            else tensor
            for name, tensor in row.items()
        }

    def _first_latents(
        self, params: Params, table: Table, generators: Sequence[Generator]
    ) -> tuple[Array, Kept | None, Array | None]:
        """The latents of the first step, what a mask keeps, and the network's extra channels.

        The draws come in the order of diffusers' pipelines: image, noise, masked image.
        """
        vae, masked = self._family.vae, params.mask is not None
        size = (params.height // vae.pixels, params.width // vae.pixels)
        pure = masked and params.chosen_strength == 1
        image = pixels = None
        if params.image is not None:
            pixels = to_network(params.image, params.width, params.height)
            if not (pure and self._family.extra_channels):
                image = vae.encode(pixels, generators)
        shape = (1, vae.channels, *size)
        noise = self._space.concat([generator.normal(shape) for generator in generators])
        latents = noise * table.initial_scale
        if image is not None and not pure:
            latents = table.levels[0].signal * image + table.levels[0].noise * noise
        if pixels is None or params.mask is None:
            return latents, None, None
        mask = to_mask(params.mask, params.width, params.height)
        under = vae.encode(pixels * (mask < 0.5), generators)
        small = self._space.put(np.ascontiguousarray(mask[:, :, :: vae.pixels, :: vae.pixels]))
        masks = self._space.concat([small] * params.num_images)
        if self._family.extra_channels:
            return latents, None, self._space.concat([masks, under], axis=1)
        return latents, Kept(image, noise, masks), None

    def step(self, works: Sequence[Work]) -> None:
        denoise(cast(Sequence[Job], works), self._forward, self._space)
        self._space.pace()

    def decode(self, images: Sequence[tuple[Work, int]]) -> NDArray[np.uint8]:
        latents = [cast(Job, work).latents[k : k + 1] for work, k in images]
        return self._family.vae.decode(self._space.concat(latents))

    def preview(self, work: Work, *, exact: bool) -> NDArray[np.uint8] | None:
        job = cast(Job, work)
        latents = (job.latents if job.clean is None else job.clean)[:1]
        return self._family.vae.decode(latents)[0] if exact else self._family.vae.sketch(latents)

    def drop(self, work: Work) -> None: ...

    def measure(self) -> Memory:
        return measure(self, self._space)

    def trim(self) -> None:
        self._space.trim()

    def probe(self, rows: int) -> None:
        """Step over nothing, at the usual size, with so many rows; for measuring."""
        params = Params(
            _BLANK, width=self.limits.width, height=self.limits.height, steps=4,
            guidance_scale=1, num_images=rows,
        )  # fmt: skip
        if self._family.extra_channels:
            blank = np.zeros((self.limits.height, self.limits.width, 3), np.uint8)
            params = replace(params, image=blank, mask=blank[:, :, 0])
        self.step(self.start([params]))

    def probe_decoder(self) -> None:
        """Decode nothing, at the usual size, and learn its colours; for measuring."""
        vae = self._family.vae
        shape = (1, vae.channels, self.limits.height // vae.pixels, self.limits.width // vae.pixels)
        latents = self._space.put(np.zeros(shape, np.float32))
        vae.sketch(latents)
        vae.decode(latents)

    def _begin(self, params: Params) -> int:
        if params.image is None:
            return 0
        return self._family.begin(params.steps, params.chosen_strength)

    def _table_of(self, params: Params) -> Table:
        begin, tokens = self._begin(params), self._family.tokens(params)
        return self._table(params.scheduler, params.steps, begin, tokens)

    def _build_table(self, scheduler: str | None, steps: int, begin: int, tokens: int) -> Table:
        schedule = self._family.schedule
        return build_table(schedule, steps, scheduler, begin=begin, tokens=tokens)


def _length(row: Conditioning) -> int:
    return max((tensor.shape[1] for tensor in row.values() if len(tensor.shape) == 3), default=1)

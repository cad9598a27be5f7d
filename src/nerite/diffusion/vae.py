"""The autoencoder between pixels and latents: scaled as its config says, and seen cheaply."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.images import to_pixels
from nerite.diffusion.network import Network, Runtime, expect_inputs
from nerite.diffusion.space import Array, Generator, Space, is_out_of_memory

_log = logging.getLogger(__name__)

# One decoder call takes this many pixels; more at a time would only cost memory.
_CALL_PIXELS = 512 * 512
_PROBE = 16  # a latent side of what colours are learnt from


class Vae:
    """``config`` is vae/config.json; ``channels`` are the latents'."""

    def __init__(self, runtime: Runtime, config: Mapping[str, Any], channels: int) -> None:
        self._space: Space = runtime.space
        self._decoder = runtime.load("vae_decoder")
        self._latents = next(iter(self._decoder.inputs))
        expect_inputs(self._decoder, "vae_decoder", {self._latents: "b?hw"})
        self._encoder: Network | None = None
        if runtime.has("vae_encoder"):
            self._encoder = runtime.load("vae_encoder")
        self.channels = channels
        self.pixels: int = 2 ** halvings(config)
        """A latent's side, in pixels."""
        mean = np.array(config.get("latents_mean") or [config.get("shift_factor") or 0.0])
        deviation = np.array(config.get("latents_std") or [1.0])
        scale = deviation / float(config.get("scaling_factor") or 0.18215)
        self._scale = self._space.put(scale.reshape(1, -1, 1, 1))
        self._shift = self._space.put(mean.reshape(1, -1, 1, 1))
        self._colours: NDArray[np.float32] | None = None
        self.fixed = False

    @property
    def encodes(self) -> bool:
        return self._encoder is not None

    def decode(self, latents: Array) -> NDArray[np.uint8]:
        """Float32 [n, channels, h, w] of the sampler into uint8 [n, h * 8, w * 8, 3]."""
        pixels = latents.shape[2] * latents.shape[3] * self.pixels**2
        batch = 1 if self.fixed else max(1, _CALL_PIXELS // pixels)
        raw = latents * self._scale + self._shift
        parts = [self._decode(raw[i : i + batch]) for i in range(0, len(raw), batch)]
        return to_pixels(np.concatenate(parts))

    def _decode(self, raw: Array) -> NDArray[Any]:
        try:
            return self._space.take(self._decoder.run({self._latents: raw})[0])
        except Exception as error:
            if len(raw) > 1 or not is_out_of_memory(error) or not self._decoder.save_memory():
                raise
        _log.warning("memory ran out over one picture: the VAE works in tiles now")
        self._space.trim()
        return self._space.take(self._decoder.run({self._latents: raw})[0])

    def try_decode(self, latents: Array) -> None:
        """Raises ValueError where the decoder makes something else than pixels of ``latents``."""
        image = self._decode(latents)
        expected = (len(latents), 3, *(side * self.pixels for side in latents.shape[2:]))
        if image.shape != expected:
            raise ValueError(f"the decoder made {image.shape} where {expected} is expected")

    def encode(self, image: NDArray[np.float32], generators: Sequence[Generator]) -> Array:
        """Float32 [1, 3, h, w] into latents [n, channels, h / 8, w / 8], one per generator.

        Every generator draws once: an encoder gives a distribution, and one that gives only its
        middle is taken at its word.
        """
        assert self._encoder is not None
        feeds = {next(iter(self._encoder.inputs)): self._space.put(image)}
        moments = self._encoder.run(feeds)[0]
        middle = moments[:, : self.channels]
        noises = [generator.normal(tuple(middle.shape)) for generator in generators]
        raw = [middle for _ in generators]
        if moments.shape[1] == 2 * self.channels:
            spread = moments[:, self.channels :].clip(-30, 20)
            deviation = self._space.put(np.exp(0.5 * self._space.take(spread)))
            raw = [middle + deviation * noise for noise in noises]
        return (self._space.concat(raw) - self._shift) / self._scale

    def sketch(self, latents: Array) -> NDArray[np.uint8]:
        """Float32 [1, channels, h, w] into uint8 [h, w, 3], one pixel per latent, in a moment."""
        if self._colours is None:
            self._colours = self._learn_colours()
        values = self._space.take(latents)[0]
        ones = np.ones((1, *values.shape[1:]), np.float32)
        seen = np.einsum("chw,cr->rhw", np.concatenate([values, ones]), self._colours)
        pixels: NDArray[np.uint8] = to_pixels(seen[None])[0]
        return pixels

    def _learn_colours(self) -> NDArray[np.float32]:
        """The linear map, float32 [channels + 1, 3], that comes closest to the decoder.

        Fitted to what it makes of blots of noise, which needs no table of known models.
        """
        random = np.random.default_rng(0)
        blots = random.normal(size=(4, self.channels, _PROBE // 4, _PROBE // 4))
        latents = blots.repeat(4, axis=2).repeat(4, axis=3).astype(np.float32)
        raw = self._space.put(latents) * self._scale + self._shift
        decoded = np.concatenate([self._decode(raw[i : i + 1]) for i in range(len(latents))])
        shape = (len(latents), 3, _PROBE, self.pixels, _PROBE, self.pixels)
        colours = np.nan_to_num(decoded).reshape(shape).mean(axis=(3, 5))
        inputs = latents.transpose(0, 2, 3, 1).reshape(-1, self.channels)
        inputs = np.concatenate([inputs, np.ones((len(inputs), 1), np.float32)], axis=1)
        outputs = colours.transpose(0, 2, 3, 1).reshape(-1, 3)
        solved: NDArray[np.float32] = np.linalg.lstsq(inputs, outputs, rcond=None)[0]
        return solved.astype(np.float32)


def halvings(config: Mapping[str, Any]) -> int:
    """How often a UNet or VAE halves its input's sides; Stable Diffusion's do so three times."""
    return len(config.get("block_out_channels") or [0] * 4) - 1

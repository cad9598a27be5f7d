"""Stable Diffusion 1.x and 2.x, and what shares their three networks: the embedded painter."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nerite.diffusion.clip import ClipTokenizer
from nerite.diffusion.families.unet import Unet, guidance_embedding, read_schedule, unet_limits
from nerite.diffusion.folder import read_json_if_there
from nerite.diffusion.job import Conditioning, Params
from nerite.diffusion.network import Runtime, expect_inputs
from nerite.diffusion.space import Array
from nerite.diffusion.text import ClipText, Text
from nerite.diffusion.vae import Vae, halvings

_CONTEXT = "encoder_hidden_states"


class StableDiffusion:
    """CLIP text encoder, UNet and VAE (see stepwise.Family)."""

    zeros_without_negative = False

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        """Raises FileNotFoundError or ValueError for a folder that cannot be served."""
        # The pipeline's constructor insists on these two; latents have no range to be clipped to.
        self.schedule: Mapping[str, Any] = read_schedule(folder, {"steps_offset": 1})
        self.space = runtime.space
        encoder = runtime.load("text_encoder")
        expect_inputs(encoder, "text_encoder", {"input_ids": "b?", "?attention_mask": "b?"})
        unet = read_json_if_there(folder / "unet" / "config.json")
        self._unet = Unet(runtime, unet, {_CONTEXT: "b??", "?timestep_cond": "b?"})
        self._text = ClipText(
            ClipTokenizer(folder / "tokenizer"),
            encoder,
            self.space,
            ("", "normed.{}"),
            pooled=False,
            longer=self._unet.takes_any_length(_CONTEXT),
        )
        vae = read_json_if_there(folder / "vae" / "config.json")
        vae = vae or read_json_if_there(folder / "vae_decoder" / "config.json")
        self.vae = Vae(runtime, vae, self._unet.channels)
        self.extra_channels = self._unet.extra_channels
        self._guidance_width = int(unet.get("time_cond_proj_dim") or 0)
        self.guides = not self._guidance_width
        multiple = self.vae.pixels * self._try_networks(2 ** halvings(unet))
        self.limits = unet_limits(unet, self.vae.pixels, multiple, self.schedule)

    def check_text(self, text: Text) -> None:
        self._text.check(text)

    def encode(self, texts: Sequence[Text]) -> list[Conditioning]:
        return [{_CONTEXT: encoded.context} for encoded in self._text.encode(texts)]

    def conditions(self, params: Params) -> Conditioning:
        if not self._guidance_width:
            return {}
        embedded = guidance_embedding(params.guidance_scale, self._guidance_width)
        return {"timestep_cond": self.space.put(embedded)}

    def forward(self, latents: Array, timesteps: Array, conditioning: Conditioning) -> Array:
        return self._unet.forward(latents, timesteps, conditioning)

    def begin(self, steps: int, strength: float) -> int:
        return steps - min(int(steps * strength), steps)

    def tokens(self, params: Params) -> int:
        return 0

    def _try_networks(self, exact: int) -> int:
        """What latents' sides must be a multiple of: 1, or ``exact`` for a plainer export.

        Traced at an even size, a UNet doubles on its way up what it halved on its way down, and
        fails on sides that were rounded. Whether rows may differ in their timesteps is found out
        too. Raises ValueError where the networks do not fit.
        """
        failure: Exception | None = None
        for multiple, per_row in itertools.product((1, exact), self._unet.ways()):
            self._unet.timestep_per_row = per_row
            try:
                self._paint_nothing(exact + 1 if multiple == 1 else exact)
                return multiple
            except Exception as error:
                failure = error
        raise ValueError(f"the model's networks do not work together: {failure}") from failure

    def _paint_nothing(self, size: int) -> None:
        """A small pass of two rows through all networks; raises what they raise."""
        encoded = self.encode([Text(""), Text("a")])
        rows = {_CONTEXT: self.space.concat([row[_CONTEXT] for row in encoded])}
        condition = self.conditions(Params(""))
        rows |= {name: self.space.concat([row, row]) for name, row in condition.items()}
        channels = self.vae.channels + self.extra_channels
        latents = self.space.put(np.zeros((2, channels, size, size), np.float32))
        timesteps = self.space.put(np.arange(2, dtype=np.float32))
        self.vae.try_decode(self.forward(latents, timesteps, rows))

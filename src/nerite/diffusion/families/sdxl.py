"""Stable Diffusion XL, base and Turbo: two text encoders, and a UNet that is told sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nerite.diffusion.clip import ClipTokenizer
from nerite.diffusion.families.unet import Unet, guidance_embedding, read_schedule, unet_limits
from nerite.diffusion.folder import INDEX, read_json, read_json_if_there
from nerite.diffusion.job import Conditioning, Params
from nerite.diffusion.network import Runtime
from nerite.diffusion.space import Array
from nerite.diffusion.text import ClipText, Text
from nerite.diffusion.vae import Vae, halvings

_CONTEXT, _POOLED, _SIZES = "encoder_hidden_states", "text_embeds", "time_ids"


class StableDiffusionXL:
    """Two CLIP text encoders, UNet and VAE (see stepwise.Family)."""

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        """Raises FileNotFoundError or ValueError for a folder that cannot be served."""
        index = read_json(folder / INDEX)
        if index.get("requires_aesthetics_score"):
            raise ValueError("an SDXL refiner paints over pictures of the base model only")
        self.zeros_without_negative = bool(index.get("force_zeros_for_empty_prompt", True))
        self.schedule: Mapping[str, Any] = read_schedule(folder, {})
        self.space = runtime.space
        unet = read_json_if_there(folder / "unet" / "config.json")
        further = {_CONTEXT: "b??", _POOLED: "b?", _SIZES: "b?", "?timestep_cond": "b?"}
        self._unet = Unet(runtime, unet, further)
        self._texts = [
            ClipText(
                ClipTokenizer(folder / f"tokenizer{suffix}"),
                runtime.load(f"text_encoder{suffix}"),
                self.space,
                ("hidden_states.-2", "hidden_states.{}"),
                pooled=bool(suffix),
                longer=self._unet.takes_any_length(_CONTEXT),
                skipped=1,
            )
            for suffix in ("", "_2")
        ]
        vae = read_json_if_there(folder / "vae" / "config.json")
        vae = vae or read_json_if_there(folder / "vae_decoder" / "config.json")
        self.vae = Vae(runtime, vae, self._unet.channels)
        self.extra_channels = self._unet.extra_channels
        self._guidance_width = int(unet.get("time_cond_proj_dim") or 0)
        self.guides = not self._guidance_width
        multiple = self.vae.pixels * 2 ** halvings(unet) if self._unet.rigid else self.vae.pixels
        limits = unet_limits(unet, self.vae.pixels, multiple, self.schedule)
        self.limits = replace(limits, guidance_scale=5.0)

    def check_text(self, text: Text) -> None:
        for encoder in self._texts:
            encoder.check(text)

    def encode(self, texts: Sequence[Text]) -> list[Conditioning]:
        first, second = (encoder.encode(texts) for encoder in self._texts)
        return [
            {_CONTEXT: self.space.concat([a.context, b.context], axis=2), _POOLED: b.pooled}
            for a, b in zip(first, second, strict=True)
        ]

    def conditions(self, params: Params) -> Conditioning:
        """The picture's size, where it was cropped, and the size that was meant."""
        height, width = params.height, params.width
        sizes = np.array([[height, width, 0, 0, height, width]], np.float32)
        conditions = {_SIZES: self.space.put(sizes)}
        if self._guidance_width:
            embedded = guidance_embedding(params.guidance_scale, self._guidance_width)
            conditions["timestep_cond"] = self.space.put(embedded)
        return conditions

    def forward(self, latents: Array, timesteps: Array, conditioning: Conditioning) -> Array:
        return self._unet.forward(latents, timesteps, conditioning)

    def begin(self, steps: int, strength: float) -> int:
        return steps - min(int(steps * strength), steps)

    def tokens(self, params: Params) -> int:
        return 0

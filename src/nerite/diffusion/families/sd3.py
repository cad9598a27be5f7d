"""Stable Diffusion 3 and 3.5: a transformer trained by flow matching; T5 may be left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nerite.diffusion.clip import ClipTokenizer
from nerite.diffusion.families.unet import read_schedule
from nerite.diffusion.folder import read_json, read_json_if_there
from nerite.diffusion.job import Conditioning, Params
from nerite.diffusion.limits import Limits
from nerite.diffusion.network import Network, Runtime, expect_inputs
from nerite.diffusion.space import Array
from nerite.diffusion.t5 import T5Tokenizer
from nerite.diffusion.text import ClipText, Text
from nerite.diffusion.vae import Vae

_CONTEXT, _POOLED = "encoder_hidden_states", "pooled_projections"
_T5_TOKENS = 256


class StableDiffusion3:
    """Two CLIP text encoders, T5 or none, transformer and VAE (see stepwise.Family)."""

    guides = True
    zeros_without_negative = False

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        """Raises FileNotFoundError or ValueError for a folder that cannot be served."""
        self.schedule: Mapping[str, Any] = read_schedule(folder, {})
        self.space = runtime.space
        config = read_json(folder / "transformer" / "config.json")
        self._patch = int(config.get("patch_size", 2))
        self._width = int(config.get("joint_attention_dim", 4096))
        self._transformer = runtime.load("transformer")
        expect_inputs(
            self._transformer,
            "transformer",
            {"hidden_states": "b?hw", "timestep": "b", _CONTEXT: "b??", _POOLED: "b?"},
        )
        self._texts = [
            ClipText(
                ClipTokenizer(folder / f"tokenizer{suffix}"),
                runtime.load(f"text_encoder{suffix}"),
                self.space,
                ("hidden_states.-2", "hidden_states.{}"),
                pooled=True,
                longer=False,
                skipped=1,
            )
            for suffix in ("", "_2")
        ]
        self._t5: tuple[T5Tokenizer, Network] | None = None
        if runtime.has("text_encoder_3"):
            tokenizer = T5Tokenizer(folder / "tokenizer_3", _T5_TOKENS)
            self._t5 = tokenizer, runtime.load("text_encoder_3")
        vae = read_json_if_there(folder / "vae" / "config.json")
        vae = vae or read_json_if_there(folder / "vae_decoder" / "config.json")
        channels = int(config.get("out_channels") or config.get("in_channels", 16))
        self.vae = Vae(runtime, vae, channels)
        self.extra_channels = int(config.get("in_channels", 16)) - channels
        self.limits = self._read_limits(config)

    def _read_limits(self, config: Mapping[str, Any]) -> Limits:
        side = int(config.get("sample_size", 128)) * self.vae.pixels
        multiple = self._patch * self.vae.pixels
        return Limits(
            width=side,
            height=side,
            min_size=max(64, multiple),
            # Positions beyond this were never learnt.
            max_size=int(config.get("pos_embed_max_size", 96)) * multiple,
            size_multiple=multiple,
            max_steps=int(self.schedule.get("num_train_timesteps", 1000)),
            steps=28,
            guidance_scale=7.0,
        )

    def check_text(self, text: Text) -> None:
        for encoder in self._texts:
            encoder.check(text)

    def encode(self, texts: Sequence[Text]) -> list[Conditioning]:
        first, second = (encoder.encode(texts) for encoder in self._texts)
        third = self._encode_t5(texts)
        encoded: list[Conditioning] = []
        for row, (a, b) in enumerate(zip(first, second, strict=True)):
            clip = self.space.concat([a.context, b.context], axis=2)
            missing = third.shape[2] - clip.shape[2]
            if missing:
                blank = np.zeros((1, clip.shape[1], missing), np.float32)
                clip = self.space.concat([clip, self.space.put(blank)], axis=2)
            context = self.space.concat([clip, third[row : row + 1]], axis=1)
            pooled = self.space.concat([a.pooled, b.pooled], axis=1)
            encoded.append({_CONTEXT: context, _POOLED: pooled})
        return encoded

    def _encode_t5(self, texts: Sequence[Text]) -> Array:
        """Float32 [texts, 256, width]: T5's words for each text, zeros where there is no T5."""
        if self._t5 is None:
            return self.space.put(np.zeros((len(texts), _T5_TOKENS, self._width), np.float32))
        tokenizer, network = self._t5
        ids = tokenizer.encode([text.words for text in texts])
        return network.run({"input_ids": self.space.put(ids)})[0]

    def conditions(self, params: Params) -> Conditioning:
        return {}

    def forward(self, latents: Array, timesteps: Array, conditioning: Conditioning) -> Array:
        feeds = {"hidden_states": latents, "timestep": timesteps, **conditioning}
        return self._transformer.run(feeds)[0]

    def begin(self, steps: int, strength: float) -> int:
        skipped: float = steps - min(steps * strength, steps)
        return int(skipped)

    def tokens(self, params: Params) -> int:
        side = self._patch * self.vae.pixels
        return (params.height // side) * (params.width // side)

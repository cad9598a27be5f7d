"""Stable Diffusion 1.x, and what shares its three networks: 2.x, the embedded painter."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.clip import ClipTokenizer
from nerite.diffusion.denoise import denoise
from nerite.diffusion.folder import read_json, read_json_if_there
from nerite.diffusion.job import Array, Conditioning, InvalidParams, Job, Painted, Params
from nerite.diffusion.limits import Limits
from nerite.diffusion.network import Loader, expect_inputs
from nerite.diffusion.noise import TorchGenerator
from nerite.diffusion.samplers import SLOTS, build_table

_log = logging.getLogger(__name__)

_IDS, _CONTEXT = "input_ids", "encoder_hidden_states"
# One decoder call takes this many pixels; more at a time would only cost memory.
_DECODE_PIXELS = 512 * 512


class StableDiffusion:
    """CLIP text encoder, UNet and VAE decoder (see pipeline.Pipeline for the methods)."""

    def __init__(self, folder: Path, load: Loader) -> None:
        """Raises FileNotFoundError or ValueError for a folder that cannot be served."""
        self._schedule = _read_schedule(folder)
        self._tokenizer = ClipTokenizer(folder / "tokenizer")
        self._text_encoder, self._unet = load("text_encoder"), load("unet")
        self._decoder = load("vae_decoder")
        expect_inputs(self._text_encoder, "text_encoder", {_IDS: "b?"})
        expect_inputs(self._unet, "unet", {"sample": "b?hw", "timestep": None, _CONTEXT: "b??"})
        self._latents_name = next(iter(self._decoder.inputs))
        expect_inputs(self._decoder, "vae_decoder", {self._latents_name: "b?hw"})
        unet = read_json_if_there(folder / "unet" / "config.json")
        vae = read_json_if_there(folder / "vae" / "config.json")
        vae = vae or read_json_if_there(folder / "vae_decoder" / "config.json")
        self._channels = _read_channels(unet, self._unet.inputs["sample"].shape[1])
        self._latent_scale = np.float32(vae.get("scaling_factor") or 0.18215)
        self._pixels = 2 ** _halvings(vae)
        multiple = self._pixels * self._try_networks(2 ** _halvings(unet))
        steps = int(self._schedule.get("num_train_timesteps", 1000))
        self.limits = _read_limits(unet, self._pixels, multiple, steps)

    def check(self, params: Params) -> None:
        self.limits.check(params)
        if params.scheduler is not None:
            try:
                build_table(self._schedule, 1, params.scheduler)
            except ValueError as error:
                raise InvalidParams("scheduler", f"scheduler: {error}") from None

    def start(self, requests: Sequence[Params]) -> list[Job]:
        texts = dict.fromkeys(params.prompt for params in requests)
        texts |= dict.fromkeys(params.negative_prompt for params in requests if params.guided)
        embedded = self._text_encoder.run({_IDS: self._tokenizer.encode(list(texts))})
        rows = {text: {_CONTEXT: embedded[i : i + 1]} for i, text in enumerate(texts)}
        return [
            self._start(
                params,
                rows[params.prompt],
                rows[params.negative_prompt] if params.guided else None,
            )
            for params in requests
        ]

    def _start(self, params: Params, positive: Conditioning, negative: Conditioning | None) -> Job:
        table = build_table(self._schedule, params.steps, params.scheduler)
        generators = [TorchGenerator(params.seed + k) for k in range(params.num_images)]
        size = (params.height // self._pixels, params.width // self._pixels)
        shape = (1, self._channels, *size)
        noise = np.concatenate([generator.normal(shape) for generator in generators])
        states = np.zeros((params.num_images, SLOTS, *shape[1:]), np.float32)
        states[:, 0] = noise * np.float32(table.initial_scale)
        return Job(params, table, states, positive, negative, generators)

    def step(self, jobs: Sequence[Job]) -> None:
        denoise(jobs, self._forward)

    def finish(self, jobs: Sequence[Job]) -> list[Painted]:
        latents = np.concatenate([job.latents for job in jobs]) / self._latent_scale
        pixels = jobs[0].params.width * jobs[0].params.height
        batch = max(1, _DECODE_PIXELS // pixels)
        images = np.concatenate(
            [
                _to_pixels(self._decoder.run({self._latents_name: latents[i : i + batch]}))
                for i in range(0, len(latents), batch)
            ]
        )
        ends = np.cumsum([job.rows for job in jobs])
        parts = np.split(images, ends[:-1])
        return [Painted(part, job.params.seed) for job, part in zip(jobs, parts, strict=True)]

    def _forward(self, latents: Array, timesteps: Array, conditioning: Conditioning) -> Array:
        feeds = {"sample": latents, "timestep": timesteps, **conditioning}
        return self._unet.run(feeds) if self._timestep_per_row else self._by_timestep(feeds)

    def _by_timestep(self, feeds: Mapping[str, Array]) -> Array:
        """One forward per distinct timestep, for a graph that takes a single one."""
        outputs = np.empty(feeds["sample"].shape, np.float32)
        shape = (1,) * len(self._unet.inputs["timestep"].shape)
        for timestep in np.unique(feeds["timestep"]):
            rows = np.flatnonzero(feeds["timestep"] == timestep)
            chosen = {name: value[rows] for name, value in feeds.items()}
            chosen["timestep"] = np.full(shape, timestep)
            outputs[rows] = self._unet.run(chosen)
        return outputs

    def _try_networks(self, exact: int) -> int:
        """What latents' sides must be a multiple of: 1, or ``exact`` for a plainer export.

        Traced at an even size, a UNet doubles on its way up what it halved on its way down, and
        fails on sides that were rounded. Whether rows may differ in their timesteps is found out
        too. Raises ValueError where the networks do not fit.
        """
        shape = self._unet.inputs["timestep"].shape
        vector = len(shape) == 1 and not isinstance(shape[0], int)
        failure: Exception | None = None
        for multiple, per_row in itertools.product((1, exact), (True, False)[not vector :]):
            self._timestep_per_row = per_row
            try:
                self._paint_nothing(exact + 1 if multiple == 1 else exact)
                return multiple
            except Exception as error:
                failure = error
        raise ValueError(f"the model's networks do not work together: {failure}") from failure

    def _paint_nothing(self, size: int) -> None:
        """A small pass of two rows through all networks; raises what they raise."""
        context = self._text_encoder.run({_IDS: self._tokenizer.encode(["", "a"])})
        latents = np.zeros((2, self._channels, size, size), np.float32)
        latents = self._forward(latents, np.arange(2.0), {_CONTEXT: context})
        image = self._decoder.run({self._latents_name: latents})
        expected = (2, 3, size * self._pixels, size * self._pixels)
        if image.shape != expected:
            raise ValueError(f"the decoder made {image.shape} where {expected} is expected")


def _read_schedule(folder: Path) -> dict[str, Any]:
    """The scheduler's options as diffusers' pipeline for this family bends them."""
    path = folder / "scheduler" / "scheduler_config.json"
    options = read_json(path)
    # Its constructor insists on these two; latents have no range to be clipped to.
    options |= {"steps_offset": 1, "clip_sample": False}
    if options.get("_class_name") != "PNDMScheduler":
        options.setdefault("skip_prk_steps", True)
    try:
        build_table(options, 1)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return options


def _read_channels(unet: Mapping[str, Any], in_graph: int | str | None) -> int:
    channels = in_graph if isinstance(in_graph, int) else int(unet.get("in_channels", 4))
    made = int(unet.get("out_channels") or channels)
    if made != channels:
        raise ValueError(
            f"the UNet takes {channels} channels and gives {made}: it is not a text-to-image model"
        )
    return channels


def _halvings(config: Mapping[str, Any]) -> int:
    """How often a UNet or VAE halves its input's sides; Stable Diffusion's do so three times."""
    return len(config.get("block_out_channels") or [0] * 4) - 1


def _read_limits(unet: Mapping[str, Any], pixels: int, multiple: int, max_steps: int) -> Limits:
    """``pixels`` a latent's side stands for; sizes must be multiples of ``multiple``."""
    size = unet.get("sample_size") or 64
    height, width = size if isinstance(size, list) else (size, size)
    # Far above the trained size pictures fall apart, and attention's memory grows as size ** 4.
    largest = max(2 * pixels * max(height, width), 256)
    return Limits(
        width=width * pixels,
        height=height * pixels,
        min_size=max(64, multiple),
        max_size=largest // multiple * multiple,
        size_multiple=multiple,
        max_steps=max_steps,
    )


def _to_pixels(decoded: Array) -> NDArray[np.uint8]:
    """Float32 [n, 3, h, w] from -1 to 1 into uint8 [n, h, w, 3], rounded as diffusers does."""
    if not np.isfinite(decoded).all():
        _log.warning("the decoder gave values that are not numbers: those pixels are black")
        decoded = np.nan_to_num(decoded, nan=-1.0)
    unit = (decoded * np.float32(0.5) + np.float32(0.5)).clip(0, 1)
    return (unit.transpose(0, 2, 3, 1) * np.float32(255)).round().astype(np.uint8)

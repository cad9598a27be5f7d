"""Stage ``unet``: noise is guessed from noisy latents and the frozen encoder's reading of words."""

from __future__ import annotations

import random

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from tokenizers import Tokenizer
from torch import Tensor
from transformers import CLIPTextModel

from painter.captions import caption
from painter.device import Device
from painter.latents import Known
from painter.loop import Loop, Plan, rank
from painter.tokenizer import encode_all

STEPS = 1000
NO_CAPTION = 0.1
SNR_LIMIT = 5.0


def alphas(device: Device) -> Tensor:
    """The share of signal left at each of the 1000 steps of Stable Diffusion 1.x."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, STEPS, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float().to(device.name)


class Words:
    """Fresh captions for scenes, as the hidden states that the UNet attends to."""

    def __init__(self, encoder: CLIPTextModel, tokenizer: Tokenizer, device: Device) -> None:
        self._encoder = encoder.to(device.name).eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self.device = device

    @torch.no_grad()
    def hidden(self, texts: list[str]) -> Tensor:
        ids = torch.tensor(encode_all(self._tokenizer, texts), device=self.device.name)
        hidden: Tensor = self._encoder(input_ids=ids).last_hidden_state
        return hidden


def train(unet: UNet2DConditionModel, words: Words, known: Known, plan: Plan, batch: int) -> None:
    """Loss weighted by min-SNR, so that the many easy steps do not drown the few hard ones."""
    scenes, latents = known.scenes, torch.from_numpy(known.latents)
    device = words.device
    unet.to(device.name, memory_format=torch.channels_last)
    if device.name == "cpu":
        # Plain products are a quarter faster there than the fused attention at these sizes.
        unet.set_attn_processor(AttnProcessor())
    signal = alphas(device)
    rng = random.Random(f"unet {rank()}")

    def step(share: float) -> Tensor:
        rows = [rng.randrange(len(scenes)) for _ in range(batch)]
        texts = [
            "" if rng.random() < NO_CAPTION else caption(scenes[row], rng).text for row in rows
        ]
        true = latents[rows].to(device.name).float()
        noise = torch.randn_like(true)
        # One draw in each slice of the steps: fewer unlucky batches than free draws.
        slices = torch.arange(batch, device=device.name) + torch.rand(batch, device=device.name)
        times = (slices * (STEPS / batch)).long().clamp(max=STEPS - 1)
        kept = signal[times][:, None, None, None]
        noisy = (kept.sqrt() * true + (1 - kept).sqrt() * noise).to(
            memory_format=torch.channels_last
        )
        with device.autocast():
            guess = unet(noisy, times, words.hidden(texts), return_dict=False)[0]
        ratio = kept / (1 - kept)
        weight = ratio.clamp(max=SNR_LIMIT) / ratio
        return (weight * (guess.float() - noise).square()).mean()

    Loop(plan, unet).run(step)

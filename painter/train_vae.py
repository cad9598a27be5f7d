"""Stage ``vae``: the autoencoder, first on crops full of detail, then on whole pictures."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from painter.canvas import SIZE
from painter.data import Crops, Pixels, pool
from painter.device import Device
from painter.loop import Loop, Plan, rank

CROP = 64
CROPS_UNTIL = 0.62
NOISE = 0.12


def tensor(pixels: Pixels, device: Device) -> Tensor:
    """Pixels as the networks want them: -1 to 1, channels last in memory."""
    picture = torch.from_numpy(np.array(pixels)).to(device.name).permute(0, 3, 1, 2)
    return picture.float().div_(127.5).sub_(1)


def picture_loss(painted: Tensor, true: Tensor) -> Tensor:
    """Plain error, error of colour apart from light, and error of edges."""
    wrong = painted - true
    red, green, blue = wrong.unbind(1)
    colour = (red - green).abs().mean() + (blue - (red + green) / 2).abs().mean()
    edges = sum(F.l1_loss(painted.diff(dim=axis), true.diff(dim=axis)) for axis in (2, 3))
    return wrong.abs().mean() + wrong.square().mean() + 0.5 * colour + 0.5 * edges


def encode(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """The mean of the posterior; its spread is set by hand at export."""
    return vae.quant_conv(vae.encoder(pictures)).chunk(2, 1)[0]


def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    return vae.decoder(vae.post_quant_conv(latents))


def train(vae: AutoencoderKL, plan: Plan, batch: int, device: Device) -> None:
    """Crops carry four times the detail per operation; norms need whole pictures at the end."""
    _, pixels = pool(plan.folder, 24_000, seed=1)
    vae.to(device.name, memory_format=torch.channels_last)
    crops, wholes = Crops(pixels, CROP, seed=2 + 10 * rank()), Crops(pixels, SIZE, 3 + 10 * rank())

    def forward(true: Tensor, level: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        latents = encode(vae, true)
        spread = latents.detach().float().std((0, 2, 3), keepdim=True)
        noisy = latents + (level * spread * noise).to(latents.dtype)
        return decode(vae, noisy), latents

    def step(share: float) -> Tensor:
        early = share < CROPS_UNTIL
        pixels = crops.batch(batch) if early else wholes.batch(max(1, batch // 3))
        true = tensor(pixels, device)
        level = NOISE * torch.rand(len(true), 1, 1, 1, device=device.name)
        side = true.shape[-1] // 8
        noise = torch.randn(len(true), 8, side, side, device=device.name)
        with device.autocast():
            painted, latents = forward(true, level, noise)
        return picture_loss(painted.float(), true) + 1e-5 * latents.float().square().mean()

    Loop(plan, vae).run(step)

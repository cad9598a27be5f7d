"""What the UNet is trained on: latents of unit variance, encoded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL
from tqdm import tqdm

from painter.data import pool
from painter.device import Device
from painter.scenes import Scene
from painter.train_vae import encode, tensor

SURE = -9.0


@torch.no_grad()
def whiten(vae: AutoencoderKL, folder: Path, device: Device) -> None:
    """Fold mean and spread of each latent channel into the two 1x1 convolutions around them.

    The scaling factor is then 1, and the posterior's spread (never trained) next to nothing.
    """
    _, pixels = pool(folder, 24_000, seed=1)
    vae.to(device.name).eval()
    found = [
        encode(vae, tensor(pixels[start : start + 16], device)).float()
        for start in range(0, 768, 16)
    ]
    latents = torch.cat(found)
    mean, spread = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    before, after, count = vae.quant_conv, vae.post_quant_conv, len(mean)
    before.weight[:count] /= spread[:, None, None, None]
    before.bias[:count] = (before.bias[:count] - mean) / spread
    before.weight[count:] = 0
    before.bias[count:] = SURE
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight *= spread[None, :, None, None]


@torch.no_grad()
def cached(
    vae: AutoencoderKL, folder: Path, count: int, device: Device
) -> tuple[list[Scene], npt.NDArray[np.float16]]:
    """Scenes of the pool and their latents; encoded once for each autoencoder."""
    scenes, pixels = pool(folder, 24_000, seed=1)
    path = folder / f"latents-{count}.npy"
    if not path.exists():
        vae.to(device.name, memory_format=torch.channels_last).eval()
        rows = []
        for start in tqdm(range(0, count, 32), desc="latents", mininterval=10):
            batch = tensor(pixels[start : start + 32], device)
            with device.autocast():
                rows.append(encode(vae, batch).float().cpu().numpy().astype(np.float16))
        np.save(path, np.concatenate(rows)[:count])
    return scenes[:count], np.load(path)

"""What the UNet is trained on: latents of unit variance, encoded once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from diffusers import AutoencoderKL
from tqdm import tqdm

from painter.data import pool
from painter.device import Device
from painter.loop import rank
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


@dataclass(frozen=True, slots=True)
class Known:
    """Scenes and their latents, row by row."""

    scenes: list[Scene]
    latents: npt.NDArray[np.float16]


@torch.no_grad()
def cached(vae: AutoencoderKL, folder: Path, count: int, device: Device) -> Known:
    """Scenes of the pool and their latents, encoded once; each worker encodes its share."""
    scenes, pixels = pool(folder, 24_000, seed=1)
    workers = dist.get_world_size() if dist.is_initialized() else 1
    parts = [folder / f"latents-{count}-{number}-of-{workers}.npy" for number in range(workers)]
    edges = [count * number // workers for number in range(workers + 1)]
    mine = range(edges[rank()], edges[rank() + 1], 32)
    if not parts[rank()].exists():
        vae.to(device.name, memory_format=torch.channels_last).eval()
        rows = []
        for start in tqdm(mine, desc="latents", mininterval=10, disable=rank() > 0):
            batch = tensor(pixels[start : min(start + 32, mine.stop)], device)
            with device.autocast():
                rows.append(encode(vae, batch).float().cpu().numpy().astype(np.float16))
        np.save(parts[rank()], np.concatenate(rows))
    if dist.is_initialized():
        dist.barrier()
    return Known(scenes[:count], np.concatenate([np.load(part) for part in parts]))

"""How a model folder is loaded: on what, in what precision, with what speed-ups."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """``device`` is "cpu", "cuda", "cuda:N" or "mps"; ``threads`` None means every usable core.

    ``runtime`` is one of RUNTIMES; "auto" takes what measured fastest of what the folder and the
    machine have. ``dtype`` is "float32", "bfloat16", "float16" or "auto": float32 on a CPU, else
    what is shorter. With ``fixed_rows`` every forward has that many rows, so that a picture's
    bytes do not depend on what runs beside it. ``compile``, one of compiled.LEVELS, and
    ``vae_tiling``, one of TILINGS, are for torch.
    """

    device: str = "cpu"
    threads: int | None = None
    runtime: str = "auto"
    dtype: str = "auto"
    fixed_rows: int | None = None
    compile: str = "auto"
    vae_tiling: str = "auto"


TILINGS = ("auto", "on", "off")
"""Whether a VAE works on a large picture in tiles; "auto" once memory ran out."""

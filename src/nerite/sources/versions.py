"""What the parameter `version` of Triton's own diffusion backend means: a model of a hub."""

from __future__ import annotations

from pathlib import Path

from nerite import painter
from nerite.sources.hub import is_hub_id
from nerite.sources.weights import SourceError

_VERSIONS = {
    "1.4": "CompVis/stable-diffusion-v1-4",
    "1.5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "xl-1.0": "stabilityai/stable-diffusion-xl-base-1.0",
    "xl-turbo": "stabilityai/sdxl-turbo",
    "sd3": "stabilityai/stable-diffusion-3-medium-diffusers",
    "3.5-medium": "stabilityai/stable-diffusion-3.5-medium",
    "3.5-large": "stabilityai/stable-diffusion-3.5-large",
}


def source_of(version: str) -> str:
    """A hub's id, or the folder or file on this machine that ``version`` names."""
    if version == "painter":
        return str(painter.REPOSITORY / "painter" / "1")
    if version in _VERSIONS:
        return _VERSIONS[version]
    if is_hub_id(version) or Path(version).expanduser().exists():
        return version
    known = ", ".join([*_VERSIONS, "painter"])
    raise SourceError(
        f"version is '{version}': it must be one of {known}, the OWNER/NAME of a hub, or a "
        "folder or file on this machine"
    )

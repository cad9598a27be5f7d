"""Which runtime runs a folder's networks, where several could."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from nerite.diffusion.network import Runtime
from nerite.diffusion.runtimes import openvino
from nerite.diffusion.runtimes.onnx import OnnxRuntime
from nerite.diffusion.runtimes.torch import TorchRuntime
from nerite.diffusion.settings import Settings

RUNTIMES = ("auto", "onnxruntime", "openvino", "torch")
_EXACT = ("auto", "float32")


def open_runtime(folder: Path, settings: Settings) -> Runtime:
    """Raises FileNotFoundError or ValueError for what cannot be."""
    chosen = _choose(folder, settings.runtime, settings.device, settings.dtype)
    if chosen == "openvino":
        return openvino.OpenVinoRuntime(folder, settings)
    if chosen == "onnxruntime":
        return OnnxRuntime(folder, settings)
    return TorchRuntime(folder, settings)


def _choose(folder: Path, wanted: str, device: str, dtype: str) -> str:
    if wanted not in RUNTIMES:
        raise ValueError(f"runtime is {wanted!r}: it must be one of {', '.join(RUNTIMES)}")
    denoiser = folder / ("transformer" if (folder / "transformer").is_dir() else "unet")
    graph = (denoiser / "model.onnx").is_file()
    weights = sorted(denoiser.glob("*.safetensors"))
    if not graph and not weights:
        pickles = sorted(denoiser.glob("*.bin"))
        found = f"only {pickles[0].name}, a pickle" if pickles else "no network"
        raise FileNotFoundError(
            f"{denoiser} holds {found}; weights in safetensors or a model.onnx are expected"
        )
    torch = importlib.util.find_spec("torch") and importlib.util.find_spec("diffusers")
    chosen = wanted
    if wanted == "auto":
        chosen = _fastest(graph, bool(weights), device, dtype, torch=bool(torch))
    if chosen == "torch" and not torch:
        raise ValueError(
            f"{denoiser} holds weights for torch, which is not installed: "
            "pip install 'nerite[diffusion]', or export the folder to ONNX"
        )
    return chosen


def _fastest(graph: bool, weights: bool, device: str, dtype: str, *, torch: bool) -> str:
    """As measured: on a CPU graphs, in float32 no faster on OpenVINO, in bfloat16 twice as fast."""
    if not graph:
        return "torch"
    if device == "cpu" and dtype not in _EXACT:
        if openvino.is_there():
            return "openvino"
        return "torch" if weights and torch else "onnxruntime"
    if device == "cpu" or not weights or not torch:
        return "onnxruntime"
    return "torch"

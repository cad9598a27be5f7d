"""Networks of diffusers and transformers on torch: CPU, CUDA or Apple's GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.cores import usable_cores
from nerite.diffusion.folder import INDEX, read_json
from nerite.diffusion.network import Network, Port
from nerite.diffusion.runtimes import compiled
from nerite.diffusion.runtimes.buckets import Buckets
from nerite.diffusion.settings import TILINGS, Settings
from nerite.diffusion.space import (
    Array,
    Generator,
    Space,
    memory_available,
    reset_resident_peak,
    resident_peak,
)
from nerite.diffusion.weights import find_broken

DTYPES = ("auto", "float32", "bfloat16", "float16")
_VARIANTS = 16  # compiled ones of a network; they share its weights


class TorchRuntime:
    """The parts of a diffusers folder, each loaded when it is asked for.

    ``dtype`` is one of DTYPES, "auto" being float32 on a CPU and the shortest that is exact
    enough on a GPU. Raises ValueError for settings that cannot be.
    """

    space: Space

    def __init__(self, folder: Path, settings: Settings) -> None:
        import torch

        self._folder = folder
        self.device = _find_device(settings.device)
        self.dtype = _find_dtype(settings.dtype, self.device)
        self._level = compiled.level(settings.compile, self.device)
        self._steady = settings.fixed_rows is not None
        if self._level != "off":
            compiled.prepare()
        if settings.vae_tiling not in TILINGS:
            known = ", ".join(TILINGS)
            raise ValueError(f"vae_tiling is {settings.vae_tiling!r}: it must be one of {known}")
        self._tiling = settings.vae_tiling
        most = min(torch.get_num_threads(), usable_cores())  # torch knows of no quota
        torch.set_num_threads(settings.threads or most)
        self._index = read_json(folder / INDEX)
        self._vae: Any = None
        self.space = TorchSpace(self.device)

    def has(self, part: str) -> bool:
        folder = "vae" if part.startswith("vae_") else part
        named = (self._index.get(folder) or [None])[0] is not None
        return named and (self._folder / folder).is_dir()

    def load(self, part: str) -> Network:
        if part.startswith("vae_"):
            return self._load_vae(part)
        module = self._open(part)
        if part.startswith("text_encoder"):
            call = _t5 if "T5" in type(module).__name__ else _clip
            return TorchNetwork(module, call, ("input_ids", "attention_mask"))
        if self.device.type != "mps" and hasattr(module, "fuse_qkv_projections"):
            module.fuse_qkv_projections()
        module.to(memory_format=_channels_last())
        if part == "unet":
            return self._fast(part, TorchNetwork(module, _unet, _unet_inputs(module)))
        return self._fast(part, TorchNetwork(module, _transformer, _TRANSFORMER))

    def _fast(self, part: str, network: TorchNetwork) -> TorchNetwork:
        if self._level == "off":
            return network
        make = compiled.compiler(network.forward, self.device, self._level)
        what = f"{self._folder.resolve() / part} {self.device} {self.dtype} {self._level}"
        network.buckets = Buckets(
            make,
            self.space,
            most=_VARIANTS,
            at_once=self._steady,
            memory=compiled.Shapes(what, self.device),
        )
        return network

    def options(self, folder: Path) -> dict[str, Any]:
        """What ``from_pretrained`` is told of a folder that holds weights, or folders of such."""
        options = {"dtype": self.dtype, "use_safetensors": True, "local_files_only": True}
        names = [path.name for path in folder.rglob("*.safetensors")]
        if names and all(".fp16" in name for name in names):
            options["variant"] = "fp16"  # many models are stored in half precision only
        return options

    def _load_vae(self, part: str) -> Network:
        if self._vae is None:
            self._vae = self._open("vae", upcast=True)
            self._vae.to(memory_format=_channels_last())
            if self._tiling == "on":
                self._vae.enable_tiling()
        if part == "vae_decoder":
            network = TorchNetwork(self._vae, _decode, ("latent_sample",))
            network.tiles = self._tiling != "off"
            return self._fast(part, network)
        return TorchNetwork(self._vae, _encode, ("sample",))

    def _open(self, part: str, *, upcast: bool = False) -> Any:
        """One part of the folder, by the class that its index names."""
        import diffusers
        import transformers

        folder = self._folder / part
        library, name = self._index.get(part) or ("", None)
        if name is None or not folder.is_dir():
            raise FileNotFoundError(f"{folder} is missing: {INDEX} must name it, and it be there")
        kind = getattr({"diffusers": diffusers}.get(library, transformers), str(name), None)
        if kind is None:
            raise ValueError(f"{folder}: neither diffusers nor transformers knows a {name}")
        try:
            module = kind.from_pretrained(folder, **self.options(folder))
        except Exception as error:  # many types, for files missing, cut off or of another model
            why = find_broken(folder) or str(error).strip().split("\n")[0]
            raise ValueError(f"{folder} cannot be loaded: {why}") from error
        import torch

        half = self.dtype == torch.float16
        if upcast and half and getattr(module.config, "force_upcast", False):
            module.to(torch.float32)
        return module.to(self.device).eval().requires_grad_(False)


_Call = Callable[[Any, Mapping[str, Any], Sequence[str]], list[Any]]


class TorchNetwork:
    """A module of diffusers or transformers (see network.Network)."""

    traced = False
    tiles = False
    """Whether its module may work in tiles."""

    def __init__(self, module: Any, call: _Call, inputs: Sequence[str]) -> None:
        self.buckets: Buckets | None = None
        self._module = module
        self._call = call
        self._dtype = next(module.parameters()).dtype
        self._layers = int(getattr(module.config, "num_hidden_layers", 0))
        self.inputs: Mapping[str, Port] = {
            name: Port(name, np.dtype(np.float32), _SHAPES.get(name, (None, None)))
            for name in inputs
        }

    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str] = ("",)) -> list[Array]:
        import torch

        cast = {name: self._cast(name, value) for name, value in feeds.items()}
        with torch.no_grad():  # what inference_mode makes could not be written to
            outputs = None
            if self.buckets is not None:
                outputs = self.buckets.run(cast)
            if outputs is None:
                outputs = self._call(self._module, cast, wanted)
            return [output.float() for output in outputs]

    def forward(self, feeds: Mapping[str, Any]) -> list[Any]:
        """The first output, as the module gives it."""
        return self._call(self._module, feeds, ("",))

    def save_memory(self) -> bool:
        if not self.tiles or not hasattr(self._module, "enable_tiling"):
            return False
        self.tiles, self.buckets = False, None
        self._module.enable_tiling()
        return True

    def _cast(self, name: str, value: Any) -> Any:
        # Timesteps up to 1000 with fractions need more digits than bfloat16 has.
        if name == "timestep" or not value.is_floating_point():
            return value
        return value.to(self._dtype)

    def check_output(self, name: str) -> None:
        _, _, number = name.partition(".")
        if number and -int(number) > self._layers:
            most = self._layers - 1
            raise ValueError(f"clip_skip must be at most {most}: the encoder has no more layers")


_SHAPES: Mapping[str, tuple[None, ...]] = {
    name: (None,) * dimensions
    for name, dimensions in {
        "sample": 4, "latent_sample": 4, "hidden_states": 4, "timestep": 1,
        "encoder_hidden_states": 3,
    }.items()
}  # fmt: skip
_TRANSFORMER = ("hidden_states", "timestep", "encoder_hidden_states", "pooled_projections")


def _unet_inputs(module: Any) -> list[str]:
    names = ["sample", "timestep", "encoder_hidden_states"]
    if module.config.addition_embed_type == "text_time":
        names += ["text_embeds", "time_ids"]
    if module.config.time_cond_proj_dim:
        names.append("timestep_cond")
    return names


def _clip(module: Any, feeds: Mapping[str, Any], wanted: Sequence[str]) -> list[Any]:
    output = module(**feeds, output_hidden_states=any("." in name for name in wanted))

    def pick(name: str) -> Any:
        if name == "pooled":
            embeds = getattr(output, "text_embeds", None)
            return output.pooler_output if embeds is None else embeds
        kind, _, number = name.partition(".")
        if not number:
            return output.last_hidden_state
        hidden = output.hidden_states[int(number)]
        inner = getattr(module, "text_model", module)
        return inner.final_layer_norm(hidden) if kind == "normed" else hidden

    return [pick(name) for name in wanted]


def _t5(module: Any, feeds: Mapping[str, Any], wanted: Sequence[str]) -> list[Any]:
    return [module(**feeds)[0]]


def _unet(module: Any, feeds: Mapping[str, Any], wanted: Sequence[str]) -> list[Any]:
    names = ("sample", "timestep", "encoder_hidden_states", "timestep_cond")
    further = {name: value for name, value in feeds.items() if name not in names}
    sample = feeds["sample"].contiguous(memory_format=_channels_last())
    output = module(
        sample,
        feeds["timestep"],
        encoder_hidden_states=feeds["encoder_hidden_states"],
        timestep_cond=feeds.get("timestep_cond"),
        added_cond_kwargs=further or None,
        return_dict=False,
    )
    return [output[0]]


def _transformer(module: Any, feeds: Mapping[str, Any], wanted: Sequence[str]) -> list[Any]:
    return [module(**feeds, return_dict=False)[0]]


def _decode(module: Any, feeds: Mapping[str, Any], wanted: Sequence[str]) -> list[Any]:
    return [module.decode(feeds["latent_sample"], return_dict=False)[0]]


def _encode(module: Any, feeds: Mapping[str, Any], wanted: Sequence[str]) -> list[Any]:
    return [module.encode(feeds["sample"]).latent_dist.parameters]


def _channels_last() -> Any:
    import torch

    return torch.channels_last


class TorchGenerator:
    """Random normals of torch's own, drawn on the CPU whatever the device."""

    def __init__(self, seed: int, device: Any) -> None:
        import torch

        # torch takes the low 64 bits; negative ones as their two's complement.
        self._generator = torch.Generator().manual_seed(seed)
        self._device = device

    def normal(self, shape: tuple[int, ...]) -> Array:
        import torch

        drawn = torch.randn(shape, generator=self._generator)
        return drawn.to(self._device)


class TorchSpace:
    """Tensors of torch on one device (see space.Space)."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._cuda = device.type == "cuda"
        self._marks: list[Any] = []

    def put(self, array: NDArray[Any]) -> Array:
        import torch

        if array.dtype == np.float64:
            array = array.astype(np.float32)
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if not self._cuda:
            return tensor.to(self._device)
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def take(self, tensor: Array) -> NDArray[Any]:
        taken: NDArray[Any] = tensor.float().cpu().numpy()
        return taken

    def concat(self, tensors: Sequence[Array], axis: int = 0) -> Array:
        import torch

        return torch.cat(list(tensors), axis)

    def generator(self, seed: int) -> Generator:
        return TorchGenerator(seed, self._device)

    def pace(self) -> None:
        """One step may wait on the device while the next is prepared, no more."""
        if not self._cuda:
            return
        import torch

        mark = torch.cuda.Event()
        mark.record()
        self._marks.append(mark)
        if len(self._marks) > 1:
            self._marks.pop(0).synchronize()

    def trim(self) -> None:
        if self._cuda:
            import torch

            torch.cuda.empty_cache()

    def free_memory(self) -> int | None:
        if self._cuda:
            import torch

            free, _ = torch.cuda.mem_get_info(self._device)
            kept = torch.cuda.memory_reserved(self._device)
            return int(free + kept - torch.cuda.memory_allocated(self._device))
        return memory_available() if self._device.type == "cpu" else None

    def begin_peak(self) -> None:
        if self._cuda:
            import torch

            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            reset_resident_peak()

    def peak(self) -> int | None:
        if self._cuda:
            import torch

            return int(torch.cuda.max_memory_allocated(self._device))
        return resident_peak() if self._device.type == "cpu" else None


def _find_device(name: str) -> Any:
    import torch

    kind, _, number = name.partition(":")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(_has_mps())}
    if kind not in there or (number and not number.isdigit()):
        raise ValueError(f"device is {name!r}: torch serves 'cpu', 'cuda', 'cuda:N' or 'mps'")
    if int(number or 0) >= there[kind]:
        found = ", ".join(f"{count} {kind}" for kind, count in there.items())
        raise ValueError(f"device is {name!r}, but torch finds {found} here")
    return torch.device(name if kind == "cuda" else kind)


def _has_mps() -> bool:
    import torch

    return bool(torch.backends.mps.is_available())


def _find_dtype(name: str, device: Any) -> Any:
    import torch

    if name not in DTYPES:
        raise ValueError(f"dtype is {name!r}: it must be one of {', '.join(DTYPES)}")
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cpu":
        return torch.float32
    exact = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if exact else torch.float16

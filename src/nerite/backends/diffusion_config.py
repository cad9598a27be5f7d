"""What a diffusion model's config says: its tensors, and the parameters it is loaded with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerite.backends.base import Config
from nerite.core.errors import invalid
from nerite.diffusion import Limits

# The inputs of a model whose config declares none, and what each is called in Params.
_INPUTS = {
    "prompt": "TYPE_STRING",
    "negative_prompt": "TYPE_STRING",
    "seed": "TYPE_INT64",
    "steps": "TYPE_INT32",
    "guidance_scale": "TYPE_FP32",
    "width": "TYPE_INT32",
    "height": "TYPE_INT32",
    "num_images": "TYPE_INT32",
    "scheduler": "TYPE_STRING",
    "image": "TYPE_STRING",
    "mask": "TYPE_STRING",
    "strength": "TYPE_FP32",
    "clip_skip": "TYPE_INT32",
}
PICTURES = ("image", "mask")  # files, or pixels where a config declares them TYPE_UINT8
IMAGE, SEED = "generated_image", "seed"
_OUTPUTS = {IMAGE: ("TYPE_UINT8", [-1, -1, 3]), SEED: ("TYPE_INT64", [1])}
_FLAGGED = {"flagged": ("TYPE_BOOL", [-1])}  # where a safety checker looks at the pictures
_STRICT_ROWS = 4  # of a forward, where a picture's bytes may not depend on its neighbours
_MAX_WAITING = 64

# A config's parameters, the field of Params each sets by default, and how to read it.
_DEFAULTS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "steps": ("steps", int),
    "guidance_scale": ("guidance_scale", float),
    "scheduler": ("scheduler", str),
    "image_height": ("height", int),
    "image_width": ("width", int),
    "seed": ("seed", int),
}


@dataclass(frozen=True)
class Roles:
    """Which of a config's tensors carry the prompt and the picture."""

    prompt: str
    image: str
    image_is_text: bool


def complete(config: Config) -> dict[str, Any]:
    """A config with the standard tensors where it declares none; what it declares stays."""
    completed = dict(config)
    if not completed.get("input"):
        completed["input"] = [
            {"name": name, "data_type": kind, "dims": [1], "optional": name != "prompt"}
            for name, kind in _INPUTS.items()
        ]
    if not completed.get("output"):
        parameters = completed.get("parameters", {})
        mode = parameters.get("safety_checker", {}).get("string_value", "")
        outputs = _OUTPUTS if mode in ("", "off") else {**_OUTPUTS, **_FLAGGED}
        completed["output"] = [
            {"name": name, "data_type": kind, "dims": dims}
            for name, (kind, dims) in outputs.items()
        ]
    return completed


def unfilled(folder: Path, version: str) -> str:
    """What fills a model's folder that only says by its `version` what it holds; "" for others."""
    if not version:
        return ""
    command = f"nerite build --model {folder.name} --model-repository {folder.parent}"
    return f". To fetch what its version '{version}' names: {command}"


def find_roles(config: Config) -> Roles:
    """Find the prompt and the picture among a config's tensors. Raises InferenceError."""
    name = config.get("name", "")
    inputs = {item["name"]: item["data_type"] for item in config["input"]}
    texts = [one for one, kind in inputs.items() if kind == "TYPE_STRING"]
    prompt = "prompt" if "prompt" in texts else texts[0] if len(texts) == 1 else None
    if prompt is None:
        raise invalid(
            f"model '{name}': no input for the prompt. Declare one named 'prompt' of TYPE_STRING, "
            "or a single input of TYPE_STRING"
        )
    wrong = {
        one: kind
        for one, kind in inputs.items()
        if one != prompt
        and _INPUTS.get(one) != kind
        and not (one in PICTURES and kind == "TYPE_UINT8")
    }
    if wrong:
        one, kind = next(iter(wrong.items()))
        known = ", ".join(f"{item} ({kind})" for item, kind in _INPUTS.items())
        raise invalid(f"model '{name}': unknown input '{one}' of {kind}; there are {known}")
    outputs = {item["name"]: item["data_type"] for item in config["output"]}
    images = [one for one, kind in outputs.items() if kind in ("TYPE_UINT8", "TYPE_STRING")]
    if len(images) != 1:
        raise invalid(
            f"model '{name}': declare one output for the picture, of TYPE_UINT8 for pixels or "
            f"TYPE_STRING for a base64 PNG; found {sorted(outputs)}"
        )
    return Roles(prompt, images[0], outputs[images[0]] == "TYPE_STRING")


def read_defaults(parameters: Mapping[str, str], limits: Limits) -> dict[str, Any]:
    """What a request that says nothing gets: the config's word, else what is usual of the model."""
    usual = ("width", "height", "steps", "guidance_scale")
    values: dict[str, Any] = {field: getattr(limits, field) for field in usual}
    for name, (field, kind) in _DEFAULTS.items():
        value = read_number(parameters, name, kind)
        if value is not None:
            values[field] = value
    return values


def max_waiting(config: Config) -> int:
    """How many requests may wait in the engine, which tells them their place.

    None where the config wants a queue with rules, which is the server's, or several instances:
    whichever has room first should have the next.
    """
    batching = config.get("dynamic_batching") or {}
    ruled = any(name in batching for name in ("priority_levels", "default_queue_policy"))
    groups = config.get("instance_group") or []
    instances = sum(group.get("count", 1) * max(1, len(group.get("gpus", ()))) for group in groups)
    return 0 if ruled or instances > 1 else _MAX_WAITING


def fixed_rows(parameters: Mapping[str, str]) -> int | None:
    """The rows of every forward, where the config asks for pictures that are the same bytes."""
    wanted = parameters.get("reproducible")
    if wanted not in (None, "strict"):
        raise invalid(f"parameter reproducible is '{wanted}': only 'strict' has a meaning")
    return _STRICT_ROWS if wanted else None


def read_number(parameters: Mapping[str, str], name: str, kind: Callable[[str], Any]) -> Any:
    if name not in parameters:
        return None
    try:
        return kind(parameters[name])
    except ValueError:
        expected = "a whole number" if kind is int else "a number"
        raise invalid(f"parameter {name} is '{parameters[name]}': it must be {expected}") from None

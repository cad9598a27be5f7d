"""Which models of the server paint, what each can do, and which one a request means."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nerite.contract import TensorSpec
from nerite.core.errors import InferenceError
from nerite.diffusion import Limits
from nerite.frontends.images.errors import ApiError, bad
from nerite.model import Model
from nerite.server import Server

CAPABILITIES = "capabilities"  # the parameter in which the diffusion backend tells its limits
_CHECKER = "safety_checker"  # the parameter that says what becomes of pictures it flags
_OPENAI = re.compile(r"(gpt-image|chatgpt-image|dall-e)-[\w.-]+")
_PICTURE = re.compile(r"image|picture|generated|photo", re.IGNORECASE)
# What we can fill in; a model that needs anything else is none of ours.
KNOWN = frozenset(
    {
        "prompt",
        "negative_prompt",
        "seed",
        "steps",
        "num_inference_steps",
        "guidance_scale",
        "width",
        "height",
        "scheduler",
        "image",
        "mask",
        "strength",
        "num_images",
        "clip_skip",
    }
)
# Other names for an input.
_OTHER = {"steps": "num_inference_steps"}


@dataclass(frozen=True)
class Sizes:
    """Sides in pixels."""

    multiple: int
    min: int
    max: int

    def fit(self, width: int, height: int) -> tuple[int, int]:
        """What a picture of that size is painted over at."""
        limits = Limits(width, height, self.max, self.min, self.multiple)
        return limits.fit(width, height)["width"], limits.fit(width, height)["height"]

    def nearest(self, side: int) -> int:
        """The allowed side that is nearest to one that is not."""
        low = -(-self.min // self.multiple) * self.multiple
        high = self.max // self.multiple * self.multiple
        return min(max(round(side / self.multiple) * self.multiple, low), high)


@dataclass(frozen=True)
class ImageModel:
    """A loaded model that paints, as this API sees it; None for what is not known of it.

    prompt, picture: the names of its tensors. encoded: the picture is a file, not pixels.
    blanks: its config has what the safety checker flags painted black.
    """

    name: str
    version: str
    model: Model
    prompt: str
    picture: TensorSpec
    tells_progress: bool = False
    size: tuple[int, int] | None = None
    sizes: Sizes | None = None
    steps: int | None = None
    max_steps: int | None = None
    guidance_scale: float | None = None
    scheduler: str | None = None
    schedulers: Sequence[str] = ()
    edits: bool = False
    masks: bool = False
    blanks: bool = False

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        return self.model.contract.inputs

    def takes(self, name: str) -> bool:
        """Whether it has an input of that name, or of its other name."""
        return self.input(name) is not None

    def input(self, name: str) -> TensorSpec | None:
        return self.inputs.get(name) or self.inputs.get(_OTHER.get(name, ""))

    @property
    def encoded(self) -> bool:
        return self.picture.datatype == "BYTES"

    @property
    def takes_several(self) -> bool:
        """Whether it takes any number of pictures at once."""
        spec = self.input("image")
        return spec is not None and spec.datatype == "BYTES" and spec.shape[-1] == -1

    def check_edits(self) -> None:
        """Raises ApiError where it paints over no pictures."""
        if not self.edits:
            text = f"model '{self.name}' paints from words only: it takes no picture"
            raise bad(text, "image", "unsupported_parameter")

    @property
    def transparent(self) -> bool:
        return not self.encoded and self.picture.shape[-1] == 4

    def describe(self, default: bool) -> dict[str, Any]:
        """The extension of its entry in the list of models."""
        sizes = self.sizes
        return {
            "state": "READY",
            "default": default,
            "edits": self.edits,
            "masks": self.masks,
            "streams": self.tells_progress,
            "size": self.size,
            "sizes": sizes and {"multiple": sizes.multiple, "min": sizes.min, "max": sizes.max},
            "steps": self.steps,
            "max_steps": self.max_steps,
            "guidance_scale": self.guidance_scale,
            "scheduler": self.scheduler,
            "schedulers": list(self.schedulers),
        }


@dataclass(frozen=True)
class Names:
    """What the operator says of model names: the default model's, and other names for models."""

    default: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)


class Models:
    """The image models of a server. Belongs to its loop."""

    def __init__(self, server: Server, names: Names) -> None:
        self._server = server
        self._names = names
        self._born = int(time.time())
        self._seen: dict[int, tuple[Model, ImageModel | None]] = {}

    def find(self, name: str | None) -> ImageModel:
        """The model that a request's `model` means. Raises ApiError."""
        meant = self._meant(name)
        if meant is None:
            raise ApiError(
                404,
                f"The model '{name}' does not exist; {self._known()}",
                param="model",
                code="model_not_found",
            )
        try:
            model = self._server.find(meant)
        except InferenceError as error:
            raise self._absent(meant, error) from None
        found = self._as_image_model(model)
        if found is None:
            text = f"The model '{meant}' paints no pictures; {self._known()}"
            raise ApiError(400, text, param="model", code="model_not_supported")
        return found

    def _meant(self, name: str | None) -> str | None:
        aliases = self._names.aliases
        if name is not None and name in aliases and name != "*":
            return aliases[name]
        if name is None or _OPENAI.fullmatch(name):
            default = self.default
            if default is None:
                raise self._none()
            return default
        if any(state.name == name for state in self._server.states()):
            return name
        return aliases.get("*")

    def _none(self) -> ApiError:
        if any(state.state == "LOADING" for state in self._server.states()):
            text = "the models are still loading"
            return ApiError(503, text, param="model", code="model_not_ready", retry_after=2)
        text = "this server has no model that paints pictures"
        return ApiError(404, text, param="model", code="model_not_found")

    def _absent(self, name: str, error: InferenceError) -> ApiError:
        states = [state for state in self._server.states() if state.name == name]
        if not states:
            text = f"The model '{name}' does not exist; {self._known()}"
            return ApiError(404, text, param="model", code="model_not_found")
        if any(state.state == "LOADING" for state in states):
            text = f"The model '{name}' is still loading"
            return ApiError(503, text, param="model", code="model_not_ready", retry_after=2)
        reason = states[-1].reason or states[-1].state.lower()
        text = f"The model '{name}' is not ready: {reason}"
        return ApiError(503, text, param="model", code="model_not_ready")

    def _known(self) -> str:
        names = [f"'{one.name}'" for one in self.ready]
        return f"there is {', '.join(names)}" if names else "no model here paints pictures"

    @property
    def ready(self) -> list[ImageModel]:
        """Those that can be asked, by name."""
        newest = {model.name: model for model in self._server.models}
        found = (self._as_image_model(model) for model in newest.values())
        return [one for one in found if one is not None]

    @property
    def default(self) -> str | None:
        """The name of the model that a request without one means."""
        if self._names.default:
            return self._names.default
        ready = self.ready
        return ready[0].name if ready else None

    @property
    def control(self) -> str:
        """Who decides which models are loaded: only with explicit, clients do."""
        return self._server.policy.mode.value

    def document(self, name: str) -> dict[str, Any]:
        """The entry of one model, or of the one that an alias means. Raises ApiError."""
        meant = self._meant(name)
        for entry in self.documents():
            if entry["id"] == meant:
                return {**entry, "id": name}
        text = f"The model '{name}' does not exist; {self._known()}"
        raise ApiError(404, text, param="model", code="model_not_found")

    def documents(self) -> list[dict[str, Any]]:
        """Every model of the server, as OpenAI lists them; those that paint come first."""
        newest = {state.name: state for state in self._server.states()}
        default = self.default
        painters: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for name, state in newest.items():
            found = self._as_image_model(state.model) if state.model is not None else None
            entry: dict[str, Any] = {
                "id": name,
                "object": "model",
                "created": self._born,
                "owned_by": "nerite",
                "nerite": found.describe(name == default) if found else None,
            }
            (painters if found else others).append(entry)
        return painters + others

    def _as_image_model(self, model: Model) -> ImageModel | None:
        known = self._seen.get(id(model))
        if known is None or known[0] is not model:
            loaded = {id(one): one for one in self._server.models}
            self._seen = {key: pair for key, pair in self._seen.items() if key in loaded}
            known = self._seen[id(model)] = (model, read_model(model))
        return known[1]


def read_model(model: Model) -> ImageModel | None:
    """What this API makes of a model; None where it cannot paint."""
    inputs, outputs = model.contract.inputs, model.contract.outputs
    parameters = model.config.parameters
    parameter = parameters.get(CAPABILITIES)
    told = json.loads(parameter.string_value) if parameter is not None else {}
    prompt = told.get("prompt", "prompt")
    spec = inputs.get(prompt)
    if spec is None or spec.datatype != "BYTES":
        return None
    if any(not (one.optional or name in KNOWN or name == prompt) for name, one in inputs.items()):
        return None
    picture = outputs.get(told["picture"]) if "picture" in told else _picture(outputs)
    if picture is None:
        return None
    sizes = told.get("sizes")
    return ImageModel(
        name=model.name,
        version=str(model.version),
        model=model,
        prompt=prompt,
        picture=picture,
        tells_progress=bool(told),
        size=tuple(told["size"]) if "size" in told else None,
        sizes=Sizes(**sizes) if sizes else None,
        steps=told.get("steps"),
        max_steps=told.get("max_steps"),
        guidance_scale=told.get("guidance_scale"),
        scheduler=told.get("scheduler"),
        schedulers=tuple(told.get("schedulers", ())),
        edits=told.get("edits", True) and "image" in inputs,
        masks=told.get("masks", True) and "mask" in inputs,
        blanks=_CHECKER in parameters and parameters[_CHECKER].string_value == "blank",
    )


def _picture(outputs: Mapping[str, TensorSpec]) -> TensorSpec | None:
    """The output that is a picture: the only one that looks like it, else the best named."""
    found = [spec for spec in outputs.values() if _looks_like_pixels(spec)]
    named = [spec for spec in found if _PICTURE.search(spec.name)]
    chosen = named or found
    return chosen[0] if len(chosen) == 1 else None


def _looks_like_pixels(spec: TensorSpec) -> bool:
    named = _PICTURE.search(spec.name) is not None
    if spec.datatype == "BYTES":  # of which most are texts
        return named
    if spec.datatype not in ("UINT8", "FP32", "FP16") or len(spec.shape) not in (3, 4, 5):
        return False
    return spec.shape[-1] in (3, 4) or (spec.shape[-1] == -1 and named)

"""What a client may say, as JSON or as a form; wrong values are told by name and remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from nerite.frontends.images.errors import ApiError, bad

MAX_IMAGES = 10
MAX_PROMPT = 32_000
MAX_PREVIEWS = 50
_SIZE = re.compile(r"auto|([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")

Text = Annotated[str, Field(max_length=MAX_PROMPT)]
Count = Annotated[int, Field(ge=1, le=MAX_IMAGES)]
Size = Annotated[str, Field(pattern=rf"^(?:{_SIZE.pattern})$")]
Seed = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]


class _Body(BaseModel):
    """What all requests for pictures may say."""

    model_config = ConfigDict(extra="forbid", validate_default=False)

    model: str | None = Field(None, max_length=256, description="the model, or one of its aliases")
    n: Count | None = Field(None, description="how many pictures")
    size: Size | None = Field(None, description="WIDTHxHEIGHT, or auto")
    response_format: Literal["url", "b64_json"] | None = None
    user: str | None = None
    negative_prompt: Text | None = Field(None, description="what is not to be seen; ours")
    seed: Seed | None = Field(None, description="of the first picture; ours")
    steps: int | None = Field(
        None,
        ge=1,
        validation_alias=AliasChoices("steps", "num_inference_steps"),
        description="denoising steps; ours",
    )
    guidance_scale: float | None = Field(None, ge=0, allow_inf_nan=False, description="ours")
    scheduler: str | None = Field(None, max_length=100, description="the sampler; ours")


class _Painting(_Body):
    """What generations and edits have in common."""

    quality: Literal["auto", "low", "medium", "high", "standard", "hd"] | None = None
    background: Literal["auto", "opaque", "transparent"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: int | None = Field(None, ge=0, le=100)
    stream: bool | None = None
    partial_images: int | None = Field(None, ge=0, le=3)
    progress: bool | None = Field(None, description="events of progress in the stream; ours")
    previews: int | None = Field(
        None, ge=0, le=MAX_PREVIEWS, description="partial images beyond three; ours"
    )


class Generation(_Painting):
    """`/v1/images/generations`."""

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT)]
    moderation: Literal["auto", "low"] | None = None
    style: Literal["vivid", "natural"] | None = None


class Edit(_Painting):
    """`/v1/images/edits`, without its pictures."""

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT)]
    input_fidelity: Literal["high", "low"] | None = None
    moderation: Literal["auto", "low"] | None = None
    strength: float | None = Field(None, ge=0, le=1, description="of the change; ours")


class Variation(_Body):
    """`/v1/images/variations`, without its picture."""

    prompt: Text | None = Field(None, description="ours")
    strength: float | None = Field(None, ge=0, le=1, description="of the change; ours")


B = TypeVar("B", bound=_Body)


def read_json(kind: type[B], body: bytes) -> B:
    """Raises ApiError."""
    try:
        return kind.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise _problem(error) from None


def read_object(kind: type[B], fields: Mapping[str, Any], *, strict: bool) -> B:
    """The same of fields; strict: unless they came as a form's texts. Raises ApiError."""
    try:
        return kind.model_validate(fields, strict=strict)
    except ValidationError as error:
        raise _problem(error) from None


def read_size(size: str | None) -> tuple[int, int] | None:
    """Width and height; None for the model's own."""
    match = _SIZE.fullmatch(size or "auto")
    return (int(match[1]), int(match[2])) if match and match[1] else None


def _problem(error: ValidationError) -> ApiError:
    """The first thing that is wrong."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        text = f"the request's body is not JSON: {first['ctx']['error']}"
        return bad(text, None, "invalid_json")
    if not first["loc"]:
        return bad("the request's body must be a JSON object", None, "invalid_json")
    param = str(first["loc"][0])
    if param == "num_inference_steps":
        param = "steps"
    return _of_param(param[:100], first)


def _of_param(param: str, first: ErrorDetails) -> ApiError:
    kind, context = first["type"], first.get("ctx", {})
    if kind == "extra_forbidden":
        return bad(f"Unknown parameter: '{param}'.", param, "unknown_parameter")
    if kind == "missing":
        text = f"Missing required parameter: '{param}'."
        return bad(text, param, "missing_required_parameter")
    given = first["input"]
    if kind == "string_pattern_mismatch":
        text = "it must be WIDTHxHEIGHT in pixels, as 512x512, or auto"
    elif kind == "string_too_long":
        length = len(given)
        text = f"'{param}' has {length} characters: at most {context['max_length']} are taken"
        return bad(text, param, "string_above_max_length")
    elif kind == "string_too_short":
        return bad(f"'{param}' is empty: say what is to be painted", param)
    else:
        text = first["msg"].replace("Input should", "it must")
    code = "invalid_type" if kind.endswith(("_type", "_parsing")) else "invalid_value"
    return bad(f"Invalid '{param}': {_shown(given)}: {text}", param, code)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."

"""How the bodies and answers are documented: they are read by ourselves, for errors that name the
field."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from nerite.frontends.images import bodies, forms

_FILE = {"type": "string", "format": "binary"}
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_PICTURE = {
    "type": "object",
    "properties": {
        "b64_json": {"type": "string"},
        "url": {"type": "string"},
        "seed": {"type": "integer", "description": "ours"},
        "flagged": {"type": "boolean", "description": "ours: what a safety checker says"},
    },
}
_IMAGES = {
    "type": "object",
    "required": ["created", "data"],
    "properties": {
        "created": {"type": "integer"},
        "data": {"type": "array", "items": _PICTURE},
        "background": {"type": "string"},
        "output_format": {"type": "string"},
        "quality": {"type": "string"},
        "size": {"type": "string"},
        "usage": {"type": "object"},
        "model": {"type": "string", "description": "ours, as what follows"},
        "steps": {"type": ["integer", "null"]},
        "guidance_scale": {"type": ["number", "null"]},
        "scheduler": {"type": ["string", "null"]},
    },
}


def _schema(kind: type[BaseModel]) -> dict[str, Any]:
    """Whole, without references to other places."""
    schema = kind.model_json_schema(by_alias=False)
    known = schema.pop("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, list):
            return [inline(one) for one in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return inline(known[node["$ref"].rpartition("/")[2]])
        return {key: inline(value) for key, value in node.items()}

    whole: dict[str, Any] = inline(schema)
    return whole


FILES: dict[str, Any] = {
    "summary": "Retrieve a picture that was answered as a URL",
    "responses": {
        200: {"description": "the picture", "content": {"image/*": {"schema": _FILE}}},
        404: {"description": "no such picture, or its time is over"},
    },
}


def _form(kind: type[BaseModel], **files: Any) -> dict[str, Any]:
    schema = _schema(kind)
    schema["properties"] = {**files, **schema["properties"]}
    schema["required"] = ["image", *schema.get("required", ())]
    return schema


def _answers(*, streams: bool) -> dict[int | str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": _IMAGES}}
    if streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    wrong = {"application/json": {"schema": _ERROR}}
    told = {
        400: "something in the request is wrong; `param` says what",
        401: "no API key, or a wrong one",
        404: "no such model",
        413: "the request is too large",
        429: "too many pictures wait; `retry-after` says when to come again",
        500: "painting failed",
        503: "the model is loading, or is not there",
    }
    answers: dict[int | str, Any] = {200: {"description": "the pictures", "content": content}}
    for status, text in told.items():
        answers[status] = {"description": text, "content": wrong}
    return answers


def _operation(content: dict[str, Any], *, streams: bool) -> dict[str, Any]:
    body = {kind: {"schema": schema} for kind, schema in content.items()}
    extra = {"requestBody": {"required": True, "content": body}}
    return {"openapi_extra": extra, "responses": _answers(streams=streams)}


_SEVERAL = {"type": "array", "items": _FILE, "description": "as `image`, or `image[]` for several"}

GENERATIONS = _operation({"application/json": _schema(bodies.Generation)}, streams=True)
EDITS = _operation(
    {
        "multipart/form-data": _form(bodies.Edit, image=_SEVERAL, mask=_FILE),
        "application/json": _schema(forms.JsonEdit),
    },
    streams=True,
)
VARIATIONS = _operation(
    {"multipart/form-data": _form(bodies.Variation, image=_FILE)}, streams=False
)

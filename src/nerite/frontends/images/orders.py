"""What a request means for one model: checked, and with nothing left to guess."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from nerite.diffusion import MAX_GUIDANCE
from nerite.frontends.images import bodies
from nerite.frontends.images.errors import ApiError, bad
from nerite.frontends.images.models import ImageModel
from nerite.frontends.images.uploads import Upload

_SEEDS = 1 << 32
_SEEDS_END = 1 << 63
_MAX_SIDE = 16_384
# What the words for quality make of a model's own number of steps.
_QUALITY = {"low": 0.5, "high": 1.5, "hd": 1.5}
_FIDELITY = {"high": 0.5}
VARIATION_STRENGTH = 0.6


@dataclass(frozen=True)
class Form:
    """How pictures are to be written. compression: None for the format's usual."""

    kind: str = "png"
    compression: int | None = None


@dataclass(frozen=True)
class Order:
    """So many pictures of one model. None is whatever the model takes by itself.

    n: pictures, of each upload where there are any. seed: of the first picture; None where the
    model draws none. previews: how many partial pictures are wanted of each.
    """

    model: ImageModel
    prompt: str
    n: int = 1
    seed: int | None = None
    size: tuple[int, int] | None = None
    negative_prompt: str | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    scheduler: str | None = None
    strength: float | None = None
    uploads: tuple[Upload, ...] = ()
    form: Form = Form()
    previews: int = 0
    progress: bool = False
    quality: str = "medium"

    @property
    def count(self) -> int:
        """Each upload is painted over by itself, unless the model takes several at once."""
        together = self.model.takes_several or not self.uploads
        return self.n if together else self.n * len(self.uploads)

    def uploads_of(self, index: int) -> tuple[Upload, ...]:
        """What picture `index` is painted over."""
        if self.model.takes_several or not self.uploads:
            return self.uploads
        return (self.uploads[index // self.n],)

    def size_of(self, index: int) -> tuple[int, int] | None:
        """What picture `index` will measure, where that is known before."""
        if self.size is None and self.uploads:
            sizes = self.model.sizes
            return sizes.fit(*self.uploads_of(index)[0].size) if sizes else None
        return self.size or self.model.size

    @property
    def known_steps(self) -> int | None:
        return self.steps or self.model.steps

    def settings(self) -> dict[str, Any]:
        """What is told back of it, where it is known."""
        model = self.model
        guidance = self.guidance_scale
        return {
            "model": model.name,
            "steps": self.known_steps,
            "guidance_scale": model.guidance_scale if guidance is None else guidance,
            "scheduler": self.scheduler or model.scheduler,
        }


def order(
    model: ImageModel,
    body: bodies.Generation | bodies.Edit | bodies.Variation,
    uploads: tuple[Upload, ...] = (),
) -> Order:
    """Raises ApiError for what this model does not take."""
    size = bodies.read_size(body.size)
    painting = None if isinstance(body, bodies.Variation) else body
    made = Order(
        model,
        body.prompt or "",
        body.n or 1,
        _seed(model, body.seed),
        size,
        body.negative_prompt,
        _steps(model, body.steps, painting.quality if painting else None),
        body.guidance_scale,
        body.scheduler,
        _strength(body),
        uploads,
        _form(model, painting) if painting else Form(),
        max(painting.partial_images or 0, painting.previews or 0) if painting else 0,
        bool(painting and painting.progress),
        _quality(painting.quality if painting else None),
    )
    _check(made)
    return made


def _seed(model: ImageModel, given: int | None) -> int | None:
    """Drawn here where none is given, so that each picture's own is known."""
    if given is None and "seed" in model.inputs:
        return secrets.randbelow(_SEEDS)
    return given


def _steps(model: ImageModel, given: int | None, quality: str | None) -> int | None:
    factor = _QUALITY.get(quality or "")
    if given is not None or factor is None or model.steps is None:
        return given
    return max(1, min(round(model.steps * factor), model.max_steps or 1000))


def _quality(given: str | None) -> str:
    return {"low": "low", "high": "high", "hd": "high"}.get(given or "", "medium")


def _strength(body: bodies.Generation | bodies.Edit | bodies.Variation) -> float | None:
    if isinstance(body, bodies.Variation):
        return VARIATION_STRENGTH if body.strength is None else body.strength
    if isinstance(body, bodies.Edit):
        given = body.strength
        return _FIDELITY.get(body.input_fidelity or "") if given is None else given
    return None


def _form(model: ImageModel, body: bodies.Generation | bodies.Edit) -> Form:
    form = Form(body.output_format or "png", body.output_compression)
    if body.background == "transparent":
        if not model.transparent:
            text = f"model '{model.name}' paints opaque pictures: background may be opaque or auto"
            raise bad(text, "background")
        if form.kind == "jpeg":
            text = "JPEG knows no transparency: use output_format png or webp"
            raise bad(text, "output_format")
    if form.kind == "png" and form.compression not in (None, 100):
        text = f"output_compression is {form.compression}: PNG is lossless, use jpeg or webp"
        raise bad(text, "output_compression")
    return form


def _check(made: Order) -> None:
    model = made.model
    if any(upload.mask is not None for upload in made.uploads) and not model.masks:
        text = f"model '{model.name}' paints over whole pictures: it takes no mask"
        raise bad(text, "mask", "unsupported_parameter")
    for name, given in (
        ("negative_prompt", made.negative_prompt),
        ("seed", made.seed),
        ("steps", made.steps),
        ("guidance_scale", made.guidance_scale),
        ("scheduler", made.scheduler),
        ("strength", made.strength),
    ):
        if given is not None and not model.takes(name):
            raise bad(f"model '{model.name}' takes no '{name}'", name, "unsupported_parameter")
    if made.steps is not None and made.steps > (model.max_steps or made.steps):
        text = f"steps is {made.steps}: model '{model.name}' takes from 1 to {model.max_steps}"
        raise bad(text, "steps")
    if made.seed is not None and made.seed + made.count > _SEEDS_END:
        text = f"seed is {made.seed}: picture k is drawn from seed + k, which is below 2^63"
        raise bad(text, "seed")
    if model.tells_progress:
        _check_diffusion(made)
    if made.size is not None:
        _check_size(model, *made.size)


def _check_diffusion(made: Order) -> None:
    """What the engine would say, before a job is accepted that it cannot paint."""
    guidance, scheduler, known = made.guidance_scale, made.scheduler, made.model.schedulers
    if guidance is not None and guidance > MAX_GUIDANCE:
        text = f"guidance_scale is {guidance}: it must be a number from 0 to {MAX_GUIDANCE}"
        raise bad(text, "guidance_scale")
    # diffusers' classes are known by their names as well.
    if scheduler is not None and scheduler not in known and not scheduler.endswith("Scheduler"):
        text = f"scheduler: unknown scheduler '{scheduler}'; model '{made.model.name}' knows "
        raise bad(text + (", ".join(known) or "only its own"), "scheduler")


def _check_size(model: ImageModel, width: int, height: int) -> None:
    shown = f"{width}x{height}"
    if not (model.takes("width") and model.takes("height")):
        own = model.size
        if own is None or own != (width, height):
            fixed = f"{own[0]}x{own[1]}" if own else "its own"
            text = f"size is {shown}: model '{model.name}' paints one size, {fixed}; leave it out"
            raise _bad_size(text)
        return
    sizes = model.sizes
    if sizes is None:
        if max(width, height) > _MAX_SIDE:
            raise _bad_size(f"size is {shown}: sides of at most {_MAX_SIDE} pixels are taken")
        return
    sides = (width, height)
    if all(sizes.min <= side <= sizes.max and side % sizes.multiple == 0 for side in sides):
        return
    near = "x".join(str(sizes.nearest(side)) for side in sides)
    raise _bad_size(
        f"size is {shown}: model '{model.name}' paints sides that are multiples of "
        f"{sizes.multiple} from {sizes.min} to {sizes.max}; try {near}"
    )


def _bad_size(text: str) -> ApiError:
    return bad(text, "size", "invalid_size")

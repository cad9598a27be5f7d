"""The samplers by name: a ``scheduler_config.json`` and a number of steps become a Table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nerite.diffusion.samplers.ddim import ddim
from nerite.diffusion.samplers.ddpm import ddpm
from nerite.diffusion.samplers.dpm import dpm_solver
from nerite.diffusion.samplers.euler import euler, euler_ancestral, heun
from nerite.diffusion.samplers.flow import flow_euler
from nerite.diffusion.samplers.lcm import lcm
from nerite.diffusion.samplers.lms import lms
from nerite.diffusion.samplers.pndm import pndm
from nerite.diffusion.samplers.table import SLOTS, Mix, Table, advance
from nerite.diffusion.samplers.unipc import unipc
from nerite.diffusion.schedule import ScheduleConfig, dynamic_shift

__all__ = ["FLOW", "KNOWN_SCHEDULERS", "SLOTS", "Mix", "Table", "advance", "build_table"]

FLOW = "FlowMatchEulerDiscreteScheduler"
"""The sampler of models of flow matching, and of those only."""
_SOLVERS = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler")  # which serve both

_Build = Callable[[ScheduleConfig, int, int], Table]
_LEADING = {"timestep_spacing": "leading"}
# Each class's own defaults, where they differ from those that most share.
_KINDS: Mapping[str, tuple[_Build, Mapping[str, Any]]] = {
    "DDIMScheduler": (ddim, {**_LEADING, "set_alpha_to_one": True}),
    "DDPMScheduler": (ddpm, _LEADING),
    "EulerDiscreteScheduler": (euler, {}),
    "EulerAncestralDiscreteScheduler": (euler_ancestral, {}),
    "HeunDiscreteScheduler": (heun, {"beta_start": 0.00085, "beta_end": 0.012}),
    "LMSDiscreteScheduler": (lms, {}),
    "DPMSolverMultistepScheduler": (dpm_solver, {}),
    "UniPCMultistepScheduler": (unipc, {}),
    "PNDMScheduler": (pndm, _LEADING),
    "LCMScheduler": (
        lcm,
        {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"},
    ),
}
_PLAIN = {"use_karras_sigmas": False, "use_exponential_sigmas": False}
_KARRAS = {"use_karras_sigmas": True, "use_exponential_sigmas": False}
_2M = {"solver_order": 2, "algorithm_type": "dpmsolver++"}
_SDE = {"solver_order": 2, "algorithm_type": "sde-dpmsolver++"}
_SHORT: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_karras": ("EulerDiscreteScheduler", _KARRAS),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "heun_karras": ("HeunDiscreteScheduler", _KARRAS),
    "lms": ("LMSDiscreteScheduler", {}),
    "lms_karras": ("LMSDiscreteScheduler", _KARRAS),
    "dpm++_2m": ("DPMSolverMultistepScheduler", {**_2M, **_PLAIN}),
    "dpm++_2m_karras": ("DPMSolverMultistepScheduler", {**_2M, **_KARRAS}),
    "dpm++_2m_sde": ("DPMSolverMultistepScheduler", {**_SDE, **_PLAIN}),
    "dpm++_2m_sde_karras": ("DPMSolverMultistepScheduler", {**_SDE, **_KARRAS}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "flow_euler": (FLOW, {}),
}
_OTHER = {
    "plms": "pndm",
    "lmsd": "lms",
    "eulera": "euler_a",
    "euler_ancestral": "euler_a",
    "dpm": "dpm++_2m",
    "dpm++": "dpm++_2m",
    "dpmpp_2m": "dpm++_2m",
    "dpmpp_2m_karras": "dpm++_2m_karras",
    "dpmpp_2m_sde": "dpm++_2m_sde",
    "dpmpp_2m_sde_karras": "dpm++_2m_sde_karras",
    "uni_pc": "unipc",
    "flow_match_euler": "flow_euler",
}

KNOWN_SCHEDULERS = (*_SHORT, *_KINDS, FLOW)
"""The names to offer; other spellings of them are understood too."""


def build_table(
    options: Mapping[str, Any],
    steps: int,
    scheduler: str | None = None,
    *,
    begin: int = 0,
    tokens: int = 0,
) -> Table:
    """The table of ``steps`` steps for a ``scheduler_config.json`` read into ``options``.

    ``scheduler`` replaces the folder's own class as diffusers' ``from_config`` does: options that
    the JSON states are kept, the rest are the new class's defaults. The walk starts at step
    ``begin``, where an image is the start. ``tokens`` is the number of the image's patches.
    Raises ValueError for a name that is not known or an option that cannot be served.
    """
    own = str(options.get("_class_name", ""))
    name = own if scheduler is None else scheduler
    kind, overrides = _find(name)
    flows = _flows(options)
    if not (kind == FLOW if flows else kind != FLOW) and not (flows and kind in _SOLVERS):
        known = ", ".join(_fitting(flows))
        raise ValueError(f"scheduler {name[:60]!r} does not fit this model; known: {known}")
    if flows and kind != own:
        overrides = {**_flowing(options, kind), **overrides}
    if kind == FLOW:
        config = ScheduleConfig.read({**options, **overrides})
        return flow_euler(config, steps, begin, tokens)
    build, defaults = _KINDS[kind]
    config = ScheduleConfig.read({**defaults, **options, **overrides})
    if config.use_dynamic_shifting:
        config = replace(config, flow_shift=dynamic_shift(config, tokens))
    return build(config, steps, begin)


def _find(name: str) -> tuple[str, Mapping[str, Any]]:
    word = name.strip().lower().replace("-", "_").replace(" ", "_").removesuffix("scheduler")
    classes = {kind.removesuffix("Scheduler").lower(): kind for kind in (*_KINDS, FLOW)}
    if word in classes:
        return classes[word], {}
    if _OTHER.get(word, word) not in _SHORT:
        raise ValueError(f"unknown scheduler {name[:60]!r}; known: {', '.join(KNOWN_SCHEDULERS)}")
    return _SHORT[_OTHER.get(word, word)]


def _flows(options: Mapping[str, Any]) -> bool:
    """Whether a folder's model was trained by flow matching."""
    return options.get("_class_name") == FLOW or bool(options.get("use_flow_sigmas"))


def _flowing(options: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """What flow matching is called for another class than the folder's own."""
    shift = options.get("flow_shift") or options.get("shift") or 1.0
    if kind == FLOW:
        return {"shift": shift}
    return {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": shift}


def _fitting(flows: bool) -> list[str]:
    """The known names that fit a model."""
    kinds = {name: _find(name)[0] for name in KNOWN_SCHEDULERS}
    if flows:
        fitting = [name for name, kind in kinds.items() if kind in (FLOW, *_SOLVERS)]
        return [name for name in fitting if "karras" not in name]
    return [name for name, kind in kinds.items() if kind != FLOW]

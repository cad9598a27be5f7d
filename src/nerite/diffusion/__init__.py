"""Diffusion models with step-level continuous batching, usable alone as a library.

    pipeline = open_pipeline(Path("model"))
    engine = Engine(pipeline)
    engine.start()
    engine.add(Params("a red house in the snow", width=128, height=128), print)

Importing it costs numpy only: onnxruntime and tokenizers are loaded with the first model.
"""

from nerite.diffusion.engine import Aborted, Engine, EngineClosed, Ticket
from nerite.diffusion.job import InvalidParams, Painted, Params
from nerite.diffusion.limits import Limits
from nerite.diffusion.pipeline import Pipeline, find_model_folder, open_pipeline
from nerite.diffusion.samplers import KNOWN_SCHEDULERS

__all__ = [
    "KNOWN_SCHEDULERS",
    "Aborted",
    "Engine",
    "EngineClosed",
    "InvalidParams",
    "Limits",
    "Painted",
    "Params",
    "Pipeline",
    "Ticket",
    "find_model_folder",
    "open_pipeline",
]

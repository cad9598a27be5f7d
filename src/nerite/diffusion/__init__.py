"""Diffusion models with step-level continuous batching, usable alone as a library.

    pipeline = open_pipeline(Path("model"))
    engine = Engine(pipeline)
    engine.start()
    engine.add(Params("a red house in the snow", width=128, height=128), print)

Importing it costs numpy only: onnxruntime, torch and tokenizers are loaded with the first model.
"""

from nerite.diffusion.embeddings import Embeddings
from nerite.diffusion.engine import Aborted, Engine, EngineClosed, Overdue
from nerite.diffusion.images import read_picture
from nerite.diffusion.job import InvalidParams, Painted, Params, Progress
from nerite.diffusion.limits import MAX_GUIDANCE, MAX_PIXELS, Limits
from nerite.diffusion.memory import Memory
from nerite.diffusion.pipeline import Pipeline, find_model_folder, open_pipeline
from nerite.diffusion.safety import SafetyChecker
from nerite.diffusion.samplers import KNOWN_SCHEDULERS
from nerite.diffusion.ticket import Ticket, Watch

__all__ = [
    "KNOWN_SCHEDULERS",
    "MAX_GUIDANCE",
    "MAX_PIXELS",
    "Aborted",
    "Embeddings",
    "Engine",
    "EngineClosed",
    "InvalidParams",
    "Limits",
    "Memory",
    "Overdue",
    "Painted",
    "Params",
    "Pipeline",
    "Progress",
    "SafetyChecker",
    "Ticket",
    "Watch",
    "find_model_folder",
    "open_pipeline",
    "read_picture",
]

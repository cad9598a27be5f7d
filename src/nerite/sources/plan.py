"""A TensorRT plan of an ONNX graph, where TensorRT and a GPU are there to build it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

Sizes = Mapping[str, tuple[tuple[int, ...], ...]]
"""Of each input the smallest, the usual and the largest shape."""


class NoPlan(Exception):
    """Why there is no plan."""


def build(graph: Path, sizes: Sizes) -> None:
    """Put a model.plan in half precision in the place of ``graph``. Raises NoPlan."""
    try:
        import tensorrt
    except ImportError:
        raise NoPlan("TensorRT is not installed: pip install 'nerite[tensorrt]'") from None
    log = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(log)
    if builder is None:
        raise NoPlan("TensorRT finds no GPU")
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        raise NoPlan(f"TensorRT cannot read {graph}: {parser.get_error(0)}")
    config = builder.create_builder_config()
    if hasattr(tensorrt.BuilderFlag, "FP16"):
        config.set_flag(tensorrt.BuilderFlag.FP16)
    profile = builder.create_optimization_profile()
    for name, shapes in sizes.items():
        profile.set_shape(name, *shapes)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise NoPlan(f"TensorRT made no plan of {graph}")
    graph.with_name("model.plan").write_bytes(bytes(plan))
    for left in graph.parent.glob("model.onnx*"):
        left.unlink()

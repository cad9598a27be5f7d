"""ONNX graphs whose weights are the bytes of the safetensors files that diffusers reads.

Each weight is external data (a place in the safetensors file) and a Cast to float32, which
onnxruntime folds when it loads the graph: nothing is stored twice.
"""

from __future__ import annotations

import json
import os
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

OPSET = 18
SMALL = 64


Axes = dict[str, dict[int, str]]


@dataclass(frozen=True, slots=True)
class Target:
    """A graph's file, and the safetensors file that holds its parameters."""

    graph: Path
    weights: Path

    @property
    def location(self) -> str:
        """Where the weights are, seen from the graph's folder."""
        return Path(os.path.relpath(self.weights, self.graph.parent)).as_posix()


class TextGraph(nn.Module):
    """Words to hidden states."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden: Tensor = self.network(input_ids=input_ids, return_dict=False)[0]
        return hidden


class UnetGraph(nn.Module):
    """One step's noise, each row at its own timestep."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        noise: Tensor = self.network(sample, timestep, encoder_hidden_states, return_dict=False)[0]
        return noise


class DecoderGraph(nn.Module):
    """Latents to pictures."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.decoder, self.post_quant_conv = vae.decoder, vae.post_quant_conv

    def forward(self, latent_sample: Tensor) -> Tensor:
        picture: Tensor = self.decoder(self.post_quant_conv(latent_sample))
        return picture


class EncoderGraph(nn.Module):
    """Pictures to the mean of their latents."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.encoder, self.quant_conv = vae.encoder, vae.quant_conv

    def forward(self, sample: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(sample)).chunk(2, 1)[0]


def write_graph(
    module: nn.Module, inputs: Mapping[str, Tensor], output: str, target: Target, axes: Axes
) -> None:
    """The module as a graph whose parameters are those of the target's weights file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            str(target.graph),
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes=axes,
            opset_version=OPSET,
            do_constant_folding=False,
            dynamo=False,
        )
    model = onnx.load(str(target.graph))
    _borrow_weights(model.graph, target)
    for node in model.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    model.producer_name, model.producer_version = "nerite", ""
    target.graph.write_bytes(model.SerializeToString())


@dataclass(frozen=True, slots=True)
class _Stored:
    """One tensor of a safetensors file: its bytes, and where in the file they start."""

    shape: tuple[int, ...]
    offset: int
    data: bytes


def _read(weights: Path) -> list[_Stored]:
    raw = weights.read_bytes()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    header: dict[str, Any] = json.loads(raw[8:start])
    header.pop("__metadata__", None)
    found = []
    for entry in header.values():
        first, last = (start + offset for offset in entry["data_offsets"])
        found.append(_Stored(tuple(entry["shape"]), first, raw[first:last]))
    return found


def _borrow_weights(graph: onnx.GraphProto, target: Target) -> None:
    """Replace each parameter among the initializers by its half-precision twin in the file."""
    twins = {(twin.shape, twin.data): twin for twin in _read(target.weights)}
    kept, casts = [], []
    for tensor in graph.initializer:
        value = numpy_helper.to_array(tensor)
        twin = None
        if value.dtype == np.float32:
            twin = twins.get((value.shape, value.astype(np.float16).tobytes()))
            if twin is None and value.size >= SMALL:
                raise ValueError(f"{tensor.name} {value.shape} is not in {target.weights}")
        if twin is None:
            kept.append(tensor)
            continue
        half = _external(f"{tensor.name}.half", twin, target.location)
        kept.append(half)
        casts.append(helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)


def _external(name: str, twin: _Stored, location: str) -> TensorProto:
    stored = TensorProto(name=name, data_type=TensorProto.FLOAT16, dims=twin.shape)
    stored.data_location = TensorProto.EXTERNAL
    place = {"location": location, "offset": str(twin.offset), "length": str(len(twin.data))}
    for key, text in place.items():
        stored.external_data.add(key=key, value=text)
    return stored

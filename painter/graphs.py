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


def _header(weights: Path) -> tuple[dict[str, dict[str, object]], int]:
    with weights.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(length)), 8 + length


def _borrow_weights(graph: onnx.GraphProto, target: Target) -> None:
    """Replace each float initializer by its half-precision twin in the file."""
    header, start = _header(target.weights)
    raw = target.weights.read_bytes()
    twins = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]  # type: ignore[misc]
        data = raw[start + first : start + last]
        twins[name] = (entry["shape"], start + first, last - first, data)
    by_bytes = {(tuple(shape), data): name for name, (shape, _, _, data) in twins.items()}
    kept, casts = [], []
    for tensor in graph.initializer:
        value = numpy_helper.to_array(tensor)
        half = value.astype(np.float16)
        name = by_bytes.get((value.shape, half.tobytes()))
        if name is None or value.dtype != np.float32:
            if value.dtype == np.float32 and value.size >= SMALL:
                raise ValueError(f"{tensor.name} {value.shape} is not in {target.weights}")
            kept.append(tensor)
            continue
        stored = TensorProto(name=f"{tensor.name}.half", data_type=TensorProto.FLOAT16)
        stored.dims.extend(value.shape)
        stored.data_location = TensorProto.EXTERNAL
        _, offset, length, _ = twins[name]
        place = {"location": target.location, "offset": str(offset), "length": str(length)}
        for key, text in place.items():
            stored.external_data.add(key=key, value=text)
        kept.append(stored)
        cast = helper.make_node("Cast", [stored.name], [tensor.name], to=TensorProto.FLOAT)
        casts.append(cast)
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)

"""`triton_python_backend_utils` as a model.py knows it: thin skins over our own words.

A worker puts this module under its public name before it imports the user's code. What is here
under a name without underscore is Triton's, and means what it means there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nerite.backends.python.bls import ResponseIterator, is_model_ready, load_model, unload_model
from nerite.backends.python.errors import TritonError, TritonModelException
from nerite.backends.python.logger import Logger
from nerite.backends.python.metric import Metric, MetricFamily, MetricKind
from nerite.backends.python.model_config import (
    ModelConfig,
    get_input_config_by_name,
    get_output_config_by_name,
    using_decoupled_model_transaction_policy,
)
from nerite.backends.python.pb_tensor import Tensor
from nerite.backends.python.request import (
    TRITONSERVER_MEMORY_CPU,
    TRITONSERVER_MEMORY_GPU,
    TRITONSERVER_REQUEST_FLAG_SEQUENCE_END,
    TRITONSERVER_REQUEST_FLAG_SEQUENCE_START,
    TRITONSERVER_REQUEST_RELEASE_ALL,
    TRITONSERVER_REQUEST_RELEASE_RESCHEDULE,
    InferenceRequest,
    InferenceTrace,
    MemoryType,
    PreferredMemory,
)
from nerite.backends.python.response import (
    TRITONSERVER_RESPONSE_COMPLETE_FINAL,
    InferenceResponse,
    InferenceResponseSender,
)
from nerite.backends.python.surroundings import here
from nerite.core import tensor as tensors

__all__ = [
    "TRITONSERVER_MEMORY_CPU",
    "TRITONSERVER_MEMORY_GPU",
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_END",
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_START",
    "TRITONSERVER_REQUEST_RELEASE_ALL",
    "TRITONSERVER_REQUEST_RELEASE_RESCHEDULE",
    "TRITONSERVER_RESPONSE_COMPLETE_FINAL",
    "TRITON_STRING_TO_NUMPY",
    "InferenceRequest",
    "InferenceResponse",
    "InferenceResponseSender",
    "InferenceTrace",
    "Logger",
    "MemoryType",
    "Metric",
    "MetricFamily",
    "MetricKind",
    "ModelConfig",
    "PreferredMemory",
    "ResponseIterator",
    "Tensor",
    "TritonError",
    "TritonModelException",
    "deserialize_bytes_tensor",
    "get_input_config_by_name",
    "get_input_tensor_by_name",
    "get_model_dir",
    "get_output_config_by_name",
    "get_output_tensor_by_name",
    "is_model_ready",
    "load_model",
    "numpy_to_triton_type",
    "serialize_byte_tensor",
    "triton_string_to_numpy",
    "triton_to_numpy_type",
    "unload_model",
    "using_decoupled_model_transaction_policy",
]

# In the order of Triton's type numbers, which begin at 1.
_NUMPY: list[Any] = [
    *(np.bool_, np.uint8, np.uint16, np.uint32, np.uint64),
    *(np.int8, np.int16, np.int32, np.int64),
    *(np.float16, np.float32, np.float64, np.object_),
]
_NAMES = [
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "STRING"),
]
TRITON_STRING_TO_NUMPY: dict[str, Any] = {
    **{f"TYPE_{name}": kind for name, kind in zip(_NAMES, _NUMPY)},
    "TYPE_BOOL": bool,
}


def get_model_dir() -> str:
    """The folder of the model's version, for a Python-based backend to read its files from."""
    return str(here().spec.version_folder)


def get_input_tensor_by_name(inference_request: InferenceRequest, name: str) -> Tensor | None:
    """A request's input; None when it has none of that name."""
    for tensor in inference_request.inputs():
        if tensor.name() == name:
            return tensor
    return None


def get_output_tensor_by_name(inference_response: InferenceResponse, name: str) -> Tensor | None:
    """A response's output; None when it has none of that name."""
    tensors = inference_response.output_tensors()
    return next((one for one in tensors if one.name() == name), None)


def triton_string_to_numpy(triton_type_string: str) -> Any:
    """The numpy type of "TYPE_FP32" and its like; KeyError when there is none."""
    return TRITON_STRING_TO_NUMPY[triton_type_string]


def triton_to_numpy_type(data_type: int) -> Any:
    """The numpy type of Triton's type number; None when there is none."""
    return _NUMPY[data_type - 1] if 1 <= data_type <= len(_NUMPY) else None


def numpy_to_triton_type(data_type: Any) -> int | None:
    """Triton's type number of a numpy type; None when there is none."""
    for number, kind in enumerate(_NUMPY, 1):
        if data_type == kind:
            return number
    return len(_NUMPY) if data_type == np.bytes_ else None


def serialize_byte_tensor(input_tensor: tensors.Tensor) -> Any:
    """A BYTES tensor as bytes: of each element its length in 4 bytes, little endian, and data.

    () for an empty one, None for one of another type, as Triton has it.
    """
    if input_tensor.size == 0:
        return ()
    if input_tensor.dtype != np.object_ and input_tensor.dtype.type != np.bytes_:
        return None
    return bytes(tensors.to_bytes(input_tensor))


def deserialize_bytes_tensor(encoded_tensor: bytes) -> tensors.Tensor:
    """What `serialize_byte_tensor` made, as a flat array of `bytes` objects."""
    items = tensors.split_bytes(memoryview(encoded_tensor))
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array

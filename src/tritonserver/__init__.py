"""Triton's in-process Python API, served by nerite.

    server = tritonserver.Server(model_repository="models").start(wait_until_ready=True)
    for response in server.model("add_sub").infer(inputs={"INPUT0": a, "INPUT1": b}):
        print(numpy.from_dlpack(response.outputs["OUTPUT0"]))
    server.stop()

What is named here is public. docs/in-process.md tells how far it goes.
"""

import nerite
from tritonserver._api._dlpack import DLDeviceType
from tritonserver._api._errors import (
    AlreadyExistsError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    TritonError,
    UnavailableError,
    UnknownError,
    UnsupportedError,
)
from tritonserver._api._kinds import (
    DataType,
    InstanceGroupKind,
    LogFormat,
    MemoryType,
    MetricFormat,
    MetricKind,
    ModelBatchFlag,
    ModelControlMode,
    ModelTxnPropertyFlag,
    RateLimitMode,
)
from tritonserver._api._memorybuffer import MemoryBuffer
from tritonserver._api._metrics import Metric, MetricFamily
from tritonserver._api._model import Model
from tritonserver._api._options import ModelLoadDeviceLimit, Options, RateLimiterResource
from tritonserver._api._request import InferenceRequest
from tritonserver._api._response import InferenceResponse
from tritonserver._api._server import Server
from tritonserver._api._tensor import Tensor

__version__ = nerite.__version__

__all__ = [
    "AlreadyExistsError",
    "DLDeviceType",
    "DataType",
    "InferenceRequest",
    "InferenceResponse",
    "InstanceGroupKind",
    "InternalError",
    "InvalidArgumentError",
    "LogFormat",
    "MemoryBuffer",
    "MemoryType",
    "Metric",
    "MetricFamily",
    "MetricFormat",
    "MetricKind",
    "Model",
    "ModelBatchFlag",
    "ModelControlMode",
    "ModelLoadDeviceLimit",
    "ModelTxnPropertyFlag",
    "NotFoundError",
    "Options",
    "RateLimitMode",
    "RateLimiterResource",
    "Server",
    "Tensor",
    "TritonError",
    "UnavailableError",
    "UnknownError",
    "UnsupportedError",
]

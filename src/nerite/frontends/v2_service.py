"""The RPCs of GRPCInferenceService, registered so that bytes which are no message are answered.

grpc's own registration lets the parser's exception out, and the client sees a fault of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from tritonclient.grpc import service_pb2 as pb

from nerite.core.errors import InferenceError, invalid

_SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]


class Unreadable:
    """Stands for a message that could not be parsed: to read a field of it is an InferenceError."""

    def __init__(self, error: InferenceError) -> None:
        self._error = error

    def __getattr__(self, name: str) -> NoReturn:
        raise self._error


def add_service(listener: grpc.aio.Server, servicer: Any) -> None:
    """Let `servicer` answer each RPC by the method of its name, ModelInfer by `infer`, which takes
    and gives the messages' bytes."""
    handlers = {method.name: _handler(servicer, method) for method in _SERVICE.methods}
    handlers["ModelInfer"] = grpc.unary_unary_rpc_method_handler(servicer.infer)
    service = grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers)
    listener.add_generic_rpc_handlers((service,))


def _handler(servicer: Any, method: MethodDescriptor) -> Any:
    request = GetMessageClass(method.input_type)
    response = GetMessageClass(method.output_type)
    kind = (
        grpc.stream_stream_rpc_method_handler
        if method.name == "ModelStreamInfer"
        else grpc.unary_unary_rpc_method_handler
    )
    return kind(
        getattr(servicer, method.name),
        request_deserializer=_reader(request),
        response_serializer=response.SerializeToString,
    )


def _reader(message: Any) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        try:
            return message.FromString(data)
        except DecodeError:
            return Unreadable(invalid(f"the message is no {message.DESCRIPTOR.name}"))

    return read

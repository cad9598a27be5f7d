"""KServe v2 over gRPC: GRPCInferenceService and grpc.health.v1, on the server's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from nerite.core.call import one_of
from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.request import Request
from nerite.frontends.intake import Forwarding
from nerite.frontends.ports import GrpcPort
from nerite.frontends.regions import Regions
from nerite.frontends.v2_metadata import model_metadata, server_metadata
from nerite.frontends.v2_packed import Messages
from nerite.frontends.v2_repository import index_entry
from nerite.frontends.v2_response import placed, target_of
from nerite.frontends.v2_service import add_service
from nerite.frontends.v2_settings import log_settings, trace_setting
from nerite.frontends.v2_statistics import statistics
from nerite.frontends.v2_stream import InferStream, wants_status
from nerite.server import Server
from nerite.tracing.tracer import carrier_of

log = logging.getLogger(__name__)

_CODES = {
    Status.UNKNOWN: grpc.StatusCode.UNKNOWN,
    Status.INTERNAL: grpc.StatusCode.INTERNAL,
    Status.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Status.INVALID_ARG: grpc.StatusCode.INVALID_ARGUMENT,
    Status.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Status.UNSUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
    Status.ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Status.CANCELLED: grpc.StatusCode.CANCELLED,
}
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


def open_grpc(
    server: Server, version: str, regions: Regions, port: GrpcPort
) -> tuple[grpc.aio.Server, int]:
    """A bound, not yet started gRPC server and its port; OSError when the port is taken."""
    listener = grpc.aio.server(
        options=port.options, interceptors=port.interceptors, compression=port.compression
    )
    add_service(listener, V2Grpc(server, version, regions, port.forward))
    health_pb2_grpc.add_HealthServicer_to_server(_Health(server), listener)
    host = f"[{port.address}]" if ":" in port.address else port.address
    address = f"{host}:{port.port}"
    try:
        if port.credentials is None:
            bound = listener.add_insecure_port(address)
        else:
            bound = listener.add_secure_port(address, port.credentials)
    except RuntimeError as error:
        raise OSError(str(error)) from None
    if not bound:
        raise OSError(f"cannot bind {address}")
    return listener, bound


class V2Grpc(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The inference service; a message of ours for each of its RPCs that we serve."""

    def __init__(self, server: Server, version: str, regions: Regions, forward: Forwarding) -> None:
        self._forward = forward
        self._server = server
        self._version = version
        self._regions = regions
        self._messages = Messages(regions)

    async def ServerLive(self, request: Any, context: Context) -> Any:
        return pb.ServerLiveResponse(live=self._server.live)

    async def ServerReady(self, request: Any, context: Context) -> Any:
        return pb.ServerReadyResponse(ready=self._server.ready)

    async def ModelReady(self, request: Any, context: Context) -> Any:
        async with _answering(context):
            try:
                ready = await self._server.check_ready(request.name, request.version)
            except InferenceError as error:
                if error.status is not Status.NOT_FOUND:
                    raise
                ready = False  # clients ask for models that are gone, and expect an answer
            return pb.ModelReadyResponse(ready=ready)

    async def ServerMetadata(self, request: Any, context: Context) -> Any:
        return pb.ServerMetadataResponse(**server_metadata(self._server, self._version))

    async def ModelMetadata(self, request: Any, context: Context) -> Any:
        async with _answering(context):
            model = self._server.find(request.name, request.version)
            document = model_metadata(self._server, model)
            return json_format.ParseDict(document, pb.ModelMetadataResponse())

    async def ModelConfig(self, request: Any, context: Context) -> Any:
        async with _answering(context):
            model = self._server.find(request.name, request.version)
            return pb.ModelConfigResponse(config=model.config)

    async def ModelStatistics(self, request: Any, context: Context) -> Any:
        async with _answering(context):
            document = statistics(self._server, request.name, request.version)
            return json_format.ParseDict(document, pb.ModelStatisticsResponse())

    async def RepositoryIndex(self, request: Any, context: Context) -> Any:
        async with _answering(context):
            if request.repository_name:
                raise _named_repository()
            states = await self._server.index(ready=request.ready)
            return pb.RepositoryIndexResponse(models=[index_entry(state) for state in states])

    async def RepositoryModelLoad(self, request: Any, context: Context) -> Any:
        async with _answering(context):
            if request.repository_name:
                raise _named_repository()
            config, files = _overrides(request.parameters)
            await self._server.load(request.model_name, config, files)
            return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Context) -> Any:
        async with _answering(context):
            if request.repository_name:
                raise _named_repository()
            dependents = request.parameters["unload_dependents"].bool_param
            await self._server.unload(request.model_name, dependents=dependents)
            return pb.RepositoryModelUnloadResponse()

    async def infer(self, data: bytes, context: Context) -> bytes:
        """ModelInfer, from and to the bytes of its messages."""
        try:
            return await self._infer(data, context)
        except InferenceError as error:
            # grpc keeps what ends an RPC until the collector comes by; with the frames it came
            # through, the request's regions of shared memory would be in use as long.
            await _abort(context, error.with_traceback(None))
            raise
        except asyncio.CancelledError:
            log.debug("Cancellation notification received for ModelInfer")
            raise

    async def _infer(self, data: bytes, context: Context) -> bytes:
        request, form = self._messages.decode(data)
        model = self._server.taking(request.model, request.version)
        if model.decoupled:
            text = "ModelInfer RPC doesn't support models with decoupled transaction policy"
            raise InferenceError(Status.UNSUPPORTED, text)
        if self._forward.active:
            carrier = carrier_of(context.invocation_metadata())
            request = self._forward(request, carrier.items())
        target = target_of(model, form, self._regions)
        request = placed(request, target)
        if self._server.tracer.active:
            request = self._traced(request, context)
        # A client that hangs up cancels this task, and with it the call.
        # What comes before the last answer is how far it is, which a stream would be told.
        answers = [one async for one in model.infer(request)]
        response = one_of([one for one in answers if one.final or one.error is not None])
        return self._messages.encode(request, response, target)

    def _traced(self, asked: Request, context: Context) -> Request:
        headers = carrier_of(context.invocation_metadata())
        request, trace = self._server.tracer.begin(asked, "GRPC", headers)
        if trace is not None:
            # grpc-stubs declare a callback's class where any callable is meant.
            context.add_done_callback(lambda _: trace.sent())  # type: ignore[arg-type]
        return request

    async def TraceSetting(self, request: Any, context: Context) -> Any:
        async with _answering(context):
            return trace_setting(self._server, request)

    async def LogSettings(self, request: Any, context: Context) -> Any:
        async with _answering(context):
            return log_settings(self._server, request)

    async def SystemSharedMemoryStatus(self, request: Any, context: Context) -> Any:
        async with _answering(context):
            regions = {one["name"]: one for one in self._regions.status(request.name)}
            return pb.SystemSharedMemoryStatusResponse(regions=regions)

    async def SystemSharedMemoryRegister(self, request: Any, context: Context) -> Any:
        async with _answering(context):
            self._regions.register(request.name, request.key, request.offset, request.byte_size)
            return pb.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(self, request: Any, context: Context) -> Any:
        async with _answering(context):
            self._regions.unregister(request.name)
            return pb.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(self, request: Any, context: Context) -> Any:
        async with _answering(context):
            regions = self._regions.status(request.name, cuda=True)
            return pb.CudaSharedMemoryStatusResponse(regions={one["name"]: one for one in regions})

    async def CudaSharedMemoryRegister(self, request: Any, context: Context) -> Any:
        async with _answering(context):
            self._regions.register_cuda(
                request.name, request.raw_handle, request.device_id, request.byte_size
            )
            return pb.CudaSharedMemoryRegisterResponse()

    async def CudaSharedMemoryUnregister(self, request: Any, context: Context) -> Any:
        async with _answering(context):
            self._regions.unregister(request.name, cuda=True)
            return pb.CudaSharedMemoryUnregisterResponse()

    async def ModelStreamInfer(self, requests: Any, context: Context) -> AsyncIterator[Any]:
        with_status = wants_status(context.invocation_metadata())
        headers = carrier_of(context.invocation_metadata())
        stream = InferStream(self._server, self._regions, requests, headers, self._forward)
        async with contextlib.aclosing(stream.answers()) as answers:
            async for reply, error in answers:
                if error is not None and with_status:
                    await _abort(context, error)
                yield reply


class _Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """grpc.health.v1: every service name is answered with the server's readiness."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def Check(self, request: Any, context: Context) -> Any:
        status = health_pb2.HealthCheckResponse
        return status(status=status.SERVING if self._server.ready else status.NOT_SERVING)


@contextlib.asynccontextmanager
async def _answering(context: Context) -> AsyncIterator[None]:
    """An InferenceError ends the call with its status."""
    try:
        yield
    except InferenceError as error:
        await _abort(context, error)


def _named_repository() -> InferenceError:
    text = "'repository_name' specification is not supported"
    return InferenceError(Status.UNSUPPORTED, text)


def _overrides(parameters: Any) -> tuple[str | None, dict[str, bytes]]:
    """The config and the files of a load request. Raises InferenceError."""
    config: str | None = None
    files: dict[str, bytes] = {}
    for key, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if key == "config":
            if kind != "string_param":
                raise invalid("invalid value type for 'config' parameter, expected string_param.")
            config = parameter.string_param
        elif key.startswith("file:"):
            if kind != "bytes_param":
                raise invalid(f"invalid value type for '{key}' parameter, expected bytes_param.")
            files[key.removeprefix("file:")] = parameter.bytes_param
        else:
            raise invalid(f"unrecognized load parameter '{key}': there are config and file:PATH")
    return config, files


async def _abort(context: Context, error: InferenceError) -> None:
    log.debug("RPC failed: %s", error.message)
    await context.abort(_CODES[error.status], error.message)

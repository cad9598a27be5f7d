"""KServe v2 over gRPC: GRPCInferenceService and grpc.health.v1, on the server's own loop."""

from __future__ import annotations

import contextlib
import logging
from functools import partial
from typing import Any

from google.protobuf import json_format
from grpc_health.v1 import health_pb2
from tritonclient.grpc import service_pb2 as pb

from nerite.core.call import Answer, Call
from nerite.core.errors import InferenceError, Status, invalid
from nerite.frontends.asking import ask
from nerite.frontends.http2 import GrpcCode, Listener, Rpc
from nerite.frontends.http2_rpc import BROKEN
from nerite.frontends.intake import Forwarding
from nerite.frontends.ports import GrpcPort
from nerite.frontends.regions import Regions
from nerite.frontends.v2_metadata import model_metadata, server_metadata
from nerite.frontends.v2_packed import Messages
from nerite.frontends.v2_repository import index_entry
from nerite.frontends.v2_response import Target, placed, target_of
from nerite.frontends.v2_service import fail, routes_of
from nerite.frontends.v2_settings import log_settings, trace_setting
from nerite.frontends.v2_statistics import statistics
from nerite.frontends.v2_stream import InferStream, wants_status
from nerite.server import Server

log = logging.getLogger(__name__)


def grpc_listener(server: Server, version: str, regions: Regions, port: GrpcPort) -> Listener:
    """What serves gRPC once it is started on a socket."""
    routes = routes_of(V2Grpc(server, version, regions, port.forward))
    if port.delay is not None:
        routes = {path: port.delay(path, route) for path, route in routes.items()}
    return Listener(routes, port.terms, port.gate, port.compression)


class V2Grpc:
    """The services; a method for each of the RPCs that we serve."""

    def __init__(self, server: Server, version: str, regions: Regions, forward: Forwarding) -> None:
        self._forward = forward
        self._server = server
        self._version = version
        self._regions = regions
        self._messages = Messages(regions)

    async def Check(self, request: Any) -> Any:
        """grpc.health.v1: every service name is answered with the server's readiness."""
        status = health_pb2.HealthCheckResponse
        return status(status=status.SERVING if self._server.ready else status.NOT_SERVING)

    async def ServerLive(self, request: Any) -> Any:
        return pb.ServerLiveResponse(live=self._server.live)

    async def ServerReady(self, request: Any) -> Any:
        return pb.ServerReadyResponse(ready=self._server.ready)

    async def ModelReady(self, request: Any) -> Any:
        try:
            ready = await self._server.check_ready(request.name, request.version)
        except InferenceError as error:
            if error.status is not Status.NOT_FOUND:
                raise
            ready = False  # clients ask for models that are gone, and expect an answer
        return pb.ModelReadyResponse(ready=ready)

    async def ServerMetadata(self, request: Any) -> Any:
        return pb.ServerMetadataResponse(**server_metadata(self._server, self._version))

    async def ModelMetadata(self, request: Any) -> Any:
        model = self._server.find(request.name, request.version)
        document = model_metadata(self._server, model)
        return json_format.ParseDict(document, pb.ModelMetadataResponse())

    async def ModelConfig(self, request: Any) -> Any:
        model = self._server.find(request.name, request.version)
        return pb.ModelConfigResponse(config=model.config)

    async def ModelStatistics(self, request: Any) -> Any:
        document = statistics(self._server, request.name, request.version)
        return json_format.ParseDict(document, pb.ModelStatisticsResponse())

    async def RepositoryIndex(self, request: Any) -> Any:
        if request.repository_name:
            raise _named_repository()
        states = await self._server.index(ready=request.ready)
        return pb.RepositoryIndexResponse(models=[index_entry(state) for state in states])

    async def RepositoryModelLoad(self, request: Any) -> Any:
        if request.repository_name:
            raise _named_repository()
        config, files = _overrides(request.parameters)
        await self._server.load(request.model_name, config, files)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any) -> Any:
        if request.repository_name:
            raise _named_repository()
        dependents = request.parameters["unload_dependents"].bool_param
        await self._server.unload(request.model_name, dependents=dependents)
        return pb.RepositoryModelUnloadResponse()

    def infer(self, rpc: Rpc) -> None:
        """ModelInfer: no task and no future, as over HTTP."""
        try:
            self._infer(rpc)
        except InferenceError as error:
            fail(rpc, error)

    def _infer(self, rpc: Rpc) -> None:
        request, form = self._messages.decode(rpc.message)
        rpc.message = b""
        model = self._server.taking(request.model, request.version)
        if model.decoupled:
            text = "ModelInfer RPC doesn't support models with decoupled transaction policy"
            raise InferenceError(Status.UNSUPPORTED, text)
        if self._forward.active:
            request = self._forward(request, rpc.head.headers.items())
        target = target_of(model, form, self._regions)
        request = placed(request, target)
        deliver = partial(self._deliver, rpc, target)
        call = ask(model, self._server.tracer, rpc, request, deliver, "GRPC")
        if rpc.open:
            rpc.on_disconnect = partial(_cancel, call)

    def _deliver(self, rpc: Rpc, target: Target, call: Call, answer: Answer) -> None:
        """The model's answer, on the loop."""
        if isinstance(answer, InferenceError):
            fail(rpc, answer)
            return
        if answer.error is not None:
            fail(rpc, answer.error)
            return
        if not answer.final:  # how far it is, which a stream would be told
            return
        try:
            parts = self._messages.encode(call.request, answer, target)
        except InferenceError as error:
            fail(rpc, error)
        except Exception:  # whoever delivers knows nothing of this RPC
            log.exception("the answer of model '%s' cannot be written", call.request.model)
            rpc.fail(GrpcCode.INTERNAL, BROKEN)
        else:
            rpc.respond(parts)

    async def TraceSetting(self, request: Any) -> Any:
        return trace_setting(self._server, request)

    async def LogSettings(self, request: Any) -> Any:
        return log_settings(self._server, request)

    async def SystemSharedMemoryStatus(self, request: Any) -> Any:
        regions = {one["name"]: one for one in self._regions.status(request.name)}
        return pb.SystemSharedMemoryStatusResponse(regions=regions)

    async def SystemSharedMemoryRegister(self, request: Any) -> Any:
        self._regions.register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(self, request: Any) -> Any:
        self._regions.unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(self, request: Any) -> Any:
        regions = self._regions.status(request.name, cuda=True)
        return pb.CudaSharedMemoryStatusResponse(regions={one["name"]: one for one in regions})

    async def CudaSharedMemoryRegister(self, request: Any) -> Any:
        self._regions.register_cuda(
            request.name, request.raw_handle, request.device_id, request.byte_size
        )
        return pb.CudaSharedMemoryRegisterResponse()

    async def CudaSharedMemoryUnregister(self, request: Any) -> Any:
        self._regions.unregister(request.name, cuda=True)
        return pb.CudaSharedMemoryUnregisterResponse()

    async def stream(self, rpc: Rpc) -> None:
        """ModelStreamInfer."""
        with_status = wants_status(rpc.head.metadata)
        headers = rpc.head.headers
        stream = InferStream(self._server, self._regions, rpc.messages(), headers, self._forward)
        async with contextlib.aclosing(stream.answers()) as answers:
            async for reply, error in answers:
                if error is not None and with_status:
                    raise error
                await rpc.send([reply])
        rpc.finish()


def _cancel(call: Call) -> None:
    log.debug("Cancellation notification received for ModelInfer")
    call.cancel()


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

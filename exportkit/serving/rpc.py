"""The Open Inference Protocol over gRPC, with the streams and the repository of NVIDIA's extensions.

KServe's servicer is not used: it has no streams, no configuration and no index, its load is broken, and a message that does not parse is
an internal error there. Here handlers get bytes, so that such a message is the client's fault, in words.
"""

import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf import json_format
from tritonclient.grpc import service_pb2 as messages

from exportkit import __version__
from exportkit.serving import rpc_wire
from exportkit.serving.answers import RequestError
from exportkit.serving.catalog import Catalog
from exportkit.serving.requests import arrays, refuse_parameters
from exportkit.serving.rest import EXTENSIONS

_SERVICE = "/inference.GRPCInferenceService/"
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}

Unary = Callable[[bytes, Any], Awaitable[bytes]]


class Rpc(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc is typed in part
    """Answers calls by their names."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        unary: dict[str, tuple[Any, Callable[[Any], Awaitable[Any]]]] = {
            "ServerLive": (messages.ServerLiveRequest, self._live),
            "ServerReady": (messages.ServerReadyRequest, self._server_ready),
            "ModelReady": (messages.ModelReadyRequest, self._model_ready),
            "ServerMetadata": (messages.ServerMetadataRequest, self._server),
            "ModelMetadata": (messages.ModelMetadataRequest, self._model),
            "ModelConfig": (messages.ModelConfigRequest, self._config),
            "RepositoryIndex": (messages.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": (messages.RepositoryModelLoadRequest, self._load),
            "RepositoryModelUnload": (messages.RepositoryModelUnloadRequest, self._unload),
        }
        self._methods = {
            _SERVICE + name: grpc.unary_unary_rpc_method_handler(self._unary(partial(rpc_wire.read_message, kind), answer))
            for name, (kind, answer) in unary.items()
        }
        self._methods[_SERVICE + "ModelInfer"] = grpc.unary_unary_rpc_method_handler(self._unary(rpc_wire.read, self._infer))
        self._methods[_SERVICE + "ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._stream)

    def service(self, details: Any) -> Any:
        return self._methods.get(details.method)

    def _unary(self, read: Callable[[bytes], Any], answer: Callable[[Any], Awaitable[Any]]) -> Unary:
        async def handle(data: bytes, context: Any) -> bytes:
            try:
                return (await answer(read(data))).SerializeToString()  # type: ignore[no-any-return]
            except RequestError as error:
                refusal = error
            except Exception as error:  # noqa: BLE001 - the client is told no more than that
                self.catalog.journal.write("error", "fault of the server", traceback=traceback.format_exc())
                refusal = RequestError(500, f"a fault of the server: {type(error).__name__}")
            self.catalog.journal.refused("grpc", "", refusal.status, refusal.reason)
            await context.abort(_CODES.get(refusal.status, grpc.StatusCode.INTERNAL), refusal.reason)
            raise AssertionError  # abort raises

        return handle

    async def _infer(self, request: Any) -> Any:
        try:
            queue = self.catalog.find(request.model_name, request.model_version)
            begun, contract = time.perf_counter(), queue.model.contract
            try:
                names = contract.chosen([one.name for one in request.outputs])
                for one in request.outputs:
                    if one.parameters:
                        refuse_parameters(tuple(one.parameters))
                found = await queue.infer(arrays(contract, rpc_wire.parse(request)), names)
            finally:
                queue.meter.seconds.add(time.perf_counter() - begun)
            answer = rpc_wire.compose(request.model_name, request.id, names, contract, found)
        except RequestError as error:
            self.catalog.metrics.meter(self.catalog.known(request.model_name)).answered("grpc", error.status)
            raise
        queue.meter.answered("grpc", 200)
        return answer

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:  # noqa: ARG002 - grpc's signature
        """Answers each request of a stream in turn; a refusal is an answer, and the stream goes on."""
        async for data in requests:
            answer = messages.ModelStreamInferResponse()
            try:
                request = rpc_wire.read(data)
                answer.infer_response.id = request.id
                answer.infer_response.CopyFrom(await self._infer(request))
            except RequestError as error:
                self.catalog.journal.refused("grpc", "", error.status, error.reason)
                answer.error_message = error.reason
            yield answer.SerializeToString()

    async def _live(self, _: Any) -> Any:
        return messages.ServerLiveResponse(live=True)

    async def _server_ready(self, _: Any) -> Any:
        return messages.ServerReadyResponse(ready=self.catalog.ready())

    async def _model_ready(self, request: Any) -> Any:
        return messages.ModelReadyResponse(ready=self.catalog.ready(request.name or "\0", request.version))

    async def _server(self, _: Any) -> Any:
        return messages.ServerMetadataResponse(name="exportkit", version=__version__, extensions=EXTENSIONS)

    async def _model(self, request: Any) -> Any:
        return json_format.ParseDict(self.catalog.describe(request.name, request.version), messages.ModelMetadataResponse())

    async def _config(self, request: Any) -> Any:
        told = {"config": self.catalog.configuration(request.name, request.version)}
        return json_format.ParseDict(told, messages.ModelConfigResponse())

    async def _index(self, request: Any) -> Any:
        return json_format.ParseDict({"models": self.catalog.index(ready=request.ready)}, messages.RepositoryIndexResponse())

    async def _load(self, request: Any) -> Any:
        if request.parameters:
            raise RequestError(400, "a model is loaded from the folder that the server was given, without parameters")
        await self.catalog.load(request.model_name)
        return messages.RepositoryModelLoadResponse()

    async def _unload(self, request: Any) -> Any:
        await self.catalog.unload(request.model_name)
        return messages.RepositoryModelUnloadResponse()

"""Ray Serve: replicas of an ONNX artifact over the machines of a Ray cluster, behind the Open Inference Protocol (KServe V2, REST).

    serve run exportkit.rayserve:application folder=/srv/artifacts/net replicas=4

The folder lies at the same path on every machine, and each replica checks it before it serves. Source: https://docs.ray.io/en/latest/serve.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import exportkit
from exportkit import bundle, judge, v2wire
from exportkit.elements import V2
from exportkit.errors import ExportKitError, LoadError, RunError
from exportkit.plugins import needs
from exportkit.spec import Runtime, TensorSpec
from exportkit.v2wire import Array

with needs("exportkit.rayserve"):
    from ray import serve
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response

_MOST = 64 << 20  # bytes of a request
_VERSION = "1"


class Replica:
    """One process that serves one artifact.

    Args:
        folder: an artifact folder, at this path on every machine.

    Raises:
        LoadError: it does not pass its check; Ray tells the reason and starts no replica.
    """

    def __init__(self, folder: str) -> None:
        verdict = exportkit.check(folder)
        if verdict.exit_code:
            raise LoadError(f"is not served: its check ends in {verdict.outcome}", where=folder)
        self.bundle = bundle.read(Path(folder), None)
        self.network = self.bundle.network
        for spec in (*self.network.inputs, *self.network.outputs):
            if spec.dtype not in V2:
                raise LoadError(f"is not served: the protocol has no name for {spec.dtype}, the type of {spec.name}", where=folder)
        self.session = judge.load(Path(folder), self.bundle.artifact, self.network, "onnxruntime", Runtime())

    async def __call__(self, request: Request) -> Response:
        model = f"/v2/models/{self.network.name}"
        path = request.url.path.rstrip("/").replace(f"{model}/versions/{_VERSION}", model, 1)
        known = self._facts(model)
        method = "POST" if path == f"{model}/infer" else "GET"
        if method == "GET" and path not in known:
            return _refused(404, f"there is no {request.url.path}; the model is {self.network.name}, version {_VERSION}")
        if request.method != method:
            return _refused(405, f"it is asked with {method}")
        return JSONResponse(known[path]) if method == "GET" else await self._answer(request)

    async def _answer(self, request: Request) -> Response:
        body = bytearray()
        try:
            async for part in request.stream():
                body += part
                if len(body) > _MOST:
                    return _refused(413, f"a request has at most {_MOST:,} bytes")
            content, headers = await asyncio.to_thread(self._infer, bytes(body), request.headers.get(v2wire.HEAD))
        except ClientDisconnect:
            return _refused(400, "the request is not whole")
        except ExportKitError as error:
            return _refused(400, error.what)
        return Response(content, headers=headers)

    def _facts(self, model: str) -> dict[str, dict[str, Any]]:
        """Returns what each address that is read tells."""
        return {
            "/v2": {"name": "exportkit-ray", "version": exportkit.__version__, "extensions": [v2wire.BINARY]},
            "/v2/health/live": {"live": True},
            "/v2/health/ready": {"ready": True},
            model: self._metadata(),
            f"{model}/ready": {"name": self.network.name, "ready": True},
        }

    def _metadata(self) -> dict[str, Any]:
        told = {kind: [_stated(spec) for spec in getattr(self.network, kind)] for kind in ("inputs", "outputs")}
        return {"name": self.network.name, "versions": [_VERSION], "platform": "onnxruntime_onnx", **told}

    def _infer(self, body: bytes, length: str | None) -> tuple[bytes, dict[str, str]]:
        """Computes one request.

        Raises:
            RunError: it is none of this protocol or of this model, or the artifact does not run on it.
        """
        asked, raw = v2wire.split(body, length)
        inputs = v2wire.unpack(asked.get("inputs"), "input", raw)
        self._refuse(inputs)
        wanted, binary = _wanted(asked, [spec.name for spec in self.network.outputs])
        results = dict(zip([spec.name for spec in self.network.outputs], self.session(inputs), strict=True))
        content = {"model_name": self.network.name, "model_version": _VERSION}
        if isinstance(asked.get("id"), str):
            content["id"] = asked["id"]
        return v2wire.pack(content, "outputs", [(name, results[name]) for name in wanted], binary=binary)

    def _refuse(self, inputs: Mapping[str, Array]) -> None:
        if inputs.keys() != {spec.name for spec in self.network.inputs}:
            raise RunError(f"the inputs are {sorted(inputs)}, the model's are {[spec.name for spec in self.network.inputs]}")
        for spec in self.bundle.artifact.inputs:
            found = inputs[spec.name]
            fits = len(found.shape) == len(spec.shape) and all(
                isinstance(want, str) or size == want for size, want in zip(found.shape, spec.shape, strict=True)
            )
            if str(found.dtype) != spec.dtype or not fits:
                told = f"{V2[str(found.dtype)]}{list(found.shape)}"
                raise RunError(f"{spec.name} is {told}, the model takes {V2[spec.dtype]}{_stated(spec)['shape']}")


def _wanted(asked: Mapping[str, Any], names: list[str]) -> tuple[list[str], bool]:
    """Reads which outputs are asked for, and whether as bytes."""
    told = asked.get("outputs")
    everywhere = asked.get("parameters")
    binary = isinstance(everywhere, dict) and everywhere.get("binary_data_output") is True
    if told is None:
        return names, binary
    if not isinstance(told, list) or not all(isinstance(one, dict) and one.get("name") in names for one in told) or not told:
        raise RunError(f"the outputs asked for are not among {names}")
    parameters = [one.get("parameters") for one in told]
    binary = binary or any(isinstance(one, dict) and one.get("binary_data") is True for one in parameters)
    return list(dict.fromkeys(one["name"] for one in told)), binary


def _stated(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": V2[spec.dtype], "shape": [size if isinstance(size, int) else -1 for size in spec.shape]}


def _refused(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status_code=status)


def application(settings: Mapping[str, str]) -> Any:
    """Builds the application: what `serve run exportkit.rayserve:application` calls.

    Args:
        settings: "folder", and "replicas" (2).

    Raises:
        LoadError: a setting is missing, unknown or no number.
    """
    known = {"folder", "replicas"}
    count = str(settings.get("replicas", "2"))
    if "folder" not in settings or settings.keys() - known or not (count.isdigit() and int(count) > 0):
        raise LoadError(f"the settings are {dict(settings)}", todo="Write folder=/srv/artifacts/net, and replicas=4 for other than 2.")
    return serve.deployment(Replica, name="exportkit").options(num_replicas=int(count)).bind(settings["folder"])

"""The Open Inference Protocol over REST, as an ASGI application.

KServe's application is not used: FastAPI and pydantic take 380 to 475 us of a core for each request where this takes a third, its
answers to malformed requests are partly 5xx, excess binary data passes, and null becomes NaN. The routes are few and plain.
"""

import json
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from exportkit import __version__
from exportkit.serving import metrics, pages, rest_wire
from exportkit.serving.answers import RequestError, shown
from exportkit.serving.catalog import Catalog
from exportkit.serving.requests import arrays

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, Headers, bytes]

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository")
_TAKEN = (b"application/json", b"application/octet-stream")
_BUSY = 8  # times the most bytes of a request may be held at once, in requests and answers
_PART = 256 << 10  # bytes of an answer that are handed over at once
_JSON = (b"content-type", b"application/json")


class GoneError(Exception):
    """The client is gone: nobody waits for an answer."""


class Rest:
    """Answers requests.

    Attributes:
        held: bytes of bodies that are held now, and of large answers.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.most = catalog.options.max_request
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        words = scope["path"].strip("/").split("/")
        try:
            status, headers, body = await self._guarded(scope, words, receive)
        except RequestError as error:
            status, headers, body = error.status, [_JSON], json.dumps({"error": error.reason}).encode()
            if error.retry is not None:
                headers.append((b"retry-after", str(error.retry).encode()))
            if error.status == 405:  # noqa: PLR2004 - HTTP's number
                headers.append((b"allow", b"POST" if scope["method"] == "GET" else b"GET"))
            model = self.catalog.known(words[2] if len(words) > 2 else "")  # noqa: PLR2004 - v2/models/NAME
            self.catalog.journal.refused("http", model, status, error.reason)
            if status == 413:  # noqa: PLR2004 - HTTP's number
                headers.append((b"connection", b"close"))  # the rest of the body is not waited for
            if words[-1] == "infer":
                self.catalog.metrics.meter(model).answered("http", status)
        except GoneError:
            return
        headers.append((b"content-length", str(len(body)).encode()))
        if self.catalog.draining:
            headers.append((b"connection", b"close"))  # the client asks elsewhere next, and finds no connection closed under a request
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if len(body) <= _PART:
            await send({"type": "http.response.body", "body": body})
        else:
            await self._send(body, send)

    async def _send(self, body: bytes, send: Send) -> None:
        """Sends a large answer as fast as its client reads; until then it counts among what is held."""
        self.held += len(body)
        try:
            for place in range(0, len(body), _PART):
                more = place + _PART < len(body)
                await send({"type": "http.response.body", "body": body[place : place + _PART], "more_body": more})
        finally:
            self.held -= len(body)

    async def _guarded(self, scope: Scope, words: list[str], receive: Receive) -> Answer:
        """Answers; a fault of ours is told in the log with its traceback, and to the client without."""
        try:
            return await self._answer(scope, words, receive)
        except (RequestError, GoneError):
            raise
        except Exception as error:
            self.catalog.journal.write("error", "fault of the server", traceback=traceback.format_exc())
            raise RequestError(500, f"a fault of the server: {type(error).__name__}") from error

    async def _answer(self, scope: Scope, words: list[str], receive: Receive) -> Answer:
        match words:
            case ["v2", "models", name, "versions", version, *rest]:
                return await self._model(scope, name, version, rest, receive)
            case ["v2", "models", name, *rest]:
                return await self._model(scope, name, "", rest, receive)
            case ["v2", "repository", *rest]:
                return await self._repository(scope, rest, receive)
        return self._look(scope["method"], words)

    def _look(self, method: str, words: list[str]) -> Answer:
        """Answers what is about the server."""
        names = tuple(self.catalog)
        answers: dict[tuple[str, ...], Callable[[], Answer]] = {
            ("v2",): lambda: _json({"name": "exportkit", "version": __version__, "extensions": list(EXTENSIONS)}),
            ("v2", "health", "live"): lambda: _json({"live": True}),
            ("v2", "health", "ready"): lambda: _ready({"ready": self.catalog.ready()}),
            ("v2", "models"): lambda: _json({"models": list(names)}),
            ("metrics",): lambda: (200, [(b"content-type", metrics.CONTENT_TYPE.encode())], self.catalog.measure()),
            ("openapi.json",): lambda: _json(pages.document(names)),
            ("",): lambda: (200, [(b"content-type", b"text/html; charset=utf-8"), *pages.SAFE], pages.page(names)),
        }
        answer = answers.get(tuple(words))
        if answer is None:
            raise _nothing(words)
        _only(method, "GET")
        return answer()

    async def _model(self, scope: Scope, name: str, version: str, rest: list[str], receive: Receive) -> Answer:
        if rest == ["infer"]:
            _only(scope["method"], "POST")
            return await self._infer(scope, name, version, receive)
        if rest not in ([], ["ready"], ["config"]):
            raise _nothing(rest)
        _only(scope["method"], "GET")
        if rest == ["ready"]:
            return _ready({"name": name, "ready": self.catalog.ready(name, version)})
        return _json(self.catalog.configuration(name, version) if rest else self.catalog.describe(name, version))

    async def _repository(self, scope: Scope, rest: list[str], receive: Receive) -> Answer:
        match rest:
            case ["index"]:
                _only(scope["method"], "POST")
                told = _asked(await self._body(scope, receive))
                return _json(self.catalog.index(ready=told.get("ready") is True))
            case ["models", name, "load"]:
                _only(scope["method"], "POST")
                if _asked(await self._body(scope, receive)).get("parameters"):
                    raise RequestError(400, "a model is loaded from the folder that the server was given, without parameters")
                await self.catalog.load(name)
                return _json({})
            case ["models", name, "unload"]:
                _only(scope["method"], "POST")
                await self.catalog.unload(name)
                return _json({})
        raise _nothing(rest)

    async def _infer(self, scope: Scope, name: str, version: str, receive: Receive) -> Answer:
        queue = self.catalog.find(name, version)
        headers = dict(scope["headers"])
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind and kind not in _TAKEN:
            raise RequestError(415, f"the body is {shown(kind.decode('latin-1'))}, expected application/json or application/octet-stream")
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise RequestError(415, "the body is compressed, which this server does not read")
        body = await self._body(scope, receive)
        begun = time.perf_counter()
        try:
            contract = queue.model.contract
            request = rest_wire.parse(body, headers.get(b"inference-header-content-length"))
            names = contract.chosen([output for output, _ in request.outputs])
            self.held += len(body)
            try:
                if self.held > _BUSY * self.most:
                    raise RequestError(503, "the server holds as many bytes of requests as it may", retry=1)
                found = await queue.infer(arrays(contract, request.inputs), names)
            finally:
                self.held -= len(body)
        finally:
            queue.meter.seconds.add(time.perf_counter() - begun)
        answer, length = rest_wire.compose(name, request, names, contract, found)
        queue.meter.answered("http", 200)
        if length is None:
            return 200, [_JSON], answer
        head = (b"inference-header-content-length", str(length).encode())
        return 200, [(b"content-type", b"application/octet-stream"), head], answer

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Reads a body within the limits of size, and of what all bodies together may take.

        Raises:
            RequestError: it is too large.
            GoneError: the client is gone, or was too slow for the connection.
        """
        stated = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if int(stated) > self.most:
            raise RequestError(413, f"the body has {int(stated)} bytes, at most {self.most} are taken")
        message = await _next(receive)
        if not message.get("more_body"):
            return bytes(message.get("body", b""))
        return await self._parts(message["body"], receive)

    async def _parts(self, first: bytes, receive: Receive) -> bytes:
        parts, size = [first], len(first)
        self.held += size
        try:
            while True:
                if size > self.most:
                    raise RequestError(413, f"the body has more than the {self.most} bytes that are taken")
                if self.held > _BUSY * self.most:
                    raise RequestError(503, "the server holds as many bytes of requests as it may", retry=1)
                message = await _next(receive)
                part = message.get("body", b"")
                parts.append(part)
                size += len(part)
                self.held += len(part)
                if not message.get("more_body"):
                    return b"".join(parts)
        finally:
            self.held -= size


async def _next(receive: Receive) -> Mapping[str, Any]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise GoneError
    return message


def _only(method: str, allowed: str) -> None:
    if method != allowed:
        raise RequestError(405, f"the method is {shown(method)}, expected {allowed}")


def _nothing(words: list[str]) -> RequestError:
    return RequestError(404, f"there is nothing at {shown('/'.join(words))}; the page at / lists what there is")


def _ready(value: dict[str, Any]) -> Answer:
    _, headers, body = _json(value)
    return (200 if value["ready"] else 503), headers, body


def _asked(body: bytes) -> dict[str, Any]:
    """Reads the small object that a request to the repository may have."""
    if not body:
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "the body is no JSON") from error
    if not isinstance(found, dict):
        raise RequestError(400, "the body is no JSON object")
    return found


def _json(value: Any) -> Answer:
    return 200, [_JSON], json.dumps(value).encode()

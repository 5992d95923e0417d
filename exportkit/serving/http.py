"""HTTP/1.1 connections with limits of their own: uvicorn waits for ever for a client that does not send, or does not read."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_PATIENCE = 10.0  # seconds for the headers of a request, and for a client that does not read its answer to read on
_HEADERS, _BODY = "headers", "body"
_MOST_HEADERS = 64 << 10  # bytes
_MOST_CONNECTIONS = 1024


class Connection(HttpToolsProtocol):
    """A connection. The time for a request's body is uvicorn's `timeout_graceful_shutdown`: no request may take longer than that."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._awaited = (0, _HEADERS)  # the number of a request, and which part of it
        self._timed = (0, "")  # what the timer waits for; most requests come whole, and need none
        self._patience: asyncio.TimerHandle | None = None
        self._reads: asyncio.TimerHandle | None = None
        self._unread = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > _MOST_CONNECTIONS:
            self._refuse("503 Service Unavailable", "there are too many connections")

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._patience, self._reads):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._awaited != self._timed:
            self._wait()
        if self._awaited[1] == _HEADERS:
            self._unread += len(data)
            if self._unread > _MOST_HEADERS:
                self._refuse("431 Request Header Fields Too Large", f"the headers have more than {_MOST_HEADERS} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._awaited = (self._awaited[0] + 1, _HEADERS)

    def on_headers_complete(self) -> None:
        self._awaited, self._unread = (self._awaited[0], _BODY), 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._awaited = (self._awaited[0], "")

    def send_400_response(self, msg: str) -> None:
        self._refuse("400 Bad Request", msg)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reads = self.loop.call_later(_PATIENCE, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reads:
            self._reads.cancel()

    def _wait(self) -> None:
        """Sets the timer for what is awaited now: nothing, where the client owes nothing."""
        if self._patience:
            self._patience.cancel()
            self._patience = None
        self._timed = self._awaited
        if self._awaited[1]:
            seconds = _PATIENCE if self._awaited[1] == _HEADERS else float(self.config.timeout_graceful_shutdown or 0)
            self._patience = self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self._refuse("408 Request Timeout", "the request did not come whole in time")
        else:
            self.transport.abort()

    def _refuse(self, status: str, reason: str) -> None:
        """Answers outside of any application, and closes."""
        body = json.dumps({"error": reason})
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write((head + body).encode())
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to us.

    Attributes:
        listening: set once it is.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

"""One HTTP request and its whole answer, within a time and a size: a server may stall, trickle, or never stop."""

import contextlib
import socket
import threading
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

from exportkit.errors import LoadError, RunError

_LONGEST = 200  # characters of a server's own words


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer.

    Attributes:
        headers: by lower-case name.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens: the parts of http://HOST:PORT/PATH.

    Attributes:
        path: without a slash at its end.
    """

    secure: bool
    host: str
    port: int
    path: str

    @property
    def name(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(url: str) -> Place:
    """Takes a URL apart.

    Raises:
        LoadError: it is none of http or https with a host alone.
    """
    todo = "Name it as http://HOST:PORT or https://HOST."
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise LoadError(f"is no URL: {error}", where=url, todo=todo) from error
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        raise LoadError("is no http or https URL with a host", where=url, todo=todo)
    if parts.username is not None or parts.query or parts.fragment:
        raise LoadError("has a user, a query or a fragment", where=urllib.parse.urlunsplit(("", host, parts.path, "", "")), todo=todo)
    return Place(parts.scheme == "https", host, port or {"http": 80, "https": 443}[parts.scheme], parts.path.rstrip("/"))


def ask(
    place: Place, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, seconds: float, most: int
) -> Answer:
    """Sends one request on a connection of its own and reads the whole answer. No proxy is asked, no redirection followed.

    Args:
        seconds: wall time for all of it.
        most: bytes that the answer's body may have.

    Raises:
        ConnectionError: nobody listens there, or the name is unknown.
        TimeoutError: the answer is not whole in time.
        RunError: the answer is no HTTP, ends early, or is too large.
    """
    import http.client  # a tenth of what `exportkit --help` takes

    kind = http.client.HTTPSConnection if place.secure else http.client.HTTPConnection
    connection = kind(place.host, place.port, timeout=seconds)
    try:
        connection.connect()
    except TimeoutError:
        raise
    except OSError as error:
        raise ConnectionError(f"cannot be reached: {error.strerror or error}") from error
    assert connection.sock is not None
    late = threading.Event()
    clock = threading.Timer(seconds, _end, (connection.sock, late))  # a socket's own timeout begins again with each byte
    clock.daemon = True
    clock.start()
    try:
        connection.request(method, path, body or None, {"Connection": "close", **(headers or {})})
        response = connection.getresponse()
        content = response.read(most + 1)
    except TimeoutError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        if late.is_set():
            raise TimeoutError from error
        raise RunError(f"gives no whole HTTP answer: {words(f'{type(error).__name__}: {error}')}") from error
    finally:
        clock.cancel()
        connection.close()
    if late.is_set():
        raise TimeoutError
    if len(content) > most:
        raise RunError(f"answers with more than {most:,} bytes")
    if response.length:
        raise RunError(f"ends its answer after {len(content):,} bytes, {response.length:,} more were announced")
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)


def words(text: str) -> str:
    """Shortens what a server says to one line."""
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _end(connected: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):  # closed meanwhile
        connected.shutdown(socket.SHUT_RDWR)

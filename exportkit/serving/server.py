"""The server: binds REST and gRPC, serves until SIGTERM or SIGINT, and answers what it took before it ends."""

import asyncio
import contextlib
import ipaddress
import resource
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import uvicorn
import uvloop

from exportkit.errors import RunError
from exportkit.serving import admission, canary
from exportkit.serving.catalog import Catalog, Loader
from exportkit.serving.http import Connection, Server
from exportkit.serving.journal import Journal
from exportkit.serving.metrics import Metrics
from exportkit.serving.models import Model
from exportkit.serving.options import Options
from exportkit.serving.rest import Rest
from exportkit.serving.rpc import Rpc
from exportkit.worker import Host

_SWITCH = 1e-4  # seconds: a run that is over waits no longer for the interpreter, which the event loop may hold
_KEEP = 75  # seconds that an idle connection is kept
_CALLS = 8192  # calls of gRPC that are open at once, 23 KB each: one whose message never comes holds its place, and no core

_CHANNEL = (
    ("grpc.so_reuseport", 0),  # on, a second server on the same port would take half of the requests in silence
    ("grpc.max_concurrent_streams", 256),  # of one connection
    ("grpc.keepalive_time_ms", 60_000),  # a client that vanished without a word is noticed
)


def serve(folders: list[Path], options: Options) -> int:
    """Checks folders, serves them until a signal comes, and returns the exit code.

    Raises:
        ExportKitError: a folder does not pass, or a port cannot be had.
    """
    journal = Journal()
    admission.names(folders)
    with Host.start((), ("numpy", "onnxruntime", "exportkit.backends.onnxruntime")) as checker:
        models = [admission.admit(folder, checker, options) for folder in folders]
        for model in models:
            journal.write("info", "model loaded", model=model.name, device=model.device, rows=model.rows)
        if options.allow_reload:  # the process that checks stays
            return run(models, lambda folder: admission.admit(folder, checker, options), options, journal)
    return run(models, None, options, journal)


def run(models: list[Model], loader: Loader | None, options: Options, journal: Journal) -> int:
    """Serves models until a signal comes.

    Raises:
        RunError: a port cannot be had.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each connection is a file
    sys.setswitchinterval(_SWITCH)
    sock = _listen(options.host, options.http_port)
    with contextlib.closing(sock):
        return uvloop.run(_serve(models, loader, options, journal, sock))


async def _serve(models: list[Model], loader: Loader | None, options: Options, journal: Journal, sock: socket.socket) -> int:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    catalog = Catalog(models, loader, options, Metrics(), journal)
    rpc, port = await _start_rpc(catalog)
    http = Server(
        uvicorn.Config(
            Rest(catalog), http=Connection, loop="none", lifespan="off", ws="none", log_config=None, access_log=False,
            server_header=False, date_header=False, timeout_keep_alive=_KEEP, timeout_graceful_shutdown=int(options.timeout) + 1,
        )
    )  # fmt: skip
    serving = asyncio.create_task(http.serve([sock]))
    await _first(http.listening.wait(), serving)
    host, http_port = sock.getsockname()[:2]
    if not _private(host):
        what = "every machine that reaches this address may run the models" + (", load and unload them" if options.allow_reload else "")
        journal.write("warning", "open to others", host=host, reason=f"{what}: nothing is encrypted, and nobody is asked for a password")
    if options.canary:
        catalog.waits = "the canary has not come back"
        catalog.canary = lambda name: _replay(catalog, name, host, http_port)
    journal.write("info", "listening", host=host, http_port=http_port, grpc_port=port, models=list(catalog), cores=catalog.cores.count)
    watched = asyncio.create_task(_watch(catalog, catalog.canary)) if catalog.canary else None
    await _first(ended.wait(), serving)
    begun = time.monotonic()
    journal.write("info", "draining")
    catalog.draining = True
    await asyncio.sleep(options.drain)
    http.should_exit = True
    await asyncio.gather(serving, rpc.stop(options.timeout + 1))
    if watched:
        watched.cancel()
    catalog.cores.close()
    journal.write("info", "ended", seconds=round(time.monotonic() - begun, 3))
    return 0


async def _first(event: Coroutine[Any, Any, Any], serving: "asyncio.Task[None]") -> None:
    """Waits for an event, or until the server fails: that must not pass in silence."""
    task = asyncio.create_task(event)
    await asyncio.wait((task, serving), return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()


async def _start_rpc(catalog: Catalog) -> tuple[grpc.aio.Server, int]:
    options = catalog.options
    sizes = (("grpc.max_receive_message_length", options.max_request), ("grpc.max_send_message_length", options.max_request))
    server = grpc.aio.server(options=(*_CHANNEL, *sizes), maximum_concurrent_rpcs=_CALLS)
    server.add_generic_rpc_handlers((Rpc(catalog),))
    host = f"[{options.host}]" if ":" in options.host else options.host
    try:
        port = server.add_insecure_port(f"{host}:{options.grpc_port}")
    except RuntimeError as error:
        raise _taken(options.host, options.grpc_port, "--grpc-port") from error
    await server.start()
    return server, port


async def _watch(catalog: Catalog, replay: Callable[[str], Awaitable[None]]) -> None:
    """Replays the golden cases of each model; the server is ready once that is over."""
    for name in catalog:
        await replay(name)
    catalog.waits = ""


async def _replay(catalog: Catalog, name: str, host: str, port: int) -> None:
    """Replays the golden cases of a model; one that fails is not ready."""
    begun, model = time.monotonic(), catalog.find(name).model
    try:
        report = await asyncio.to_thread(canary.replayed, model, host, port)
        fault = canary.fault(report)
    except Exception as error:  # noqa: BLE001 - whatever it is, the model is not shown to be right
        fault = f"{type(error).__name__}: {error}"
    if fault:
        catalog.spoil(name, "its golden cases do not come back right")
    seconds = round(time.monotonic() - begun, 3)
    catalog.journal.write("error" if fault else "info", "canary", model=name, seconds=seconds, reason=fault or "passed")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise _taken(host, port, "--http-port") from error
    return sock


def _taken(host: str, port: int, option: str) -> RunError:
    return RunError(f"cannot listen on {host}, port {port}", todo=f"Another process may listen there: name another port with {option}.")


def _private(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"

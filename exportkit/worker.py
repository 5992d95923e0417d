"""Child processes: a fork server with warm imports, wall and memory limits, and an answer or a diagnosis.

The standard library's fork server imports the caller's `__main__` again, which breaks a call at the top level of a user's script;
this one does not. Success is a message received, never an exit code. A server forks a child for each task. A *holder* is a child that
keeps what its function made (a loaded network) and forks children of its own, which get it as their first argument.
"""

import contextlib
import ctypes
import faulthandler
import gc
import importlib
import os
import pickle
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from exportkit import diagnosis
from exportkit.errors import ExportKitError, RunError

Listener = Callable[[str], None]

_START = 120.0  # seconds that a server may take until it forks: on a busy machine the import of torch takes long
_GRACE = 1.0  # seconds between the traceback of a process that ran too long and its end
_PR_SET_PDEATHSIG = 1
_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",  # torch.jit writes a set in its order: the same net must give the same bytes
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # else a file that asks whether there is a GPU takes it from all forks of its process
}
# Taken before any user code runs: a network file may replace what it finds in these modules.
_dumps, _loads, _exit, _fork, _send, _killpg = pickle.dumps, pickle.loads, os._exit, os.fork, socket.socket.sendall, os.killpg
_channel: socket.socket | None = None
_user_files: list[str] = []


@dataclass(frozen=True, slots=True)
class Limits:
    """What one child may use.

    Attributes:
        seconds: wall time.
        memory: bytes of private memory (RLIMIT_DATA); None for nine tenths of what the machine or its cgroup has.
    """

    seconds: float = 300.0
    memory: int | None = None


def report(text: str) -> None:
    """Tells the parent what this child is doing; nothing outside of a child."""
    if _channel is not None:
        _write(_channel, ("stage", text))


def user_file(path: str) -> None:
    """Tells which file is the user's: a diagnosis points into it."""
    _user_files[:] = [path]


def user_line() -> str:
    """Returns "net.py:12", the innermost line of the user's code that is running now."""
    return diagnosis.innermost([(frame.filename, frame.lineno or 0) for frame in traceback.extract_stack()], _user_files)


def line_of(error: BaseException) -> str:
    """Returns "net.py:12", the innermost line of the user's code through which an exception came."""
    return diagnosis.innermost([(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)], _user_files)


def default_memory() -> int:
    """Returns nine tenths of the memory that the machine or its cgroup allows, in bytes."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError), open(file) as limit:  # noqa: PTH123 - no Path on this light path
            total = min(total, int(limit.read()))
    return total * 9 // 10


class Host:
    """A process that forks children on request: the warm server, or a holder."""

    def __init__(self, control: socket.socket, process: "subprocess.Popen[bytes] | None" = None, pid: int = 0, log: Any = None) -> None:
        self._control = control
        self._process = process
        self._pid = pid
        self._log = log
        self._lock = threading.Lock()

    @classmethod
    def start(cls, preload: Sequence[str], idle: Sequence[str] = ()) -> "Host":
        """Starts a server that imports `preload`, and `idle` whenever nothing is asked of it; returns at once."""
        ours, theirs = socket.socketpair()
        call = f"worker.serve({theirs.fileno()}, {tuple(preload)!r}, {tuple(idle)!r})"
        code = f"import sys; sys.path[:] = {sys.path!r}; from exportkit import worker; {call}"
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **_ENVIRONMENT},
        )
        theirs.close()
        return cls(ours, process)

    def submit(
        self, function: str, *args: Any, limits: Limits, stage: str, on_event: Listener | None = None, idle: Sequence[str] | None = None
    ) -> "Task":
        """Forks a child that calls "module:function" with `args` (a holder's child: with what it holds first)."""
        ours, theirs = socket.socketpair()
        log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the task
        request = _dumps((function, args, limits, stage, idle))
        with self._lock:
            try:
                socket.send_fds(self._control, [struct.pack("!Q", len(request))], [theirs.fileno(), log.fileno()])
                _send(self._control, request)
            except OSError as error:
                raise RunError(f"the process that should start {stage} has ended") from error
        theirs.close()
        return Task(ours, log, limits, stage, on_event)

    def run(self, function: str, *args: Any, limits: Limits, stage: str, on_event: Listener | None = None) -> Any:
        """Forks a child and waits for its answer.

        Raises:
            ExportKitError: what the function raised, or a RunError that says how the child ended.
        """
        return self.submit(function, *args, limits=limits, stage=stage, on_event=on_event).result()

    def hold(
        self, function: str, *args: Any, limits: Limits, stage: str, on_event: Listener | None = None, idle: Sequence[str] = ()
    ) -> "tuple[Any, Host]":
        """Forks a holder: its function returns (description, held); the description comes back with the holder's handle."""
        task = self.submit(function, *args, limits=limits, stage=stage, on_event=on_event, idle=tuple(idle))
        description = task.result(keep=True)
        return description, Host(task.channel, log=task.log)

    @classmethod
    def fork_caller(cls, function: str, *args: Any, limits: Limits, stage: str, on_event: Listener | None = None) -> "tuple[Any, Host]":
        """Forks the calling process itself into a holder: `args` need not be picklable (a network object of a notebook)."""
        ours, theirs = socket.socketpair()
        log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the holder
        caller = os.getpid()
        with warnings.catch_warnings():
            # Python warns of threads, whose locks a fork may hold; torch's wait idle, and the child takes one thread.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = _fork()
        if pid == 0:
            ours.close()
            _be_child(caller, theirs, log.fileno(), (function, args, limits, stage, ()), ())
        theirs.close()
        task = Task(ours, log, limits, stage, on_event)
        try:
            description = task.result(keep=True)
        except BaseException:
            os.waitpid(pid, 0)
            raise
        return description, cls(ours, pid=pid, log=log)

    def close(self) -> None:
        """Ends the process and all its children."""
        self._control.close()
        if self._log:
            self._log.close()
        if self._pid:
            os.waitpid(self._pid, 0)
        if self._process:
            try:
                self._process.wait(2.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Task:
    """A child at work."""

    def __init__(self, channel: socket.socket, log: Any, limits: Limits, stage: str, on_event: Listener | None) -> None:
        self.channel = channel
        self.log, self._limits, self._stage, self._on_event = log, limits, stage, on_event
        self._pid = 0
        self._files: list[str] = []
        self._deadline = time.monotonic() + limits.seconds + _START

    def result(self, *, keep: bool = False) -> Any:
        """Waits for the answer; `keep` leaves the child alive (a holder)."""
        kept = False
        try:
            while True:
                kind, *content = self._next()
                if kind == "pid":
                    self._pid = content[0]
                    self._deadline = time.monotonic() + self._limits.seconds
                elif kind == "file":
                    self._files = content[0]
                elif kind == "stage":
                    self._stage = content[0]
                    if self._on_event:
                        self._on_event(content[0])
                elif kind == "result":
                    kept = keep
                    return content[0]
                elif kind == "error":
                    error, details = content
                    error.details = details
                    raise error
                elif kind == "status":
                    raise self._diagnose(content[0])
        finally:
            if not kept:
                self._end()

    def _next(self) -> Any:
        left = self._deadline - time.monotonic()
        if left <= 0 or not select.select([self.channel], [], [], left)[0]:
            raise self._overtime()
        try:
            return _read(self.channel)
        except (OSError, EOFError):
            return ("status", None)

    def _overtime(self) -> RunError:
        """Lets the child write where it is, and says so."""
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGUSR1)
            time.sleep(_GRACE)
        where = diagnosis.where_in_dump(self._text(), self._files)
        return RunError(
            f"did not finish {self._stage} within {self._limits.seconds:g} s",
            where=where,
            todo="Give it longer with --timeout SECONDS, or find what it waits for at this line.",
        )

    def _diagnose(self, status: int | None) -> RunError:
        if status is None:
            time.sleep(0.1)
        return diagnosis.explain(status, self._stage, self._text(), self._files, self._limits.memory or default_memory())

    def _text(self) -> str:
        self.log.seek(0)
        return str(self.log.read()[-20000:].decode(errors="replace"))

    def _end(self) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                _killpg(self._pid, signal.SIGKILL)
        self.channel.close()
        self.log.close()


def serve(descriptor: int, preload: Sequence[str], idle: Sequence[str]) -> None:
    """Is the server process: imports, then forks until the parent's end of the socket closes."""
    _die_with_parent(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in preload:
        importlib.import_module(name)
    if "torch" in sys.modules:
        # One thread: a fork must not meet a thread pool, and results must not depend on how many cores there are.
        sys.modules["torch"].set_num_threads(1)
    gc.collect()
    gc.freeze()
    _fork_until_closed(socket.socket(fileno=descriptor), (), list(idle))


def _fork_until_closed(control: socket.socket, held: tuple[Any, ...], idle: list[str]) -> None:
    """Forks a child for each request, tells each task how its child ended, and imports `idle` when there is nothing else to do."""
    children: dict[int, socket.socket] = {}
    while True:
        ready = select.select([control], [], [], 0 if idle else 0.02 if children else None)[0]
        if not ready and idle:
            with contextlib.suppress(Exception):  # the child that needs it will say what is wrong
                importlib.import_module(idle.pop(0))
        if ready:
            try:
                head, descriptors, _, _ = socket.recv_fds(control, 8, 2)
                (size,) = struct.unpack("!Q", head)
                request = _loads(_exactly(control, size))
            except (OSError, EOFError, struct.error):
                for pid in children:
                    with contextlib.suppress(ProcessLookupError):
                        _killpg(pid, signal.SIGKILL)
                _exit(0)
            channel = socket.socket(fileno=descriptors[0])
            sys.stdout.flush()
            sys.stderr.flush()
            server = os.getpid()
            pid = _fork()
            if pid == 0:
                control.close()
                for other in children.values():
                    other.close()
                _be_child(server, channel, descriptors[1], request, held)
            os.close(descriptors[1])
            children[pid] = channel
        _reap(children)


def _reap(children: dict[int, socket.socket]) -> None:
    for pid in list(children):
        with contextlib.suppress(ChildProcessError):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done == 0:
                continue
            channel = children.pop(pid)
            with contextlib.suppress(OSError):
                _write(channel, ("status", status))
            channel.close()


def _be_child(server: int, channel: socket.socket, log: int, request: Any, held: tuple[Any, ...]) -> None:
    """Is the child: runs the function, sends its answer, and ends without running anybody's exit handlers."""
    global _channel  # noqa: PLW0603 - one child, one channel
    function, args, limits, stage, idle = request
    _channel = channel
    try:
        os.setsid()
        _die_with_parent(server)
        _write(channel, ("pid", os.getpid()))
        _confine(log, limits)
        warnings.simplefilter("ignore")  # nobody reads them here; a caller's filter may even make them errors
        module, _, name = function.partition(":")
        answer = getattr(importlib.import_module(module), name)(*held, *args)
        _write(channel, ("file", list(_user_files)))
        if idle is not None:
            description, state = answer
            _write(channel, ("result", description))
            _channel = None
            _fork_until_closed(channel, (state,), list(idle))
        _write(channel, ("result", answer))
    except BaseException as error:  # noqa: BLE001 - whatever user code raises, SystemExit too, is an answer
        _answer_error(channel, error, stage, limits)
    finally:
        _exit(0)


def _answer_error(channel: socket.socket, error: BaseException, stage: str, limits: Limits) -> None:
    details = "".join(traceback.format_exception(error))
    try:
        known = (
            error
            if isinstance(error, ExportKitError)
            else diagnosis.name_exception(error, stage, _user_files, limits.memory or default_memory())
        )
        _write(channel, ("error", known, details))
    except BaseException:  # noqa: BLE001 - an exception whose own text raises must not pass for a crash
        _write(channel, ("error", RunError(f"{type(error).__name__} in {stage}"), ""))


def _confine(log: int, limits: Limits) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    memory = limits.memory or default_memory()
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    faulthandler.enable(file=2, all_threads=False)
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)


def _die_with_parent(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        _exit(0)


def _write(channel: socket.socket, message: Any) -> None:
    data = _dumps(message)
    _send(channel, struct.pack("!Q", len(data)) + data)


def _read(channel: socket.socket) -> Any:
    (size,) = struct.unpack("!Q", _exactly(channel, 8))
    return _loads(_exactly(channel, size))


def _exactly(channel: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = channel.recv(min(size - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)

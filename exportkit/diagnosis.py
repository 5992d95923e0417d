"""What went wrong, in words: how a child ended, what an exporter did not take, and the user's line."""

import os
import re
import signal
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path

from exportkit.errors import CrashError, RunError

_MEANING = {
    "SIGSEGV": "segmentation fault",
    "SIGABRT": "abort",
    "SIGFPE": "arithmetic error in native code",
    "SIGBUS": "bus error",
    "SIGILL": "illegal instruction",
}
_NO_MEMORY = re.compile(
    r"can't allocate memory|bad_alloc|Cannot allocate memory|not enough memory|out of memory|failed to map segment", re.IGNORECASE
)
_NO_SPACE = re.compile(
    r"No space left on device|unexpected pos \d+ vs \d+|PytorchStreamWriter failed|Disk quota exceeded|enforce fail at inline_container",
    re.IGNORECASE,
)
_NAMED = re.compile(r'File "([^"]+)", line (\d+)')
_DUMPED = re.compile(r'^  File "([^"]+)", line (\d+)', re.MULTILINE)


def innermost(frames: Sequence[tuple[str, int]], user_files: Sequence[str]) -> str:
    """Returns "net.py:12" for the last frame in the user's files, else in any file that no package brought; "" for none."""
    for wanted in (lambda file: file in user_files, is_user_file):
        for file, line in reversed(frames):
            if wanted(file):
                return f"{Path(file).name}:{line}"
    return ""


def innermost_of_packages(frames: Sequence[tuple[str, int]]) -> str:
    """Returns "transformers/models/bert/modeling_bert.py:12" for the last frame in a package that is not torch's; "" for none."""
    for file, line in reversed(frames):
        _, found, inside = file.rpartition("site-packages/")
        if found and not inside.startswith(("torch/", "onnxscript/", "onnx_ir/", "exportkit/")):
            return f"{inside}:{line}"
    return ""


def places(error: Exception) -> tuple[str, str]:
    """Finds the line of the user's file, and that of a package which the file uses, where an exporter stopped; "" for none."""
    frames = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
    named = [(file, int(line)) for file, line in _NAMED.findall(str(error))]
    where = innermost(named, []) or innermost(frames, [])
    return where, innermost_of_packages(named) or innermost_of_packages(frames)


def meaning(error: Exception) -> str:
    """Finds the sentence of an exporter's long text that says what it does not take."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [
        line
        for line in lines
        if not line.startswith(("File ", "~", "Failure while executing", "Original traceback", "from user code", "```", "Set TORCH"))
    ]
    for key in (
        "Suggested fixes",
        "Could not guard",
        "is not supported",
        "not supported",
        "Unsupported",
        "Unknown",
        "Expected",
        "Cannot",
        "cannot",
        "Constraints",
    ):
        for line in lines:
            if key in line:
                return line[:240].rstrip(":")  # as TorchScript ends its own, before the source
    return (lines[0] if lines else type(error).__name__)[:240].rstrip(":")


def where_in_dump(text: str, user_files: Sequence[str]) -> str:
    """Finds the user's line in what faulthandler wrote (innermost frame first)."""
    return innermost([(file, int(line)) for file, line in reversed(_DUMPED.findall(text))], user_files)


def name_exception(error: BaseException, stage: str, user_files: Sequence[str], memory: int) -> RunError:
    """Turns an exception that nobody expected into a message with the user's line."""
    frames = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
    where = innermost(frames, user_files)
    text = " ".join(str(error).split("\n\n")[0].split())[:400]
    if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
        return _out_of_memory(stage, memory, where)
    if _NO_SPACE.search(text):
        return RunError(f"the disk is full: {text[:160]}", where=where, todo="Free some space, or name another parent with --to DIR.")
    return RunError(f"{type(error).__name__}: {text}" if text else type(error).__name__, where=where)


def explain(status: int | None, stage: str, log: str, user_files: Sequence[str], memory: int) -> RunError:
    """Says how a child ended that gave no answer.

    Args:
        status: as `os.waitpid` gives it; None where the child closed its channel and nobody knows more.
        log: what the child wrote to stdout and stderr, faulthandler's traceback included.
    """
    where = where_in_dump(log, user_files)
    chatter = " | ".join(line.strip() for line in log.splitlines() if line.strip() and not _is_dump(line))[-300:]
    said = f"; it last said: {chatter}" if chatter else ""
    if _NO_SPACE.search(log):
        return RunError("the disk is full", where=where, todo="Free some space, or name another parent with --to DIR.")
    if _NO_MEMORY.search(log):
        return _out_of_memory(stage, memory, where)
    if status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        what = f"the process was killed (SIGKILL) in {stage}: the machine ran out of memory, or somebody killed it"
        return RunError(what, where=where, todo="Give it a limit of its own with --memory GIB, or use a smaller network.")
    if status is not None and os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return CrashError(f"the process was killed by {name} ({_MEANING.get(name, 'signal')}) in {stage}{said}", where=where)
    code = f"exited with code {os.WEXITSTATUS(status)}" if status is not None else "closed its connection"
    return RunError(f"the process {code} in {stage}, before it gave an answer{said}", where=where)


def _out_of_memory(stage: str, memory: int, where: str) -> RunError:
    return RunError(
        f"ran out of memory in {stage} (limit {memory / 2**30:.1f} GiB)",
        where=where,
        todo="Give it more with --memory GIB, or use a smaller network.",
    )


def _is_dump(line: str) -> bool:
    return line.startswith(
        ("  File ", "Fatal Python error", "Current thread", "Thread 0x", "Stack (most recent", "Extension modules", "  <", "  ...")
    )


def is_user_file(file: str) -> bool:
    """Says whether no package, and not Python itself, brought a file."""
    library = {sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")} | {sys.prefix}
    return file.endswith(".py") and not file.startswith((*library, str(Path(__file__).parent))) and "site-packages" not in file

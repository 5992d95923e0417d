"""Checks what a command names: artifact folders, and bare files from elsewhere. Holds nothing heavy: every parser runs in a child."""

import glob
import hashlib
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from exportkit import against, baseline, manifest, pipeline, published, remote, signing, store
from exportkit.against import Against
from exportkit.baseline import SLOWER
from exportkit.errors import LoadError, RejectedError, RunError, StoreError
from exportkit.manifest import Made
from exportkit.messages import Screened
from exportkit.pipeline import Listener, Verdict
from exportkit.spec import Artifact, Finding, Network, Report, Runtime, Source, TensorSpec
from exportkit.worker import Host, Limits

BARE = {".onnx": "onnx", ".pt": "torchscript", ".pt2": "pt2"}
SCREENS = {
    "onnx": "exportkit.screening.screen:screen_onnx",
    **published.SCREENS,
}
# What a server imports while the first file is read: the runtime that will load it; for the next files also what reads them.
RUNNING = ("numpy", "onnxruntime", "exportkit.trial", "exportkit.backends.onnxruntime")
READING = ("onnx.checker", "onnx.shape_inference", "exportkit.screening.screen")

_SECONDS = 12.0  # for each of two steps; a file from elsewhere is answered within half a minute
_ROOM = 640 << 20  # bytes that a small file may use
_TIMES = 4  # so many times its own bytes may a large file use besides
_BYTES_A_SECOND = 50 << 20  # a large file may take longer
_CUDA_SECONDS, _CUDA_ROOM = 30.0, 16 << 30  # so much more where CUDA and cuDNN are loaded, and a GPU is started
_LONGEST = 400  # characters of a reason
_MOST_ONNX = 2**31 - 1  # bytes: protobuf's own limit


@dataclass(frozen=True, slots=True)
class Question:
    """What to check and how: the command line's options, by the same names.

    Attributes:
        golden: a safetensors file of golden cases that a bare file must agree with.
        expect_digest: SHA-256 of the folder's manifest, of a bare file itself.
        timeout: wall seconds that one step may take; None for the usual.
        public_key: a folder's signature must be of this key; None where none is asked for.
        repro: a folder for the node that makes the ONNX of a folder fail; None for none.
        against: a network that a folder must agree with, too; None for none.
        baseline: what a folder's artifacts were, or a folder of such files; None for none.
        slower: so many times the baseline's run is a failure.
        url: a server that must answer a folder's golden cases as the folder says, in place of its artifacts; None for none.
    """

    runtime: Runtime = Runtime()
    golden: Path | None = None
    expect_digest: str | None = None
    timeout: float | None = None
    public_key: Path | None = None
    repro: str | None = None
    against: Against | None = None
    baseline: Path | None = None
    slower: float = SLOWER
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a bare file is: it was read, and where that is safe loaded and run; nothing is proven about parity.

    Attributes:
        done: what was done, in words.
        facts: plain JSON values.
    """

    file: Path
    format: str
    digest: str
    size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    done: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    outcome: str = "runs"


def expand(targets: Sequence[str], question: Question) -> list[Path]:
    """Lists what each target names: a path, or a pattern of which artifact folders and bare files are taken.

    Raises:
        LoadError: a pattern matches none, or one digest is expected of several.
    """
    found: list[Path] = []
    for target in targets:
        if Path(target).exists() or not glob.has_magic(target):
            found.append(Path(target))
            continue
        matches = [Path(one) for one in sorted(glob.glob(target, recursive=True))]  # noqa: PTH207 - the pattern may be absolute
        taken = [one for one in matches if one.suffix in BARE or (one / store.MANIFEST).is_file()]
        if not taken:
            raise LoadError("matches no artifact folder and no .onnx, .pt or .pt2 file", where=target)
        found += taken
    found = list(dict.fromkeys(found))
    if question.expect_digest and len(found) != 1:
        raise LoadError(f"--expect-digest pins one folder or file, not {len(found)}")
    return found


def early(question: Question) -> tuple[str, ...]:
    """Lists what a server should import before anything is asked of it."""
    return () if question.against is None else pipeline.PRELOAD


def idle(targets: Sequence[Path]) -> tuple[str, ...]:
    """Lists what a server should import while nothing is asked of it."""
    files = [one for one in targets if one.suffix == ".onnx" and not one.is_dir()]
    return () if not files else RUNNING if len(targets) == 1 else RUNNING + READING


def check(target: Path, server: Host, question: Question, listen: Listener = lambda _: None) -> Verdict | Inspection:
    """Checks one folder or file.

    Raises:
        RejectedError: a bare file is malformed, does not run, or is not safe to load.
        StoreError: a file of a folder is missing or changed, or a digest is not the expected one.
        ExportKitError: it cannot be checked.
    """
    if target.is_dir():
        limits = Limits(question.timeout) if question.timeout else Limits()
        if question.url:
            return store.steady(target, lambda: _served(target, server, question, listen))
        # Where another folder is swapped in meanwhile, that one must be trusted, too.
        found = store.steady(target, lambda: _folder(target, server, question, limits, listen))
        if question.baseline:
            runtime = pipeline.settle(question.runtime, server, limits)
            found = baseline.check(found, question.baseline, question.slower, server, runtime, limits)
        if question.against is None:
            return found
        return against.judge(found, question.against, server, question.runtime, limits, listen)
    for option, does in (("url", "replays"), ("against", "compares"), ("baseline", "compares"), ("public_key", "verifies")):
        if getattr(question, option) is not None:
            what = f"is no artifact folder: --{option.replace('_', '-')} {does} folders"
            raise LoadError(what, where=str(target), todo="Name a folder, or leave it out.")
    try:
        return _inspect(target, server, question)
    except RejectedError as error:
        raise RejectedError(_one_line(error.what), where=str(target), todo=error.todo) from error


def _folder(folder: Path, server: Host, question: Question, limits: Limits, listen: Listener) -> Verdict:
    """Checks a folder that is as it was pinned and signed, where that is asked for."""
    _trust(folder, question)
    trusted = bool(question.expect_digest or question.public_key)
    return published.check(folder, server, question.runtime, limits, listen, question.repro, trusted=trusted)


def _served(folder: Path, server: Host, question: Question, listen: Listener) -> Verdict:
    """Checks a server by a folder that is as it was pinned and signed, where that is asked for."""
    assert question.url is not None
    _trust(folder, question)
    return remote.check(folder, question.url, server, question.timeout, listen)


def _trust(folder: Path, question: Question) -> None:
    _compare_digest(folder / store.MANIFEST, question.expect_digest)
    if question.public_key:
        signing.verify(folder, question.public_key)


def record(folder: Path, to: Path, server: Host, question: Question, listen: Listener) -> Verdict:
    """Checks a folder, and writes its baseline where it passes.

    Raises:
        ExportKitError: it cannot be checked, or the file cannot be written.
    """
    limits = Limits(question.timeout) if question.timeout else Limits()
    verdict = published.check(folder, server, question.runtime, limits, listen)
    if verdict.exit_code:
        return verdict
    file, changed = baseline.record(verdict, to, server, pipeline.settle(question.runtime, server, limits), limits)
    told = Finding("note", "baseline", f"{file} is written" if changed else f"{file} stays as it is: nothing changed")
    return replace(verdict, findings=(*verdict.findings, told))


def _inspect(file: Path, server: Host, question: Question) -> Verdict | Inspection:
    started = time.monotonic()
    kind, size = _describe(file)
    digest = _compare_digest(file, question.expect_digest)
    limits = _limits(size, question.timeout)
    screened: Screened = _ask(server, SCREENS[kind], file.absolute(), limits=limits, stage="reading it")
    if question.golden:
        return _compare(file, kind, screened, server, question, started)
    if kind != "onnx":
        done = "reads whole, and names nothing that would run while loading; it was not loaded, as loading runs code"
        return Inspection(file, kind, digest, size, (), (), done, screened.facts, time.monotonic() - started, "read")
    beside = sum((file.parent / name).stat().st_size for name in screened.facts["external"])
    runtime = pipeline.settle(question.runtime, server, limits)
    call = ("exportkit.trial:run_once", file.absolute(), screened, runtime)
    limits = _limits(size + beside, question.timeout, runtime.device)
    facts = _ask(server, *call, limits=limits, stage="loading and running it")
    done = "loads and runs in onnxruntime, on inputs drawn from its signature"
    found = {**screened.facts, **facts}
    return Inspection(file, kind, digest, size, screened.inputs, screened.outputs, done, found, time.monotonic() - started)


def _compare(file: Path, kind: str, screened: Screened, server: Host, question: Question, started: float) -> Verdict:
    """Judges a file on golden cases: those of a manifest beside them, or, for ONNX, cases alone."""
    assert question.golden is not None
    limits = Limits(question.timeout) if question.timeout else Limits()
    runtime = pipeline.settle(question.runtime, server, limits)
    cases = question.golden.absolute()
    _compare_digest(cases, None)  # it is there
    artifact = Artifact(kind, (file.name,), "", screened.inputs, screened.outputs)
    network = Network(file.stem, screened.inputs, {}, Source(str(file), "", "", ""), (), screened.outputs)
    call: tuple[Any, ...] = ("exportkit.trial:judge_cases", file.absolute(), screened, runtime, cases)
    if (cases.parent / store.MANIFEST).is_file():
        data = store.read_manifest(cases.parent)
        store.verify_file(cases.parent, cases.name, data["files"].get(cases.name))
        network = manifest.read_network(data["network"])
        told = {**data["evidence"], "file": str(cases)}
        call = ("exportkit.judge:judge_golden", file.parent.absolute(), artifact, network, runtime, told)
    elif kind != "onnx":
        raise LoadError("has no manifest beside it: only that tells how a .pt or .pt2 takes its inputs", where=str(question.golden))
    try:
        reports = server.run(*call, limits=limits, stage=f"checking {file.name}")
    except RunError as error:
        reports = (
            Report(network.name, artifact, kind, runtime.device, findings=(Finding("error", "does-not-run", error.what, error.where),)),
        )
    made = Made(kind, artifact, reports, (), "", time.monotonic() - started, file.parent)
    return Verdict(network, (made,), (), file.parent, 0 if made.good else 1, {"total": time.monotonic() - started})


def _describe(file: Path) -> tuple[str, int]:
    """Returns a file's format and size, before anybody opens it: opening a pipe would wait for ever."""
    try:
        found = file.stat()
    except (OSError, ValueError) as error:
        raise LoadError("there is no such file or folder", where=str(file)) from error
    if not stat.S_ISREG(found.st_mode):
        raise RejectedError("is no regular file")
    if file.suffix not in BARE:
        raise LoadError(f"is no {', '.join(BARE)} file and no folder", where=str(file), todo="Name an artifact folder or such a file.")
    if file.suffix == ".onnx" and found.st_size > _MOST_ONNX:
        raise RejectedError(f"has {found.st_size:,} bytes, more than protobuf can hold")
    return BARE[file.suffix], found.st_size


def _compare_digest(file: Path, expected: str | None) -> str:
    """Returns a file's SHA-256 as hexadecimal.

    Raises:
        StoreError: it is not the expected one.
    """
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"cannot be read: {error.strerror}", where=str(file)) from error
    if expected is not None and digest != expected.removeprefix("sha256:").lower():
        raise StoreError(f"has SHA-256 {digest}, expected was {expected}", where=str(file), todo="It is not what you pinned.")
    return digest


def _one_line(text: str) -> str:
    """Escapes what a file may have written into a message: a terminal must show it, not obey it."""
    plain = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in " ".join(text.split()))
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}..."


def _limits(size: int, timeout: float | None, device: str = "cpu") -> Limits:
    seconds, room = (_SECONDS + _CUDA_SECONDS, _ROOM + _CUDA_ROOM) if device == "cuda" else (_SECONDS, _ROOM)
    return Limits(timeout or seconds + size / _BYTES_A_SECOND, room + _TIMES * size)


def _ask(server: Host, function: str, *args: Any, limits: Limits, stage: str) -> Any:
    """Runs a step in a child; however the child ends, the file is to blame."""
    try:
        return server.run(function, *args, limits=limits, stage=stage)
    except RunError as error:
        raise RejectedError(error.what) from error

"""The way of a network: load, survey, reference, formats, judge, publish. Holds no torch: everything heavy runs in children."""

import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from exportkit import manifest, runtimes, search, store
from exportkit.attempts import Bench
from exportkit.errors import CrashError, ExportError, ExportKitError, RunError
from exportkit.manifest import GOLDEN, Made
from exportkit.messages import Evidence, Result, Survey
from exportkit.spec import Case, Finding, Network, Runtime
from exportkit.worker import Host, Limits

FORMATS = ("torchscript", "pt2", "onnx")
# What a server imports before its first fork, what it imports while it waits, and what a holder does then.
# torch._dynamo (0.7 s) is needed by whatever watches or exports a network, and by what reads a .pt2.
PRELOAD = ("torch", "torch._dynamo", "exportkit.load", "exportkit.reference")
JUDGING = (
    "exportkit.judge",
    "exportkit.backends.torchscript",
    "onnxruntime",
    "exportkit.backends.pt2",
    "torch.export.pt2_archive._package",
)
EXPORTING = ("torch.export._trace", "exportkit.make", "exportkit.formats.pt2", "exportkit.formats.torchscript", "exportkit.warm")
_LANES = 7  # loading again, references and those of other sides, and for each of two groups of formats making and proving

Listener = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What to export, and how: the command line's options, by the same names.

    Attributes:
        net: net.py, net.py:name, package.module:name or old.pt.
        target: "onnxruntime==1.20": refuse what that runtime cannot load.
        timeout: wall seconds that one step of user code, an exporter or a runtime may take.
        memory: bytes that one process may allocate; None for what the machine has.
        repro: a folder for the node that makes ONNX fail; None for none.
        search: wall seconds to search each proven artifact for a case on which it fails.
        cases: drawn cases to try besides, in the words of a search: "edges:17:batch=3".
    """

    net: str
    to: str = "artifacts"
    name: str | None = None
    formats: tuple[str, ...] = FORMATS
    inputs: tuple[str, ...] = ()
    weights: str | None = None
    runtime: Runtime = Runtime()
    opset: int | None = None
    target: str | None = None
    timeout: float = 300.0
    memory: int | None = None
    strict: bool = False
    keep_partial: bool = False
    golden_from_user: bool = False
    repro: str | None = None
    search: float = 0.0
    cases: tuple[str, ...] = ()
    keep_lifted: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one export or check.

    Attributes:
        folder: where the artifacts are; None where nothing was published.
        cases: what was compared, inside and outside the domain.
        exit_code: 0 all proven and published, 1 a format failed or is undetermined.
        seconds: wall seconds, in all, by format, and by step ("survey", "references", "making onnx", "judging onnx"), which overlap.
    """

    network: Network
    made: tuple[Made, ...]
    findings: tuple[Finding, ...]
    folder: Path | None
    exit_code: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    cases: tuple[Case, ...] = ()

    @property
    def outcome(self) -> str:
        order = ("failed", "undetermined", "passed with warnings", "passed")
        return next(name for name in order if name in [one.outcome for one in self.made])


def export(request: Request, server: Host, listen: Listener = lambda _: None, given: Any = None) -> Verdict:
    """Exports one network and publishes what is proven.

    Args:
        given: a `load.Given`: a network object in place of the file that `request.net` names.

    Raises:
        ExportKitError: the network, the request or the folder cannot be used; nothing was changed.
    """
    started = time.monotonic()
    runtimes.refuse_target(request.target, request.opset)
    limits = Limits(request.timeout, request.memory)
    runtime = settle(request.runtime, server, limits)
    loaded, holder = hold(request, server, limits, listen, given)
    with holder, store.stage(Path(request.to), loaded.network.name) as staging, ThreadPoolExecutor(_LANES) as lanes:
        work = staging.folder / ".work"
        (work / "cases").mkdir(parents=True)
        again = lanes.submit(_load_again, request, server, limits, loaded.network) if given is None else None
        survey = holder.run("exportkit.reference:survey", limits=limits, stage="running forward", on_event=listen)
        survey = replace(survey, cases=(*survey.cases, *search.read(request.cases, survey.symbols)))
        network = replace(loaded.network, symbols=survey.symbols, outputs=survey.outputs, output_tree=survey.output_tree)
        spent = {"survey": time.monotonic() - started}
        evidence = lanes.submit(reference, server, holder, survey, work / "cases", runtime.device, limits, listen, spent)
        bench = Bench(server, holder, work, limits, listen, runtime, request.opset, request.target, evidence, spent, request.repro)
        # TorchScript is made beside .pt2 and ONNX, which share one torch.export.
        groups = [[one for one in request.formats if one == "torchscript"], [one for one in request.formats if one != "torchscript"]]
        making = [(group, lanes.submit(bench.make, [(name, 0) for name in group], network)) for group in groups if group]
        firsts = [future for _, future in making]
        bench = replace(bench, evidence=lanes.submit(_with_sides, evidence, firsts, bench, survey))
        proving = [lanes.submit(bench.lane, group, network, future) for group, future in making]
        by_format = {one.format: one for future in proving for one in future.result()}
        made = tuple(by_format[name] for name in request.formats)
        proof = bench.evidence.result()
        refuse_state(survey, proof, network)
        network = replace(network, outputs=proof.outputs)
        if request.search:
            look = search.Search(bench, network, request.search, Path(request.to), shlex.join(["exportkit", "export", request.net]))
            made = tuple(look.challenge(one) if one.good else one for one in made)
        findings = (*loaded.findings, *survey.findings, *proof.findings, *(again.result() if again else ()), *_drops(proof.dropped))
        good = [one for one in made if one.good and not (request.strict and one.outcome != "passed")]
        seconds = {"total": time.monotonic() - started} | {one.format: one.seconds for one in made} | spent
        verdict = Verdict(network, made, findings, None, 0 if len(good) == len(made) else 1, seconds, proof.trial.cases)
        if len(good) == len(made):
            return replace(verdict, folder=_publish(server, holder, staging, verdict, good, proof, request))
        if good and request.keep_partial:
            with store.stage(Path(request.to), f"{network.name}.partial") as partial:
                return replace(verdict, folder=_publish(server, holder, partial, verdict, good, proof, request))
        return verdict


def hold(
    request: Request, server: Host, limits: Limits, listen: Listener, given: Any = None, idle: Sequence[str] = EXPORTING
) -> tuple[Any, Host]:
    """Loads the network into a holder: a fork of the server, or of this process where the caller gave an object.

    Args:
        idle: what the holder imports while nothing is asked of it.
    """
    stage = f"loading {request.net}"
    if given is not None:
        return Host.fork_caller("exportkit.load:hold_object", given, request.name, limits=limits, stage=stage, on_event=listen)
    call = ("exportkit.load:hold", request.net, request.inputs, request.weights, request.name)
    return server.hold(*call, limits=limits, stage=stage, on_event=listen, idle=idle)


def refuse_state(survey: Survey, proof: Evidence, network: Network) -> None:
    """Refuses a network of which one copy gives another result than the next.

    Raises:
        ExportError: it does.
    """
    if proof.digest != survey.digest:
        raise ExportError(
            "forward is stateful: a fresh copy of the network gives another result on the same inputs",
            where=network.source.file,
            todo="Keep all state that changes the result in the inputs and outputs.",
        )


def settle(asked: Runtime, server: Host, limits: Limits) -> Runtime:
    """Decides on which device artifacts run, and finds the library of custom operators: the children that load it run elsewhere.

    Raises:
        RunError: the device or the library is not here.
    """
    library = Path(asked.ort_library).absolute() if asked.ort_library else None
    if library and not library.is_file():
        raise RunError(
            "the library of custom operators is missing",
            where=asked.ort_library or "",
            todo="Name an existing one with --ort-library FILE.",
        )
    return replace(asked, device=_device(asked.device, server, limits), ort_library=str(library) if library else None)


def _device(asked: str, server: Host, limits: Limits) -> str:
    if asked not in ("cpu", "cuda", "auto"):
        raise RunError(f"there is no provider {asked}", todo="Take cpu, cuda or auto.")
    if asked == "cpu":
        return "cpu"
    devices = server.run("exportkit.backends.onnxruntime:devices", limits=limits, stage="looking for devices")
    if asked == "cuda" and "cuda" not in devices:
        raise RunError(
            "the device cuda was asked for, and onnxruntime finds none", todo="`exportkit doctor` says why; --provider auto takes the CPU."
        )
    return "cuda" if "cuda" in devices else "cpu"


def reference(
    server: Host, holder: Host, survey: Survey, folder: Path, device: str, limits: Limits, listen: Listener, spent: dict[str, float]
) -> Evidence:
    """Runs the cases in a fork of the holder, and weighs eager's own error in a fork of the server.

    A case that was drawn, and on which an operator crashes, says nothing of the artifacts: it is left out, and told. Where eager fails on
    a GPU (tensors that no `.to()` moves, an index out of range, which ends all that a process does there), it runs on the CPU.
    """
    if device != "cpu":
        try:
            return _reference(server, holder, survey, folder, device, limits, listen, spent)
        except (RunError, ExportError) as error:
            ran = _reference(server, holder, survey, folder, "cpu", limits, listen, spent)
            text = f"eager does not run on {device} ({error.what}): artifacts are compared with eager on the CPU"
            return replace(ran, findings=(Finding("note", "eager-on-cpu", text, error.where), *ran.findings))
    return _reference(server, holder, survey, folder, device, limits, listen, spent)


def _reference(
    server: Host, holder: Host, survey: Survey, folder: Path, device: str, limits: Limits, listen: Listener, spent: dict[str, float]
) -> Evidence:
    started = time.monotonic()
    # Some twenty eager runs of each case, a few of them in float64, share this step: it may take longer than one forward.
    limits = replace(limits, seconds=limits.seconds * 4)

    def build(*cases: Case) -> Evidence:
        call = ("exportkit.reference:build", survey.symbols, cases, folder, device)
        return holder.run(*call, limits=limits, stage="computing references", on_event=listen)  # type: ignore[no-any-return]

    try:
        ran = build(*survey.cases)
    except CrashError:
        crashes = dict(_crashes(build, survey.cases))
        if not crashes:
            raise
        ran = build(*(case for case in survey.cases if case.name not in crashes))
        told = (
            Finding("warning", "case-crashes", f"case {name} is left out, as forward crashes on it: {why}") for name, why in crashes.items()
        )
        ran = replace(ran, findings=(*ran.findings, *told))
    budgets = server.run(
        "exportkit.judge:weigh", folder, ran.weighed, ran.outputs, ran.narrow, limits=limits, stage="weighing eager's own error"
    )
    spent["references"] = time.monotonic() - started
    return replace(ran, trial=replace(ran.trial, budgets=budgets))


def _with_sides(evidence: "Future[Evidence]", firsts: Sequence["Future[dict[str, Result]]"], bench: Bench, survey: Survey) -> Evidence:
    """Adds cases on the sides of branches that torch.export did not take, where it tells of any: no artifact is proven without them."""
    sides = next((one.sides for future in firsts for one in future.result().values() if one.sides), ())  # of the one export, told by each
    cases = [Case(f"side-{number}", sizes, "like", "inside", 400 + number) for number, sizes in enumerate(sides)]
    proof = evidence.result()
    if not cases:
        return proof
    survey = replace(survey, cases=(*survey.cases, *cases))
    return reference(
        bench.server, bench.holder, survey, bench.work / "cases", bench.runtime.device, bench.limits, bench.listen, bench.seconds
    )


def _load_again(request: Request, server: Host, limits: Limits, network: Network) -> tuple[Finding, ...]:
    """Loads the file a second time, in a fresh process under another seed."""
    call = ("exportkit.load:weights_digest_of", request.net, request.inputs, request.weights)
    try:
        digest = server.run(*call, limits=limits, stage="loading a second time")
    except ExportKitError as error:
        return (Finding("warning", "loads-once", f"the file does not load a second time: {error.what}", error.where),)
    if digest == network.source.weights_digest:
        return ()
    text = f"{network.source.file} initialises at random; the artifact holds this draw"
    return (Finding("note", "random-initialisation", text),)


def _crashes(build: Callable[[Case], object], cases: Sequence[Case]) -> Iterator[tuple[str, str]]:
    """Yields the drawn cases that end a process by themselves, and how."""
    for case in cases:
        if case.kind not in ("example", "check"):
            try:
                build(case)
            except CrashError as error:
                yield case.name, error.what.partition(" in ")[0]
            except RunError:
                continue


def _publish(
    server: Host, holder: Host, staging: store.Staging, verdict: Verdict, good: Sequence[Made], proof: Any, request: Request
) -> Path:
    """Moves the proven files and the golden cases into the staging folder, writes the manifest, and swaps the folder in."""
    for one in good:
        assert one.artifact is not None
        assert one.folder is not None
        for name in one.artifact.files:
            (one.folder / name).rename(staging.folder / name)
    work = next(one.folder for one in good if one.folder).parent
    cases = [case for case in proof.trial.cases if request.golden_from_user or case.kind not in ("example", "check")]
    call = ("exportkit.golden:collect", work / "cases", [(case.name, case.seed) for case in cases], staging.folder / GOLDEN)
    left_out = server.run(*call, limits=Limits(request.timeout, request.memory), stage="storing the golden cases")
    shutil.rmtree(work)
    if request.keep_lifted and any(one.artifact and one.artifact.strategy == "lifted" for one in good):
        file = staging.folder / f"{verdict.network.name}.lifted.py"
        holder.run("exportkit.make:keep_lifted", file, limits=Limits(request.timeout, request.memory), stage="keeping the lifted source")
    evidence = {
        "file": GOLDEN,
        "left_out": left_out,
        "device": proof.device,
        "dropped": proof.dropped,
        "raising": proof.trial.raising,
        "accept": manifest.as_json(proof.trial.accept),
    }
    data = manifest.compose(verdict.network, good, cases, proof.trial.budgets, evidence, verdict.findings)
    staging.publish(data, {"seconds": dict(verdict.seconds), "host": manifest.host()})
    return Path(request.to) / staging.target.name


def _drops(dropped: Mapping[str, str]) -> tuple[Finding, ...]:
    told: dict[str, list[str]] = {}
    for case, reason in dropped.items():
        told.setdefault(reason, []).append(case)
    return tuple(Finding("note", "cases-dropped", f"{len(cases)} case(s) dropped: {reason}") for reason, cases in told.items())

"""One format at a time: strategies in order, each judged, until one is proven. Runs in the light parent; the work is in children."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from exportkit import blame, store
from exportkit.errors import ExportKitError, RunError
from exportkit.manifest import Made
from exportkit.messages import Evidence, Result, Scene, Trial
from exportkit.spec import Artifact, Finding, Network, Report, Runtime, Severity
from exportkit.worker import Host, Limits

if TYPE_CHECKING:
    from concurrent.futures import Future

Listener = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Bench:
    """What every attempt of one export shares.

    Attributes:
        server: forks judges; it never saw the network.
        holder: forks exporters; it holds the network.
        evidence: the cases and eager's own error, once they are computed.
        repro: where the failing node of an ONNX artifact goes.
        seconds: what making and judging took, added up as they run.
    """

    server: Host
    holder: Host
    work: Path
    limits: Limits
    listen: Listener
    runtime: Runtime
    opset: int | None
    target: str | None
    evidence: "Future[Evidence]"
    seconds: dict[str, float] = field(default_factory=dict)
    repro: str | None = None

    def lane(self, formats: Sequence[str], network: Network, making: "Future[dict[str, Result]]") -> list[Made]:
        """Proves formats that share a capture.

        Args:
            making: the first strategy of each, which one child makes.
        """
        started = time.monotonic()
        first = making.result()
        with ThreadPoolExecutor(len(formats)) as pool:
            return list(pool.map(lambda name: self.prove(name, network, first[name], started), formats))

    def prove(self, name: str, network: Network, first: Result, started: float) -> Made:
        """Takes a format's strategies in order until one is proven; then all again with inferred dimensions fixed, the rows last.

        Where the network has loops or branches, an artifact that lost an inferred dimension, or ends at a bound of it, waits until later
        strategies had their turn.
        """
        earlier: list[tuple[str, str]] = []
        failed: list[_Failed] = []
        kept: list[Made] = []
        strategies = first.strategies
        for place, variant in _plan(len(strategies), network):
            if kept and variant is not network:
                break
            result = (first if variant is network and place == 0 else self.make([(name, place)], variant)[name]).made
            if isinstance(result, ExportKitError):
                store.refuse_full_disk(self.work)
                earlier.append((strategies[place], _one_line(result)))
                continue
            folder = self.folder(name, place, variant)
            reports = self.judge(folder, result, network)
            made = Made(name, result, reports, tuple(earlier), "", time.monotonic() - started, folder)
            if made.good and (made.lost or made.bounded) and variant is network and first.control_flow:
                kept.append(made)
                earlier.append((strategies[place], f"fixes {', '.join(made.lost)}" if made.lost else f"bounds {', '.join(made.bounded)}"))
            elif made.good or (made.outcome == "undetermined" and not kept):
                return self.with_blame(self.with_rows(made, network), failed)
            else:
                failed.append(_Failed(folder, result, variant, reports))
                earlier.append((strategies[place], why(reports) or "not proven"))
        if kept:
            best = min(kept, key=lambda made: (len(made.lost), len(made.bounded)))
            others = tuple(one for one in earlier if one[0] != best.artifact.strategy) if best.artifact else ()
            return self.with_blame(self.with_rows(replace(best, earlier=others, seconds=time.monotonic() - started), network), failed)
        reports = _with(_telling(failed).reports, self.blame(_telling(failed)), "error") if failed else ()
        return Made(name, None, reports, tuple(earlier), _together(earlier), time.monotonic() - started)

    def with_rows(self, made: Made, network: Network) -> Made:
        """Adds to a proven ONNX artifact along which dimension its rows are apart, so that servers may batch requests."""
        if made.format != "onnx" or not made.good or not made.artifact or not made.folder:
            return made
        proof = self.evidence.result()
        call = ("exportkit.rows:shown", made.folder, made.artifact, replace(network, outputs=proof.outputs), self.runtime, proof.trial)
        try:
            with self.timed("judging onnx"):
                rows: str = self.server.run(*call, limits=self.limits, stage="mixing rows", on_event=self.listen)
        except RunError:
            return made  # the runtime died of such a batch: no server should put one together
        return replace(made, artifact=replace(made.artifact, rows=rows))

    def with_blame(self, made: Made, failed: Sequence["_Failed"]) -> Made:
        """Adds to what is proven why an earlier attempt was not, where the user asked for its failing node."""
        if not failed or not self.repro:
            return made
        return replace(made, reports=_with(made.reports, self.blame(_telling(failed)), "note"))

    def blame(self, failed: "_Failed") -> tuple[Finding, ...]:
        """Says which node of a failed ONNX artifact is at fault."""
        artifact, proof = failed.artifact, self.evidence.result()
        if artifact.format != "onnx":
            return ()
        network = replace(failed.network, outputs=proof.outputs)
        scene = Scene(failed.folder, artifact, network, proof.trial, self.runtime, failed.folder / "blame")
        call = ("exportkit.intermediates:hold", network, artifact.strategy, self.opset, self.target, self.runtime)
        stage = f"exporting {artifact.files[0]} again"
        return blame.explain(
            scene,
            failed.reports,
            self.repro,
            blame.Tracer(self.server, self.limits, self.listen),
            lambda: self.holder.hold(*call, limits=self.limits, stage=stage, on_event=self.listen)[1],
        )

    def make(self, wanted: Sequence[tuple[str, int]], network: Network) -> dict[str, Result]:
        """Makes artifacts in one child; where it dies, each in a child of its own, so that a crash costs one format only."""
        attempts = [(name, place, self.folder(name, place, network)) for name, place in wanted]
        names = ", ".join(name for name, _ in wanted)
        try:
            with self.timed(f"making {names}"):
                made: dict[str, Result] = self.holder.run(
                    "exportkit.make:make",
                    attempts,
                    network,
                    self.opset,
                    self.target,
                    self.runtime,
                    limits=self.limits,
                    stage=f"exporting {names}",
                    on_event=self.listen,
                )
        except RunError as error:
            for _, _, folder in attempts:
                shutil.rmtree(folder, ignore_errors=True)
            if len(wanted) > 1:
                return {name: self.make([(name, place)], network)[name] for name, place in wanted}
            strategies = self.server.run("exportkit.make:strategies", wanted[0][0], limits=self.limits, stage="loading the format")
            return {wanted[0][0]: Result(error, strategies)}
        return made

    def folder(self, name: str, place: int, network: Network) -> Path:
        return self.work / f"{name}-{place}-{len(network.symbols)}"

    def judge(self, folder: Path, artifact: Artifact, network: Network) -> tuple[Report, ...]:
        """Judges an artifact in a fresh process; where that dies outside the domain, once more inside it alone."""
        try:
            reports = self._judge(folder, artifact, network, probing=True)
        except RunError as crash:
            try:
                reports = self._judge(folder, artifact, network, probing=False)
            except RunError as error:
                finding = Finding("error", "does-not-run", error.what, error.where)
                return (Report(network.name, artifact, artifact.format, self.runtime.device, findings=(finding,)),)
            finding = Finding("warning", "outside-domain", f"outside the domain: {crash.what}")
            reports = tuple(replace(report, findings=(*report.findings, finding)) for report in reports)
        proof = self.evidence.result()
        judged = (folder, artifact, replace(network, outputs=proof.outputs), self.runtime, proof.trial)
        return in_other_ways(reports, judged, self.server, self.limits, self.listen)

    def _judge(self, folder: Path, artifact: Artifact, network: Network, *, probing: bool) -> tuple[Report, ...]:
        proof = self.evidence.result()
        network = replace(network, outputs=proof.outputs)
        call = ("exportkit.judge:judge_all", folder, artifact, network, self.runtime, proof.trial, probing)
        stage = f"checking {artifact.files[0]}"
        with self.timed(f"judging {artifact.format}"):
            reports: tuple[Report, ...] = self.server.run(*call, limits=self.limits, stage=stage, on_event=self.listen)
        told = (*_baked(artifact, proof.ways), *_unseen(artifact, proof.one_sided))
        return tuple(replace(one, findings=(*one.findings, *told)) for one in reports)

    @contextlib.contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Adds the wall seconds of a step to those before."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.monotonic() - started


def in_other_ways(
    reports: tuple[Report, ...], judged: tuple[Path, Artifact, Network, Runtime, Trial], server: Host, limits: Limits, listen: Listener
) -> tuple[Report, ...]:
    """Adds to the reports of what is proven on CUDA how it runs otherwise, in a process of its own: the verdict does not die of that."""
    _, artifact, _, runtime, _ = judged
    if runtime.device == "cpu" or not all(report.outcome.startswith("passed") for report in reports):
        return reports
    try:
        call = ("exportkit.judge:judge_ways", reports, *judged)
        return server.run(*call, limits=limits, stage=f"running {artifact.files[0]} otherwise", on_event=listen)  # type: ignore[no-any-return]
    except RunError as error:
        return _with(reports, [Finding("warning", "other-ways", f"with TF32 or as a CUDA graph: {error.what}")], "warning")


def _baked(artifact: Artifact, ways: Mapping[str, int]) -> Iterator[Finding]:
    """Says what a trace holds fixed of the values by which forward decides, and whether a case that decides otherwise was compared."""
    for line in artifact.facts.get("decides", ()):
        if ways.get(line, 0) < 2:  # noqa: PLR2004 - one way proves nothing of another
            text = f"forward decides by a tensor's value at {line}, a trace holds one way, and every case went the same one"
            yield Finding("error", "baked-branch", f"{text}: write both with tensor operations, or add check_inputs that go the other way")
    for line in artifact.facts.get("reads", ()):
        yield Finding("warning", "baked-number", f"forward takes a tensor's value for a number at {line}: a trace holds that of one run")
    for line in artifact.facts.get("sizes", ()):
        text = f"forward branches on a size at {line}, and a trace holds one side: nothing is known of sizes that no case has"
        yield Finding("warning", "baked-size", text)


def _unseen(artifact: Artifact, one_sided: Sequence[str]) -> Iterator[Finding]:
    """Says of which branches only one side was compared, where a conversion carries both."""
    if artifact.strategy == "lifted" or (artifact.strategy, artifact.format) == ("scripted", "onnx"):
        for line in one_sided:
            text = f"forward decides by a tensor's value at {line}, and every case went the same way: the other was not compared"
            yield Finding("warning", "one-sided-branch", f"{text}: add check_inputs that take it")


@dataclass(frozen=True, slots=True)
class _Failed:
    folder: Path
    artifact: Artifact
    network: Network
    reports: tuple[Report, ...]


def _telling(failed: Sequence[_Failed]) -> _Failed:
    """Takes the first attempt that ran and gave wrong values, else the first."""
    return next((one for one in failed if any(not m.passed for report in one.reports for m in report.measurements)), failed[0])


def _with(reports: tuple[Report, ...], findings: Iterable[Finding], severity: Severity) -> tuple[Report, ...]:
    told = (replace(one, severity=severity) for one in findings)
    return (replace(reports[0], findings=(*reports[0].findings, *told)), *reports[1:])


def _plan(strategies: int, network: Network) -> Iterable[tuple[int, Network]]:
    """Yields every strategy with all dimensions, then with those that the user asked for and the rows, in the end without the rows."""
    asked = {symbol.name for symbol in network.symbols if symbol.declared}
    rows = {symbol.name for symbol in network.symbols if all(axis == 0 for _, axis, _ in symbol.places)}
    variants = [network]
    for names in (asked | rows, asked):
        kept = tuple(symbol for symbol in network.symbols if symbol.name in names)
        if kept != variants[-1].symbols:
            variants.append(replace(network, symbols=kept))
    for variant in variants:
        yield from ((place, variant) for place in range(strategies))


def _together(earlier: Sequence[tuple[str, str]]) -> str:
    """Words why each strategy was left; those with one reason together."""
    by_reason: dict[str, dict[str, None]] = {}
    for strategy, reason in earlier:
        by_reason.setdefault(reason, {})[strategy] = None
    return "; ".join(f"{', '.join(strategies)}: {reason}" for reason, strategies in by_reason.items())


def why(reports: Sequence[Report]) -> str:
    """Says in a line why artifacts failed: the first error, or the first measurement beyond its limit; "" where there is none."""
    for report in reports:
        for finding in report.findings:
            if finding.severity == "error":
                return f"{finding.where}: {finding.text}" if finding.where else finding.text
        for one in report.measurements:
            if not one.passed:
                return f"{one.output} on {one.case}: {one.metric} is {one.value:.3g}, the limit is {one.limit:g}"
    return ""


def _one_line(error: ExportKitError) -> str:
    where, todo = f"{error.where}: " if error.where else "", f" ({error.todo})" if error.todo else ""
    return f"{where}{error.what}{todo}"

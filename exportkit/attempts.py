"""One format at a time: strategies in order, each judged, until one is proven. Runs in the light parent; the work is in children."""

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exportkit import store
from exportkit.errors import ExportKitError, RunError
from exportkit.manifest import Made
from exportkit.spec import Artifact, Finding, Network, Report
from exportkit.worker import Host, Limits

if TYPE_CHECKING:
    from concurrent.futures import Future

Listener = Callable[[str], None]
Attempt = tuple[Artifact | ExportKitError, tuple[str, ...]]  # what was made, and the names of the format's strategies


@dataclass(frozen=True, slots=True)
class Bench:
    """What every attempt of one export shares.

    Attributes:
        server: forks judges; it never saw the network.
        holder: forks exporters; it holds the network.
        evidence: the cases and eager's own error, once they are computed.
    """

    server: Host
    holder: Host
    work: Path
    limits: Limits
    listen: Listener
    provider: str
    opset: int | None
    target: str | None
    ort_library: str | None
    evidence: "Future[Any]"

    def lane(self, formats: Sequence[str], network: Network) -> list[Made]:
        """Makes and proves formats that share a capture; the first strategy of each in one child."""
        started = time.monotonic()
        first = self.make([(name, 0) for name in formats], network)
        return [self.prove(name, network, first[name], started) for name in formats]

    def prove(self, name: str, network: Network, first: Attempt, started: float) -> Made:
        """Takes a format's strategies in order until one is proven; then all again with the inferred dimensions fixed."""
        earlier: list[tuple[str, str]] = []
        failed: tuple[Report, ...] = ()
        strategies = first[1]
        for place, variant in _plan(len(strategies), network):
            result = first[0] if variant is network and place == 0 else self.make([(name, place)], variant)[name][0]
            if isinstance(result, ExportKitError):
                store.refuse_full_disk(self.work)
                earlier.append((strategies[place], _one_line(result)))
                continue
            folder = self.folder(name, place, variant)
            reports = self.judge(folder, result, network)
            made = Made(name, result, reports, tuple(earlier), "", time.monotonic() - started, folder)
            if made.good:
                return replace(made, reports=self.probe(folder, reports, network))
            if made.outcome == "undetermined":
                return made
            failed = failed or reports
            earlier.append((strategies[place], _why(reports)))
        refused = "; ".join(dict.fromkeys(f"{strategy}: {reason}" for strategy, reason in earlier))
        return Made(name, None, failed, tuple(earlier), refused, time.monotonic() - started)

    def make(self, wanted: Sequence[tuple[str, int]], network: Network) -> dict[str, Attempt]:
        """Makes artifacts in one child; where it dies, each in a child of its own, so that a crash costs one format only."""
        attempts = [(name, place, self.folder(name, place, network)) for name, place in wanted]
        try:
            made = self.holder.run(
                "exportkit.make:make",
                attempts,
                network,
                self.opset,
                self.target,
                self.ort_library,
                limits=self.limits,
                stage=f"exporting {', '.join(name for name, _ in wanted)}",
                on_event=self.listen,
            )
        except RunError as error:
            for _, _, folder in attempts:
                shutil.rmtree(folder, ignore_errors=True)
            if len(wanted) > 1:
                return {name: self.make([(name, place)], network)[name] for name, place in wanted}
            names = self.server.run("exportkit.make:strategies", wanted[0][0], limits=self.limits, stage="loading the format")
            return {wanted[0][0]: (error, names)}
        return {name: (one.made, one.strategies) for name, one in made.items()}

    def folder(self, name: str, place: int, network: Network) -> Path:
        return self.work / f"{name}-{place}-{len(network.symbols)}"

    def judge(self, folder: Path, artifact: Artifact, network: Network) -> tuple[Report, ...]:
        proof = self.evidence.result()
        try:
            reports: tuple[Report, ...] = self.server.run(
                "exportkit.judge:judge_all",
                folder,
                artifact,
                replace(network, outputs=proof.outputs),
                self.provider,
                self.ort_library,
                proof.trial,
                limits=self.limits,
                stage=f"checking {artifact.files[0]}",
                on_event=self.listen,
            )
        except ExportKitError as error:
            crash = Finding("error", "does-not-run", error.what, error.where)
            return (Report(network.name, artifact, artifact.format, self.provider, findings=(crash,)),)
        return reports

    def probe(self, folder: Path, reports: tuple[Report, ...], network: Network) -> tuple[Report, ...]:
        """Adds what happens outside the domain: warnings, also where the runtime crashes there."""
        proof = self.evidence.result()
        network = replace(network, outputs=proof.outputs)
        probed = []
        for report in reports:
            try:
                found: tuple[Finding, ...] = self.server.run(
                    "exportkit.judge:probe",
                    folder,
                    report.artifact,
                    network,
                    report.backend,
                    report.device,
                    self.ort_library,
                    proof.trial,
                    limits=self.limits,
                    stage=f"probing {report.artifact.files[0]}",
                    on_event=self.listen,
                )
            except ExportKitError as error:
                found = (Finding("warning", "outside-domain", f"outside the domain: {error.what}"),)
            probed.append(replace(report, findings=(*report.findings, *found)))
        return tuple(probed)


def _plan(strategies: int, network: Network) -> Iterable[tuple[int, Network]]:
    """Yields every strategy with all dimensions, then every one with those only that the user asked for."""
    fixed = replace(network, symbols=tuple(symbol for symbol in network.symbols if symbol.declared))
    for variant in [network] if fixed.symbols == network.symbols else [network, fixed]:
        yield from ((place, variant) for place in range(strategies))


def _why(reports: Sequence[Report]) -> str:
    for report in reports:
        for finding in report.findings:
            if finding.severity == "error":
                return finding.text
        for one in report.measurements:
            if not one.passed:
                return f"output {one.output} on {one.case}: {one.metric} is {one.value:.3g}, the limit is {one.limit:g}"
    return "not proven"


def _one_line(error: ExportKitError) -> str:
    return f"{error.where}: {error.what}" if error.where else error.what

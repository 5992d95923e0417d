"""Judges a published folder against the network as it is now: did the code drift from the artifacts?"""

import shlex
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from exportkit import pipeline, published, search
from exportkit.attempts import Bench
from exportkit.manifest import Made
from exportkit.pipeline import Listener, Request, Verdict
from exportkit.spec import Finding, Network, Report, Runtime, TensorSpec
from exportkit.worker import Host, Limits


@dataclass(frozen=True, slots=True)
class Against:
    """The network to compare with.

    Attributes:
        net: net.py, net.py:name, package.module:name or old.pt, as `export` takes it.
        inputs: example inputs such as "x: float32[batch, 64]", as the export was given them.
        weights: weights to load strictly; None where the export had none.
        search: wall seconds to search each artifact for a case on which it differs.
        cases: drawn cases to try besides, in the words of a search: "edges:17:batch=3".
    """

    net: str
    inputs: tuple[str, ...] = ()
    weights: str | None = None
    search: float = 0.0
    cases: tuple[str, ...] = ()


def judge(golden: Verdict, against: Against, server: Host, runtime: Runtime, limits: Limits, listen: Listener) -> Verdict:
    """Adds to the verdict of a folder's own check that against the network now, by the same cases and limits as in an export.

    Args:
        golden: what `published.check` found.
        runtime: as asked for.

    Raises:
        ExportKitError: the network cannot be used.
    """
    assert golden.folder is not None
    started = time.monotonic()
    runtime = pipeline.settle(runtime, server, limits)
    request = Request(against.net, name=golden.network.name, inputs=against.inputs, weights=against.weights)
    loaded, holder = pipeline.hold(request, server, limits, listen, idle=())
    with holder, tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(1) as lane:
        cases = Path(scratch) / "cases"
        cases.mkdir()
        survey = holder.run("exportkit.reference:survey", limits=limits, stage="running forward", on_event=listen)
        survey = replace(survey, cases=(*survey.cases, *search.read(against.cases, survey.symbols)))
        network = replace(loaded.network, symbols=survey.symbols, outputs=survey.outputs, output_tree=survey.output_tree)
        evidence = lane.submit(pipeline.reference, server, holder, survey, cases, runtime.device, limits, listen, {})
        pipeline.refuse_state(survey, evidence.result(), network)
        bench = Bench(server, holder, Path(scratch), limits, listen, runtime, None, None, evidence)
        changed = _signature(golden.network, network)
        made = tuple(_judge(one, golden.folder, network, bench, changed) for one in golden.made)
        drifted = any(one.good and not two.good for one, two in zip(golden.made, made, strict=True))
        if against.search:
            command = shlex.join(["exportkit", "check", str(golden.folder), "--against", against.net])
            look = search.Search(bench, network, against.search, golden.folder.absolute().parent, command)
            made = tuple(look.challenge(one) if one.good else one for one in made)
        findings = (*_digests(golden.network, network), *loaded.findings, *survey.findings, *evidence.result().findings)
    if drifted:
        text = f"the artifacts do not compute what {network.source.file} computes now: export it again, or take its change back"
        findings = (Finding("error", "drifted", text), *findings)
    code = 0 if all(one.good for one in made) else 1
    seconds = {**golden.seconds, "total": golden.seconds["total"] + time.monotonic() - started}
    return Verdict(golden.network, made, (*golden.findings, *findings), golden.folder, code, seconds, evidence.result().trial.cases)


def _judge(made: Made, folder: Path, network: Network, bench: Bench, changed: str) -> Made:
    assert made.artifact is not None
    if any(finding.code == published.UNSAFE for report in made.reports for finding in report.findings):
        return made
    if changed:
        error = Finding("error", "another-signature", changed)
        reports: tuple[Report, ...] = (Report(network.name, made.artifact, made.artifact.format, bench.runtime.device, findings=(error,)),)
    else:
        reports = bench.judge(folder, made.artifact, network)
    return replace(made, reports=(*made.reports, *(replace(one, against=network.source.file) for one in reports)))


def _signature(then: Network, now: Network) -> str:
    """Says how the network's signature has changed; "" where artifacts of the old one can be called like the new one."""
    for word, old, new in (("takes", then.inputs, now.inputs), ("returns", then.outputs, now.outputs)):
        if _form(old) != _form(new):
            return f"the network {word} {_form(new)} now, the artifacts {_form(old)}"
    return "" if then.input_tree == now.input_tree else "the network takes its inputs in another order or nesting now than the artifacts"


def _form(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{one.name}: {one.dtype} of rank {len(one.shape)}" for one in specs) or "nothing"


def _digests(then: Network, now: Network) -> Iterator[Finding]:
    if then.source.digest != now.source.digest:
        yield Finding("note", "source-changed", f"{now.source.file} is not the file that was exported: its SHA-256 differs")
    if then.source.weights_digest != now.source.weights_digest:
        yield Finding("warning", "weights-changed", f"the weights of {now.source.file} are not those that were exported")

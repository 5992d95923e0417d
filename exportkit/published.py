"""Checks a published folder: the digests of its files, then each artifact against the golden cases."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from exportkit import blame, manifest, pipeline, store
from exportkit.attempts import in_other_ways
from exportkit.errors import RejectedError, RunError, StoreError
from exportkit.manifest import Made
from exportkit.messages import Scene
from exportkit.pipeline import Listener, Verdict
from exportkit.spec import Artifact, Case, Finding, Network, Report, Runtime
from exportkit.worker import Host, Limits

# What reads a file for code that loading it would run; onnxruntime runs none.
SCREENS = {
    "torchscript": "exportkit.screening.torchfiles:screen_torchscript",
    "pt2": "exportkit.screening.torchfiles:screen_pt2",
}

UNSAFE = "unsafe"  # the code of a finding: the artifact must not be loaded
_AGAIN = "Export the network again."
_PINNED = " (if you know who made it, pin the folder with --expect-digest)"


def check(
    folder: Path,
    server: Host,
    runtime: Runtime = Runtime(),
    limits: Limits | None = None,
    listen: Listener = lambda _: None,
    repro: str | None = None,
    *,
    trusted: bool = False,
    only: str = "",
    other_ways: bool = True,
) -> Verdict:
    """Checks an artifact folder: the digests of its files, then each artifact against the golden cases.

    Where an export swaps another folder in meanwhile, that one is checked.

    Args:
        repro: a folder for the node that makes ONNX fail; None for none.
        only: the format whose artifact is judged; "" for all.
        other_ways: measure, too, how else deployments run the artifacts (ways.py).
        trusted: the manifest's digest is known from elsewhere: files are loaded without being read for code that loading would run.

    Raises:
        StoreError: a file is missing, extra or changed.
        RunError: the device or the library of custom operators is not here.
    """
    return store.steady(
        folder, lambda: _check(folder, server, runtime, limits, listen, repro, trusted=trusted, only=only, other_ways=other_ways)
    )


def _check(
    folder: Path,
    server: Host,
    runtime: Runtime,
    limits: Limits | None,
    listen: Listener,
    repro: str | None,
    *,
    trusted: bool,
    only: str,
    other_ways: bool,
) -> Verdict:
    started = time.monotonic()
    data = store.verify(folder)
    limits = limits or Limits()
    runtime = pipeline.settle(runtime, server, limits)
    network, artifacts, cases = read(folder, data)
    artifacts = [one for one in artifacts if only in ("", one.format)]
    made = []
    for artifact in artifacts:
        begun = time.monotonic()
        judged = (folder, artifact, network, runtime, data["evidence"])
        try:
            if artifact.format in SCREENS and not trusted:
                server.run(SCREENS[artifact.format], folder / artifact.files[0], limits=limits, stage=f"reading {artifact.files[0]}")
            reports = server.run(
                "exportkit.judge:judge_golden", *judged, limits=limits, stage=f"checking {artifact.files[0]}", on_event=listen
            )
            if artifact.rows and (told := server.run("exportkit.rows:disproved", *judged, limits=limits, stage="mixing rows")):
                reports = (replace(reports[0], findings=(*reports[0].findings, _touching(artifact, told))), *reports[1:])
        except (RunError, RejectedError) as error:
            reports = (Report(network.name, artifact, artifact.format, runtime.device, findings=(_fault(artifact, error),)),)
        if artifact.format == "onnx" and any(report.outcome == "failed" for report in reports):
            tracer = blame.Tracer(server, limits, listen)
            reports = _blamed(tracer, reports, folder, data["evidence"], network, runtime, repro)
        if other_ways and runtime.device != "cpu":
            trial = server.run("exportkit.judge:golden_trial", folder, data["evidence"], limits=limits, stage="reading the golden cases")
            reports = in_other_ways(reports, (folder, artifact, network, runtime, trial), server, limits, listen)
        made.append(Made(artifact.format, artifact, reports, (), "", time.monotonic() - begun, folder))
    code = 0 if all(one.good for one in made) else 1
    return Verdict(network, tuple(made), (), folder, code, {"total": time.monotonic() - started}, cases)


def read(folder: Path, data: Mapping[str, Any]) -> tuple[Network, list[Artifact], tuple[Case, ...]]:
    """Reads the network, the artifacts and the golden cases of a manifest.

    Raises:
        StoreError: they cannot be read, there is no artifact, or one has no digest.
    """
    try:
        network = manifest.read_network(data["network"])
        artifacts = [manifest.read_artifact(one["artifact"]) for one in data["formats"].values()]
        cases = tuple(Case(**one) for one in data["evidence"]["cases"] if one["name"] not in data["evidence"]["left_out"])
        named = {data["evidence"]["file"], *(name for one in artifacts for name in one.files)}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"cannot be read: {type(error).__name__}: {error}", where=str(folder / store.MANIFEST), todo=_AGAIN) from error
    if not artifacts:
        raise StoreError("names no artifact: there is nothing to check", where=str(folder / store.MANIFEST), todo=_AGAIN)
    if strangers := sorted(named - data["files"].keys()):
        raise StoreError(f"names {strangers[0]}, for which it has no digest", where=str(folder / store.MANIFEST), todo=_AGAIN)
    return network, artifacts, cases


def _fault(artifact: Artifact, error: RunError | RejectedError) -> Finding:
    if isinstance(error, RejectedError):
        return Finding("error", UNSAFE, f"{artifact.files[0]} was not loaded, as loading runs code of it: {error.what}{_PINNED}")
    return Finding("error", "does-not-run", error.what, error.where)


def _touching(artifact: Artifact, told: str) -> Finding:
    return Finding("error", "rows-touch", f"the manifest says that rows along {artifact.rows} do not touch each other, and they do: {told}")


def _blamed(
    tracer: blame.Tracer,
    reports: tuple[Report, ...],
    folder: Path,
    evidence: Mapping[str, Any],
    network: Network,
    runtime: Runtime,
    repro: str | None,
) -> tuple[Report, ...]:
    """Adds to the reports of a failed ONNX artifact which node is at fault, as far as runtimes alone can tell."""
    artifact = reports[0].artifact
    with tempfile.TemporaryDirectory() as scratch:
        trial = tracer.server.run("exportkit.judge:golden_trial", folder, evidence, limits=tracer.limits, stage="reading the golden cases")
        scene = Scene(folder, artifact, network, trial, runtime, Path(scratch))
        told = blame.explain(scene, reports, repro, tracer)
    return (replace(reports[0], findings=(*reports[0].findings, *told)), *reports[1:])

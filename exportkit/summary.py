"""A verdict as plain JSON values: what the reporters render."""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from exportkit.inspection import Inspection
from exportkit.manifest import Made, as_json
from exportkit.pipeline import Verdict
from exportkit.spec import Measurement, Network, Report

_ERRORS = ("largest error / eager's", "unequal elements")  # what is measured in every case
_AROUND, _MOST_PLACES, _LONGEST_LINE = 2, 20, 200  # lines of source before and after; places; characters


def summarise(verdict: Verdict | Inspection, *, command: str = "", net: str = "") -> dict[str, Any]:
    """Turns a verdict, or what was found of a bare file, into the reporters' summary.

    Args:
        command: the export that was asked for, without its formats; "" where it was none.
        net: the network that the command was given, whose lines are shown where the verdict names them; "" for none. A folder from
            elsewhere may name any file: nothing that it names is read.
    """
    if isinstance(verdict, Inspection):
        return _file(verdict)
    good = [one.format for one in verdict.made if one.good]
    failed = [one.format for one in verdict.made if not one.good]
    commands = [f"{command} --format {','.join(good)}"] if good and failed and command else []
    return {
        "network": _network(verdict.network),
        "folder": str(verdict.folder) if verdict.folder else None,
        "formats": [_format(one, verdict.folder) for one in verdict.made],
        "cases": [{"name": case.name, "kind": case.kind, "domain": case.domain, "sizes": dict(case.sizes)} for case in verdict.cases],
        "findings": as_json(list(verdict.findings)),
        "outcome": verdict.outcome,
        "exit_code": verdict.exit_code,
        "seconds": {name: round(value, 2) for name, value in verdict.seconds.items()},
        "next": commands,
        "source": _source(verdict, Path(re.sub(r"(?<=\.py):.*", "", net))) if net else {},
    }


def _source(verdict: Verdict, file: Path) -> dict[str, list[dict[str, Any]]]:
    """Reads the lines of the network file that the verdict names: "net.py:12" -> that line and its neighbours, {"line", "text"} each."""
    if not file.is_file():
        return {}
    lines = file.read_text(errors="replace").splitlines()
    found: dict[str, list[dict[str, Any]]] = {}
    for text in _texts(verdict):
        for match in re.finditer(rf"{re.escape(file.name)}:(\d+)", text):
            number = int(match[1])
            near = range(max(number - _AROUND, 1), min(number + _AROUND, len(lines)) + 1)
            found[match[0]] = [{"line": one, "text": lines[one - 1][:_LONGEST_LINE]} for one in near]
    return dict(list(found.items())[:_MOST_PLACES])


def _texts(verdict: Verdict) -> Iterator[str]:
    for made in verdict.made:
        yield made.refused
        yield from (reason for _, reason in made.earlier)
        yield from (f"{one.where}: {one.text}" for report in made.reports for one in report.findings)
    yield from (f"{one.where}: {one.text}" for one in verdict.findings)


def _file(found: Inspection) -> dict[str, Any]:
    tensors = {"inputs": found.inputs, "outputs": found.outputs}
    signature = {key: [{"name": s.name, "dtype": s.dtype, "shape": list(s.shape)} for s in specs] for key, specs in tensors.items()}
    return {
        "file": str(found.file),
        "format": found.format,
        "sha256": found.digest,
        "size": found.size,
        **signature,
        "done": found.done,
        "facts": as_json(found.facts),
        "outcome": found.outcome,
        "exit_code": 0,
        "seconds": {"total": round(found.seconds, 2)},
    }


def _network(network: Network) -> dict[str, Any]:
    varying = {(name, axis) for symbol in network.symbols for name, axis, _ in symbol.places}
    fixed = [
        f"{spec.name} axis {axis} = {size}"
        for spec in network.inputs
        for axis, size in enumerate(spec.shape)
        if (spec.name, axis) not in varying
    ]
    names = {
        (name, axis): symbol.name + (f"{offset:+d}" if offset else "") for symbol in network.symbols for name, axis, offset in symbol.places
    }
    inputs = [
        {"name": s.name, "dtype": s.dtype, "shape": [names.get((s.name, axis), size) for axis, size in enumerate(s.shape)]}
        for s in network.inputs
    ]
    return {
        "name": network.name,
        "file": network.source.file,
        "object": network.source.object,
        "inputs": inputs,
        "outputs": [{"name": s.name, "dtype": s.dtype, "shape": list(s.shape)} for s in network.outputs],
        "symbols": as_json(list(network.symbols)),
        "fixed": fixed,
    }


def _format(made: Made, folder: Path | None) -> dict[str, Any]:
    artifact = made.artifact
    where = folder or made.folder
    files = [{"name": name, "size": _size(where, name)} for name in artifact.files] if artifact else []
    return {
        "format": made.format,
        "strategy": artifact.strategy if artifact else None,
        "earlier": [{"strategy": strategy, "reason": reason} for strategy, reason in made.earlier],
        "files": files,
        "facts": as_json(artifact.facts) if artifact else {},
        "verdicts": [_report(report) for report in made.reports],
        "findings": [],
        "outcome": made.outcome,
        "seconds": round(made.seconds, 2),
        "refused": made.refused or None,
    }


def _report(report: Report) -> dict[str, Any]:
    return {
        "backend": report.backend,
        "device": report.device,
        "against": report.against,
        "outcome": report.outcome,
        "cases": dict(report.cases),
        "differences": as_json(report.differences),
        "errors": _errors(report),
        "undetermined": list(report.undetermined),
        "findings": as_json(list(report.findings)),
        "failures": _failures(report),
        "facts": as_json(report.facts),
    }


def _errors(report: Report) -> dict[str, list[dict[str, Any]]]:
    """Tells each output's error in each case: a multiple of eager's own rounding error, or the number of unequal integers or booleans."""
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in report.differences}
    for one in report.measurements:
        if one.metric in _ERRORS:
            point = {"case": one.case, "metric": one.metric, "value": one.value, "limit": one.limit, "passed": one.passed}
            told.setdefault(one.output, []).append(point)
    return told


def _failures(report: Report) -> Sequence[dict[str, Any]]:
    """Tells the worst of each output's failed measurements of one kind, and in how many cases there was one.

    Another shape or dtype is a finding already, in words.
    """
    failed: dict[tuple[str, str], list[Measurement]] = {}
    for one in report.measurements:
        if not one.passed and one.metric != "shape and dtype":
            failed.setdefault((one.output, one.metric), []).append(one)
    worst = [(max(some, key=lambda one: math.inf if math.isnan(one.value) else one.value), len(some)) for some in failed.values()]
    return [{**as_json(one), "cases": count} for one, count in worst]


def _size(folder: Path | None, name: str) -> int:
    return (folder / name).stat().st_size if folder and (folder / name).exists() else 0

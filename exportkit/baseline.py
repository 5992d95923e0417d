"""What a network's artifacts were, in a small text file for a review, and what changed since.

A baseline holds what a reader can judge: signature, weights' digest, and of each format its operators, opset, size, error in units of
eager PyTorch's own, and speed. Numbers are rounded, and an old number stays where the new one is no other: a second run on
another day writes the same file.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from exportkit import store
from exportkit.errors import LoadError, StoreError
from exportkit.files import write_whole
from exportkit.manifest import Made, read_artifact, read_network
from exportkit.pipeline import Verdict
from exportkit.spec import Artifact, Finding, Network, Runtime, Severity, TensorSpec
from exportkit.worker import Host, Limits

SLOWER = 2.0  # times the baseline's run from which an artifact is slower

_SCHEMA = 1
_LARGER = 1.1  # times the baseline's bytes
_WORSE = 2.0  # times the baseline's error, or eager's own, whichever is larger
_SAME = {"size": 1.02, "speed": 1.5, "rms": 1.5, "max": 1.5}  # a number within this factor of the old one is no other
_MOST = 16 << 20  # bytes of a baseline
_ADVICE = "Write it with `exportkit baseline`."

Baseline = dict[str, Any]


def take(verdict: Verdict, server: Host, runtime: Runtime, limits: Limits) -> Baseline:
    """Takes the baseline of a folder that was checked just now, and times its artifacts.

    Args:
        verdict: of `published.check`.

    Raises:
        RunError: an artifact that passed does not run again.
    """
    assert verdict.folder is not None
    data = store.read_manifest(verdict.folder)
    network, formats = read_network(data["network"]), {}
    for one in verdict.made:
        if one.artifact is None:
            continue
        formats[one.format] = _format(one.artifact, data["files"], _errors(one))
        if not one.good:
            continue  # it does not run, or must not be loaded: the verdict says so
        call = ("exportkit.timing:measure", verdict.folder, one.artifact, network, runtime, data["evidence"])
        formats[one.format]["speed"] = _round(server.run(*call, limits=limits, stage=f"timing {one.artifact.files[0]}"), 2)
    return _baseline(network, formats)


def check(verdict: Verdict, place: Path, slower: float, server: Host, runtime: Runtime, limits: Limits) -> Verdict:
    """Compares a folder that was checked just now with the baseline of its network.

    Raises:
        LoadError: there is none.
        StoreError: it is no baseline.
    """
    old = read(place, verdict.network.name)
    return compare(verdict, old, take(verdict, server, runtime, limits), slower)


def record(verdict: Verdict, to: Path, server: Host, runtime: Runtime, limits: Limits) -> tuple[Path, bool]:
    """Writes the baseline of a folder that was checked just now; returns its file, and whether that changed.

    Raises:
        StoreError: the file cannot be written, or what stands there is no baseline.
    """
    file, new = to / f"{verdict.network.name}.json", take(verdict, server, runtime, limits)
    text = as_text(settle(read(file, verdict.network.name), new) if file.is_file() else new)
    if file.is_file() and file.read_text() == text:
        return file, False
    with store.in_words(file):
        to.mkdir(parents=True, exist_ok=True)
        write_whole(file, text)
    return file, True


def read(place: Path, name: str) -> Baseline:
    """Reads the baseline of a network.

    Args:
        place: a baseline, a folder of them, an artifact folder, or its manifest.

    Raises:
        LoadError: there is none.
        StoreError: it is no baseline.
    """
    file = place / f"{name}.json" if place.is_dir() and not (place / store.MANIFEST).is_file() else place
    if file.is_dir() or file.name == store.MANIFEST:
        return _of_manifest(file if file.is_dir() else file.parent)
    if not file.is_file():
        raise LoadError(f"is missing: {name} has no baseline there", where=str(file), todo=_ADVICE)
    try:
        data: Any = json.loads(file.read_bytes()) if file.stat().st_size <= _MOST else None
        whole = data["schema"] == _SCHEMA and data["network"] == name and not any(_changes(data, data, SLOWER))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise StoreError(f"is no baseline of {name}", where=str(file), todo=_ADVICE)
    return dict(data)


def settle(old: Baseline, new: Baseline) -> Baseline:
    """Keeps the old numbers that the new ones do not really differ from."""
    settled = json.loads(json.dumps(new))
    for name, one in settled["formats"].items():
        before = old["formats"].get(name, {})
        for key in ("size", "speed"):
            if key in one and key in before and _alike(before[key], one[key], key):
                one[key] = before[key]
        for output, errors in one["error"].items():
            for key, value in errors.items():
                was = before.get("error", {}).get(output, {}).get(key)
                if was is not None and (_alike(was, value, key) or max(was, value) <= 1.0):  # within eager's own error they are alike
                    errors[key] = was
    return dict(settled)


def as_text(baseline: Baseline) -> str:
    """Writes a baseline as its file, in a stable order."""
    return json.dumps(baseline, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def compare(verdict: Verdict, old: Baseline, new: Baseline, slower: float) -> Verdict:
    """Adds to a verdict what changed since the baseline: what got worse fails the format that it is of.

    Raises:
        StoreError: a value of the baseline is of another kind.
    """
    try:
        found = list(_changes(old, new, slower))
    except (TypeError, AttributeError, KeyError) as error:
        raise StoreError(f"the baseline is none: {type(error).__name__}: {error}", todo=_ADVICE) from error
    made = []
    for one in verdict.made:
        told = tuple(finding for name, finding in found if name in ("", one.format))
        made.append(replace(one, reports=(replace(one.reports[0], findings=(*one.reports[0].findings, *told)), *one.reports[1:])))
    code = 0 if made and all(one.good for one in made) else 1
    return replace(verdict, made=tuple(made), exit_code=code)


def _changes(old: Baseline, new: Baseline, slower: float) -> Iterator[tuple[str, Finding]]:
    """Yields (format, or "" for all; what changed). Severity: an error got worse, a warning is another network, a note is better."""
    for what in ("inputs", "outputs", "varies"):
        if old[what] != new[what]:
            yield "", _finding("error", f"{what} were {', '.join(old[what]) or 'none'}, and are {', '.join(new[what]) or 'none'}")
    if old["weights"] != new["weights"]:
        yield "", _finding("warning", "the weights are others")
    if missing := sorted(old["formats"].keys() - new["formats"].keys()):
        yield "", _finding("error", f"{', '.join(missing)} was there, and is not any more")
    for name, now in new["formats"].items():
        if name not in old["formats"]:
            yield name, _finding("note", f"{name} is new")
            continue
        for severity, text in _changes_of(old["formats"][name], now, slower):
            yield name, _finding(severity, text)


def _changes_of(was: Mapping[str, Any], now: Mapping[str, Any], slower: float) -> Iterator[tuple[Severity, str]]:
    if was["signature"] != now["signature"]:
        yield "error", f"the file's signature was {', '.join(was['signature'])}, and is {', '.join(now['signature'])}"
    for key, words in (("opset", "opset"), ("ir_version", "IR version")):
        if was.get(key) != now.get(key):  # an older runtime may not take a larger one
            yield "error" if (now.get(key) or 0) > (was.get(key) or 0) else "note", f"{words} was {was.get(key)}, and is {now.get(key)}"
    if was["strategy"] != now["strategy"]:
        yield "note", f"made by {was['strategy']} then, by {now['strategy']} now"
    if text := _operators(was["operators"], now["operators"]):
        yield "warning", f"the graph has changed: {text}"
    yield from _figures(was, now, slower)


def _figures(was: Mapping[str, Any], now: Mapping[str, Any], slower: float) -> Iterator[tuple[Severity, str]]:
    for key, limit, words in (("size", _LARGER, ("larger", "smaller", " bytes")), ("speed", slower, ("slower", "faster", "x the unit"))):
        if key not in was or key not in now:
            continue
        if now[key] > limit * was[key]:
            yield "error", f"{words[0]}: {now[key]:g}{words[2]}, {was[key]:g} then (more than {limit:g} times)"
        elif was[key] > limit * now[key]:
            yield "note", f"{words[1]}: {now[key]:g}{words[2]}, {was[key]:g} then"
    for output, errors in now["error"].items():
        for key, value in errors.items():
            before = was["error"].get(output, {}).get(key)
            if before is not None and not value <= _WORSE * max(before, 1.0):
                yield "error", f"output {output} is further off: {key} error {value:g}x eager's own, {before:g}x then"


def _operators(was: Mapping[str, int], now: Mapping[str, int]) -> str:
    """Words which operators came and went: "+2 Cast, -1 Gemm"."""
    steps = {name: now.get(name, 0) - was.get(name, 0) for name in sorted({*was, *now})}
    return ", ".join(f"{step:+d} {name}" for name, step in steps.items() if step)


def _finding(severity: Severity, text: str) -> Finding:
    return Finding(severity, "baseline", f"since the baseline: {text}")


def _of_manifest(folder: Path) -> Baseline:
    """Makes the baseline that an artifact folder stands for; nobody timed its artifacts."""
    data = store.read_manifest(folder)
    try:
        formats = {}
        for name, one in data["formats"].items():
            errors = {output: _rounded(values) for report in one["reports"] for output, values in report["differences"].items()}
            formats[name] = _format(read_artifact(one["artifact"]), data["files"], errors)
        return _baseline(read_network(data["network"]), formats)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"cannot be read: {type(error).__name__}: {error}", where=str(folder / store.MANIFEST)) from error


def _baseline(network: Network, formats: Mapping[str, Any]) -> Baseline:
    return {
        "schema": _SCHEMA,
        "network": network.name,
        "weights": network.source.weights_digest,
        "inputs": [_spec(replace(one, shape=_named(one, network))) for one in network.inputs],
        "outputs": list(map(_spec, network.outputs)),
        "varies": [f"{one.name}: {one.low} to {one.high}" if one.high else f"{one.name}: {one.low} or more" for one in network.symbols],
        "formats": dict(formats),
    }


def _format(artifact: Artifact, files: Mapping[str, Any], errors: Mapping[str, Any]) -> dict[str, Any]:
    facts = artifact.facts
    return {
        "strategy": artifact.strategy,
        "signature": [*map(_spec, artifact.inputs), *map(_spec, artifact.outputs)],
        "operators": dict(facts.get("operators", {})),
        "size": _round(sum(files[name]["size"] for name in artifact.files), 3),
        "error": dict(errors),
        **{key: facts[key] for key in ("opset", "ir_version") if key in facts},
    }


def _errors(made: Made) -> dict[str, Any]:
    return {output: _rounded(values) for report in made.reports if not report.against for output, values in report.differences.items()}


def _rounded(values: Mapping[str, Any]) -> dict[str, float]:
    return {key: _round(float(values[f"times_eager_{key}"]), 2) for key in ("rms", "max")}


def _named(spec: TensorSpec, network: Network) -> tuple[int | str, ...]:
    """Returns an input's shape with the names of the dimensions that vary."""
    names = {
        (name, axis): symbol.name + (f"{offset:+d}" if offset else "") for symbol in network.symbols for name, axis, offset in symbol.places
    }
    return tuple(names.get((spec.name, axis), size) for axis, size in enumerate(spec.shape))


def _spec(spec: TensorSpec) -> str:
    return f"{spec.name}: {spec.dtype}[{', '.join(map(str, spec.shape))}]"


def _alike(was: float, now: float, key: str) -> bool:
    return was <= now * _SAME[key] and now <= was * _SAME[key]


def _round(value: float, digits: int) -> float:
    """Rounds to significant digits; a whole number stays one."""
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded

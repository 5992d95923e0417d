"""Loads a file from elsewhere and runs it once, in a child with hard limits: it may crash, hang or ask for all memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exportkit import evidence, golden, judge, placement
from exportkit.errors import ExportKitError, LoadError, RejectedError
from exportkit.evidence import Sample
from exportkit.messages import Screened, Trial
from exportkit.screening.draws import COUNTING, Draw, draw, draws
from exportkit.spec import Artifact, Case, Network, Report, Runtime, Source, TensorSpec

_NESTED = ("sequence_", "optional_", "map_", "sparse_", "str")  # onnxruntime takes these as Python values only
# The values of such inputs may decide an output's shape (a size, an axis): what is declared holds for those of the author.
_DECIDING = ("int", "uint", "bool", "str", "sequence_", "optional_")


def run_once(file: Path, screened: Screened, runtime: Runtime) -> dict[str, Any]:
    """Loads an .onnx and runs it on the first drawn inputs that it takes.

    Returns:
        The runtime's facts, and the sizes that it ran at.

    Raises:
        RejectedError: it does not load, CUDA has no kernel for a node of it, it runs on no drawn inputs, or its outputs have other shapes
            than it declares.
    """
    try:
        session = judge.load(file.parent, Artifact("onnx", (file.name,), ""), network_of(file, screened), "onnxruntime", runtime)
    except ExportKitError as error:
        raise RejectedError(f"does not load: {error.what}") from error
    for found in placement.findings(session.facts, allowed=runtime.allow_cpu_nodes):
        if found.severity == "error":
            raise RejectedError(found.text, where=found.where)
    reasons: list[str] = []
    for way in draws():
        values = draw(screened.inputs, way)
        try:
            outputs = _run(session, screened, values)
        except Exception as error:  # noqa: BLE001 - a runtime's errors have no common class; each is an answer
            reasons.append(error.what if isinstance(error, ExportKitError) else " ".join(str(error).split())[:300])
            if not screened.inputs:
                break  # nothing to vary
            continue
        strays = _strays(screened.outputs, outputs)
        if strays and not any(spec.dtype.startswith(_DECIDING) for spec in screened.inputs):
            raise RejectedError(strays[0])
        return {**session.facts, "inputs": _told(values), "ran_at": dict(way.sizes), "draw": _words(way), "strays": strays}
    raise RejectedError(f"runs on none of the inputs drawn from its signature: {reasons[0]}", todo=_todo(screened))


def judge_cases(file: Path, screened: Screened, runtime: Runtime, cases: Path) -> tuple[Report, ...]:
    """Judges an .onnx on golden cases that no manifest describes: eager's own error is weighed from them alone.

    Args:
        cases: a safetensors file; "CASE/input/NAME", "CASE/eager/OUTPUT", and "CASE/oracle/OUTPUT" in float64 for floats.

    Raises:
        LoadError: no case is whole.
    """
    reader = golden.Reader(cases)
    keys, network = set(reader.names()), network_of(file, screened)
    missing = {name: _missing(name, screened, keys) for name in sorted({key.split("/")[0] for key in keys})}
    names = [name for name, keys_missing in missing.items() if not keys_missing]
    if not names:
        lacks = next(iter(missing.values()), ["CASE/input/NAME"])[0]
        raise LoadError(f"holds no {lacks}", where=str(cases), todo="Golden cases hold inputs, eager's outputs and float64's.")
    samples = {spec.name: [_sample(reader, case, spec) for case in names] for spec in screened.outputs}
    budgets = {spec.name: evidence.weigh(samples[spec.name], spec.dtype) for spec in screened.outputs}
    trial = Trial(cases, tuple(Case(name, {}, "check", "inside", 0) for name in names), budgets, {}, len(missing) - len(names))
    artifact = Artifact("onnx", (file.name,), "", screened.inputs, screened.outputs)
    session = judge.load(file.parent, artifact, network, "onnxruntime", runtime)
    return (judge.placed(judge.judge(session, artifact, network, "onnxruntime", runtime.device, trial), runtime),)


def _sample(reader: golden.Reader, case: str, spec: TensorSpec) -> Sample:
    eager, oracle = (reader.read(f"{case}/{kind}/{spec.name}") for kind in (_kinds(spec)[0], _kinds(spec)[-1]))
    return Sample(case, eager, oracle, ())


def _missing(case: str, screened: Screened, keys: set[str]) -> list[str]:
    needed = [f"{case}/input/{spec.name}" for spec in screened.inputs]
    needed += [f"{case}/{kind}/{spec.name}" for spec in screened.outputs for kind in _kinds(spec)]
    return [key for key in needed if key not in keys]


def _kinds(spec: TensorSpec) -> list[str]:
    return ["eager", "oracle"] if "float" in spec.dtype or "complex" in spec.dtype else ["eager"]


def network_of(file: Path, screened: Screened) -> Network:
    """Makes the network that a file's own signature describes."""
    tree = {"dict": {spec.name: {"leaf": spec.name} for spec in screened.inputs}}
    return Network(file.stem, screened.inputs, tree, Source(file.name, "", "", ""), (), screened.outputs)


def _run(session: Any, screened: Screened, values: Mapping[str, Any]) -> list[Any]:
    if any(spec.dtype.startswith(_NESTED) for spec in (*screened.inputs, *screened.outputs)):
        answer: list[Any] = session.session.run(None, dict(values))
        return answer
    return list(session(values))


def _strays(specs: Sequence[TensorSpec], outputs: Sequence[Any]) -> list[str]:
    """Lists the outputs that have another shape than the file declares."""
    strays = []
    for spec, output in zip(specs, outputs, strict=True):
        if not isinstance(output, np.ndarray) or spec.shape == ("...",):
            continue
        pairs = zip(spec.shape, output.shape, strict=False)
        if len(spec.shape) != output.ndim or any(isinstance(want, int) and want != have for want, have in pairs):
            strays.append(f"declares output {spec.name} as [{', '.join(map(str, spec.shape))}], and gives {list(output.shape)}")
    return strays


def _told(values: Mapping[str, Any]) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in values.items() if isinstance(value, np.ndarray)}


def _words(way: Draw) -> str:
    floats = "normal" if way.floating is None else f"{way.floating:g}"
    return f"floats {floats}, integers {'counting' if way.integer == COUNTING else way.integer}"


def _todo(screened: Screened) -> str:
    return "If it needs inputs of a certain kind, give some with --golden FILE." if screened.inputs else ""

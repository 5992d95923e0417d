"""Loads a file from elsewhere and runs it once, in a child with hard limits: it may crash, hang or ask for all memory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from exportkit import plugins
from exportkit.draws import Draw, draw, draws
from exportkit.errors import ExportKitError, RejectedError
from exportkit.messages import Screened
from exportkit.spec import Artifact, Network, Source, TensorSpec

_NESTED = ("sequence_", "optional_", "map_", "sparse_")


def run_once(file: Path, screened: Screened, device: str, ort_library: str | None) -> dict[str, Any]:
    """Loads an .onnx and runs it on the first drawn inputs that it takes.

    Returns:
        The runtime's facts, and the sizes that it ran at.

    Raises:
        RejectedError: it does not load, it runs on no drawn inputs, or its outputs are not what it declares.
    """
    backend = replace(plugins.load("backends", "onnxruntime"), ort_library=ort_library)
    try:
        session = backend.load(file.parent, Artifact("onnx", (file.name,), ""), network_of(file, screened), device)
    except ExportKitError as error:
        raise RejectedError(f"does not load: {error.what}") from error
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
        _check_outputs(screened.outputs, outputs)
        return {**session.facts, "inputs": _told(values), "ran_at": dict(way.sizes), "draw": _words(way)}
    raise RejectedError(f"runs on none of the inputs drawn from its signature: {reasons[0]}", todo=_todo(screened))


def network_of(file: Path, screened: Screened) -> Network:
    """Makes the network that a file's own signature describes."""
    tree = {"dict": {spec.name: {"leaf": spec.name} for spec in screened.inputs}}
    return Network(file.stem, screened.inputs, tree, Source(file.name, "", "", ""), (), screened.outputs)


def _run(session: Any, screened: Screened, values: Mapping[str, Any]) -> list[Any]:
    if any(spec.dtype.startswith(_NESTED) for spec in (*screened.inputs, *screened.outputs)):
        answer: list[Any] = session.session.run(None, dict(values))
        return answer
    return list(session(values))


def _check_outputs(specs: Sequence[TensorSpec], outputs: Sequence[Any]) -> None:
    for spec, output in zip(specs, outputs, strict=True):
        if not isinstance(output, np.ndarray) or spec.shape == ("...",):
            continue
        fits = len(spec.shape) == output.ndim and all(
            want == have for want, have in zip(spec.shape, output.shape, strict=True) if isinstance(want, int)
        )
        if not fits:
            declared = ", ".join(map(str, spec.shape))
            raise RejectedError(f"declares output {spec.name} as [{declared}], and gives {list(output.shape)}")


def _told(values: Mapping[str, Any]) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in values.items() if isinstance(value, np.ndarray)}


def _words(way: Draw) -> str:
    return f"floats {'normal' if way.normal else '1'}, integers {way.integer}"


def _todo(screened: Screened) -> str:
    return "If it needs inputs of a certain kind, give some with --golden FILE." if screened.inputs else ""

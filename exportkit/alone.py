"""What each value of an artifact should be where the network is not at hand: what a right runtime makes of it. Needs no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from exportkit import golden, graphs
from exportkit.cuts import Cut, inputs_of, passes, run
from exportkit.messages import Scene, Suspect

Array = NDArray[Any]

_ROOM = 512 << 20  # bytes of references


def record(scene: Scene, suspect: Suspect, path: Path) -> bool:
    """Writes references where the network is not at hand: what a right runtime makes of the artifact.

    That is onnxruntime without its optimisations where they are at fault, else onnx's own reference implementation; False where that is as
    wrong as onnxruntime: then the artifact is not the network, and nothing here can tell where.
    """
    feeds = inputs_of(scene, suspect.case)
    outputs = [spec.name for spec in scene.network.outputs]
    model = graphs.load(scene.folder / scene.artifact.files[0])
    if suspect.optimiser:
        wanted = [name for name in graphs.written(model.graph) if name in suspect.ask]
        values: Any = run(scene, Cut(model, {}, {}, feeds), wanted)
    else:
        try:
            values = ReferenceEvaluator(ir.to_proto(model)).run(None, dict(feeds), intermediate=True)
        except Exception:  # noqa: BLE001 - it knows not every operator
            return False
        if not passes(scene, suspect.case, {name: np.asarray(values[name]) for name in outputs}):
            return False
    golden.write(path, {f"eager/{name}": value for name, value in _within_room(values).items()})
    return True


def _within_room(values: Mapping[str, Any]) -> dict[str, Array]:
    """Leaves out what is no array, and values beyond `_ROOM`: those between are then judged together."""
    kept: dict[str, Array] = {}
    for name, value in values.items():
        if isinstance(value, np.ndarray | np.generic) and sum(one.nbytes for one in kept.values()) + value.nbytes <= _ROOM:
            kept[name] = np.asarray(value)
    return kept

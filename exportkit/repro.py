"""Writes the failing node alone: a model, inputs, expected outputs, and a script that shows the difference without torch or exportkit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from exportkit import golden, graphs
from exportkit.cuts import Cut, cut_at
from exportkit.messages import Scene, Suspect

Array = NDArray[Any]

_NARROW = "bfloat16"  # numpy has no such type: float32 holds its values exactly, and the model casts
_PRIVATE = "pkg.torch.onnx.stack_trace"  # the user's own source

_SCRIPT = '''"""{title}

Run it beside model.onnx, inputs.npz and expected.npz; it needs onnx, numpy and onnxruntime only.
{found}
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

here = Path(__file__).parent
inputs = dict(np.load(here / "inputs.npz"))
expected = np.load(here / "expected.npz")["expected"]


def told(who, result):
    if result.shape != expected.shape or result.dtype != expected.dtype:
        print(f"{{who:32}} {{result.dtype}}{{list(result.shape)}}, expected {{expected.dtype}}{{list(expected.shape)}}")
        return
    lone = (result != result) ^ (expected != expected)
    unequal = (result != expected) & ((result == result) | (expected == expected))
    with np.errstate(invalid="ignore"):
        error = np.abs(result.astype(np.float64) - expected.astype(np.float64))[unequal & ~lone]
    more = f"; {{int(lone.sum())}} are NaN in one of the two only" if lone.any() else ""
    print(f"{{who:32}} {{int(unequal.sum())}} of {{unequal.size}} elements differ, by at most {{float(error.max(initial=0)):.3g}}{{more}}")


print("onnxruntime", onnxruntime.__version__, "onnx", onnx.__version__)
levels = onnxruntime.GraphOptimizationLevel
for who, level in (("onnxruntime", levels.ORT_ENABLE_ALL), ("onnxruntime, no optimisations", levels.ORT_DISABLE_ALL)):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(str(here / "model.onnx"), options, providers=["CPUExecutionProvider"])
    told(who, session.run(None, inputs)[0])
try:
    told("onnx's reference implementation", ReferenceEvaluator(str(here / "model.onnx")).run(None, inputs)[0])
except Exception as error:
    print("onnx's reference implementation does not run:", str(error).splitlines()[0])
'''


def write(scene: Scene, suspect: Suspect, reference: Path, found: str, folder: Path) -> None:
    """Writes the suspect nodes as a model of their own, with what they read and what they should give.

    Where the optimiser is at fault, the nodes are the artifact's own: those that it makes the wrong one of.

    Args:
        found: the words of the finding.
        folder: it is made; files of the same names are replaced.
    """
    cut = _from(scene, suspect, golden.Reader(reference))
    known = {name: cut.given[name] for name in cut.given if name in suspect.known}
    model = graphs.cut(cut.model, known, [suspect.value])
    feeds = {**cut.feeds, **{f"given/{name}": cut.eager(name) for name in known}}
    inputs = _named_plainly(model, feeds)
    expected = cut.eager(suspect.value)
    if str(expected.dtype) == _NARROW:
        _cast_output(model)
        expected = expected.astype(np.float32)
    for node in model.graph.all_nodes():
        node.metadata_props.pop(_PRIVATE, None)
    folder.mkdir(parents=True, exist_ok=True)
    ir.save(model, folder / "model.onnx")
    np.savez(folder / "inputs.npz", **inputs)  # type: ignore[arg-type]  # numpy 2.4 takes every keyword for allow_pickle
    np.savez(folder / "expected.npz", expected=expected)
    place = suspect.nodes[0]
    title = f"{place.op} ({place.name or place.outputs[0]}) gives other values than PyTorch."
    (folder / "run.py").write_text(_SCRIPT.format(title=title, found=found.replace("\\", "\\\\").replace('"""', "'''")))


def _from(scene: Scene, suspect: Suspect, known: golden.Reader) -> Cut:
    """Cuts the artifact itself where it holds the values of an optimised graph, else the searched model."""
    if suspect.optimiser:
        cut = cut_at(scene, suspect.case, graphs.load(scene.folder / scene.artifact.files[0]), known)
        inputs = {spec.name for spec in scene.network.inputs}
        if {suspect.value, *(name for name in suspect.known if name not in inputs)} <= set(cut.given):
            return cut
    return cut_at(scene, suspect.case, graphs.load(suspect.file), known, suspect.unfolded)


def _named_plainly(model: ir.Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Gives the model's inputs the names of their values, and types that numpy has; returns their arrays."""
    arrays: dict[str, Array] = {}
    for value in list(model.graph.inputs):
        array = feeds[str(value.name)]
        value.name = str(value.name).removeprefix("given/")
        value.shape = ir.Shape(array.shape)
        if str(array.dtype) == _NARROW:
            array = array.astype(np.float32)
            _cast_input(model, value)
        arrays[value.name] = array
    return arrays


def _cast_input(model: ir.Model, value: ir.Value) -> None:
    wide = ir.Value(name=value.name, shape=value.shape, type=ir.TensorType(ir.DataType.FLOAT))
    cast = ir.Node("", "Cast", [wide], [ir.AttrInt64("to", ir.DataType.BFLOAT16)], num_outputs=1)
    cast.outputs[0].name, cast.outputs[0].type = f"{value.name}_narrow", value.type
    value.replace_all_uses_with(cast.outputs[0])
    model.graph.inputs[model.graph.inputs.index(value)] = wide
    model.graph.insert_before(model.graph[0], cast)


def _cast_output(model: ir.Model) -> None:
    value = model.graph.outputs[0]
    cast = ir.Node("", "Cast", [value], [ir.AttrInt64("to", ir.DataType.FLOAT)], num_outputs=1)
    cast.outputs[0].name, cast.outputs[0].type = f"{value.name}_wide", ir.TensorType(ir.DataType.FLOAT)
    model.graph.append(cast)
    model.graph.outputs[0] = cast.outputs[0]

"""An artifact cut at the values whose reference is known, and runs of it on those references. Needs no torch."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from exportkit import evidence, golden, graphs
from exportkit.backends.onnxruntime import bare_session, run_session
from exportkit.errors import RunError
from exportkit.evidence import Sample
from exportkit.messages import Gap, Scene
from exportkit.spec import Measurement
from exportkit.worker import report

Array = NDArray[Any]

_INLINE = 1_500_000_000  # bytes of weights; protobuf ends at 2 GiB


@dataclass(frozen=True, slots=True)
class Cut:
    """A model, and the references of its values.

    Attributes:
        keys: value -> the reference's name of it.
        given: the values that are known, and their types.
        feeds: the arrays of the graph's own inputs.
    """

    model: ir.Model
    keys: Mapping[str, str]
    given: Mapping[str, ir.DataType]
    feeds: Mapping[str, Array]
    known: golden.Reader | None = None

    def eager(self, name: str) -> Array:
        assert self.known is not None
        return self.known.read(f"eager/{self.keys[name]}")

    def sample(self, name: str) -> Sample:
        assert self.known is not None
        key = self.keys[name]
        eager, names = self.eager(name), set(self.known.names())
        local = self.known.read(f"local/{key}") if f"local/{key}" in names else eager
        moved = tuple(self.known.read(one) for number in range(9) if (one := f"moved/{key}/{number}") in names)
        return Sample(key, eager, local if local.shape == eager.shape else eager, moved)


def recorded_in(known: golden.Reader) -> set[str]:
    """Lists the values whose reference a file holds."""
    return {key.removeprefix("eager/") for key in known.names() if key.startswith("eager/")}


def inputs_of(scene: Scene, case: str) -> dict[str, Array]:
    """Reads the network's inputs on a case."""
    return read_case(scene, case, "input")


def read_case(scene: Scene, case: str, kind: str) -> dict[str, Array]:
    """Reads the arrays of a case that are there: "input" by input, "eager", "oracle" or "undetermined" by output."""
    arrays = scene.trial.arrays
    reader = golden.Reader(arrays / f"{case}.safetensors" if arrays.is_dir() else arrays)
    specs = scene.network.inputs if kind == "input" else scene.network.outputs
    names = set(reader.names())
    return {spec.name: reader.read(key) for spec in specs if (key := f"{case}/{kind}/{spec.name}") in names}


def passes(scene: Scene, case: str, results: Mapping[str, Array]) -> bool:
    """Judges the results of one case as the gate does."""
    return distance(scene, case, results) <= 1.0


def distance(scene: Scene, case: str, results: Mapping[str, Array]) -> float:
    """Returns the largest measurement of a case as a multiple of its limit; infinite where integers, shapes or NaN patterns differ."""
    eager, oracle, loose = (read_case(scene, case, kind) for kind in ("eager", "oracle", "undetermined"))
    worst = 0.0
    for name, result in results.items():
        sample = Sample(case, eager[name], oracle.get(name, eager[name]), (), loose.get(name))
        found, errors = evidence.measure(name, scene.trial.budgets[name], sample, result)
        found += evidence.measure_all(name, [errors] if errors else [])
        worst = max([worst, *(_share(one) for one in found)])
    return worst


def _share(one: Measurement) -> float:
    if one.limit:
        return np.inf if np.isnan(one.value) else one.value / one.limit
    return 0.0 if one.passed else np.inf


def cut_at(scene: Scene, case: str, model: ir.Model, known: golden.Reader, unfolded: Sequence[tuple[str, str, int]] = ()) -> Cut:
    """Cuts a model at its known values; the bodies in `unfolded` stand in the main graph, at the step that is named."""
    recorded = recorded_in(known)
    keys = {name: name for name in recorded}
    feeds, prefix = inputs_of(scene, case), ""
    for value, attribute, step in unfolded:
        node = graphs.written(model.graph)[value].producer()
        assert node is not None
        prefix += f"{graphs.torch_node(node)}/{step}/"
        model, inputs, names = graphs.unfold(model, value, attribute)
        keys |= {name: prefix + torch for name, torch in names.items() if prefix + torch in recorded}
        if node.op_type == "Loop":
            feeds |= dict(zip(inputs[:2], (np.array(step), np.array(1, bool)), strict=True))
        for place, name in enumerate(inputs[2 if node.op_type == "Loop" else 0 :]):
            if f"{prefix}#{place}" in recorded:
                feeds[name] = known.read(f"eager/{prefix}#{place}")
    given = {}
    for name, written in graphs.written(model.graph).items():
        if name in keys:
            dtype = ir.DataType.from_numpy(known.read(f"eager/{keys[name]}").dtype)
            if written.dtype in (None, dtype):
                given[name] = dtype
    return Cut(model, keys, given, feeds, known)


def prefix_of(cut: Cut, unfolded: Sequence[tuple[str, str, int]]) -> str:
    values = graphs.written(cut.model.graph)
    words = []
    for value, _, step in unfolded:
        node = values[value].producer()
        assert node is not None
        words.append(f"{graphs.torch_node(node)}/{step}/")
    return "".join(words)


def run_all(scene: Scene, cut: Cut, wanted: Sequence[str]) -> Iterator[tuple[str, Array | Gap]]:
    """Computes values in one run; where that fails, in two halves, down to the one that does not run."""
    if not wanted:
        return
    try:
        yield from run(scene, cut, wanted).items()
    except RunError as error:
        if len(wanted) == 1:
            yield wanted[0], Gap(np.inf, text=f"does not come out: {error.what}")
            return
        half = len(wanted) // 2
        yield from run_all(scene, cut, wanted[:half])
        yield from run_all(scene, cut, wanted[half:])


def run(scene: Scene, cut: Cut, wanted: Sequence[str]) -> dict[str, Array]:
    """Runs a cut model, without optimisations: a node is to do what it says."""
    report(f"running {scene.artifact.files[0]} cut at {len(cut.given)} values")
    model = graphs.cut(cut.model, cut.given, wanted)
    taken = {value.name for value in model.graph.inputs}
    arrays = {f"given/{name}": cut.eager(name) for name in cut.given if f"given/{name}" in taken}
    with opened(model, scene) as session:
        return run_session(session, {**cut.feeds, **arrays}, wanted)


@contextlib.contextmanager
def opened(model: ir.Model, scene: Scene) -> Iterator[Any]:
    """Opens a model made here; a large one goes through a file, as protobuf ends at 2 GiB."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    if size <= _INLINE:
        yield bare_session(ir.to_proto(model).SerializeToString(), scene.runtime, optimised=False)
        return
    with tempfile.TemporaryDirectory(dir=scene.scratch) as folder:
        ir.save(model, Path(folder) / "cut.onnx", external_data="cut.onnx.data")
        yield bare_session(Path(folder) / "cut.onnx", scene.runtime, optimised=False)

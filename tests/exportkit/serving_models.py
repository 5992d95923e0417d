"""Models for servers under test; `python serving_models.py FOLDER {OPTIONS}` serves them without a check, which some cannot pass."""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exportkit import manifest
from exportkit.spec import Artifact, Network, Runtime, Source, Symbol, TensorSpec

KINDS = {
    "bool": TensorProto.BOOL, "int8": TensorProto.INT8, "int16": TensorProto.INT16, "int32": TensorProto.INT32, "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8, "uint16": TensorProto.UINT16, "uint32": TensorProto.UINT32, "uint64": TensorProto.UINT64,
    "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16, "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE,
    "object": TensorProto.STRING,
}  # fmt: skip
WIDTH = 4


def write(folder, name, inputs, outputs, nodes, constants=(), rows="", high=None):
    """Writes one model; inputs and outputs are {name: (dtype, shape)}, a shape's first axis is "batch" or a number."""
    folder = Path(folder) / name
    folder.mkdir(parents=True)
    ports = [[helper.make_tensor_value_info(key, KINDS[kind], shape) for key, (kind, shape) in one.items()] for one in (inputs, outputs)]
    graph = helper.make_graph(nodes, name, *ports, [numpy_helper.from_array(value, key) for key, value in constants])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / f"{name}.onnx")
    specs = [tuple(TensorSpec(key, kind, tuple(shape)) for key, (kind, shape) in one.items()) for one in (inputs, outputs)]
    places = tuple((key, 0, 0) for key, (_, shape) in inputs.items() if shape[:1] == ["batch"])
    symbols = (Symbol("batch", places, 2, high=high),) if places else ()
    network = Network(name, specs[0], {}, Source("", "", "", ""), symbols, specs[1])
    artifact = Artifact("onnx", (f"{name}.onnx",), "exported", *specs, {"operators": {one.op_type: 1 for one in nodes}}, rows)
    data = {"schema": 1, "network": manifest.as_json(network), "formats": {"onnx": {"artifact": manifest.as_json(artifact)}}}
    (folder / "manifest.json").write_text(json.dumps(data))
    return folder


def same(folder, kind):
    """Gives back what it gets."""
    port = (kind, ["batch", WIDTH])
    return write(folder, f"same_{kind}", {"x": port}, {"y": port}, [helper.make_node("Identity", ["x"], ["y"])])


def double(folder, rows="batch", name="double"):
    """Twice its input."""
    port = ("float32", ["batch", WIDTH])
    return write(folder, name, {"x": port}, {"y": port}, [helper.make_node("Add", ["x", "x"], ["y"])], rows=rows)


def centred(folder):
    """Its input, centred over the batch: rows touch, whoever says they do not."""
    port = ("float32", ["batch", WIDTH])
    nodes = [helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=1), helper.make_node("Sub", ["x", "m"], ["y"])]
    return write(folder, "centred", {"x": port}, {"y": port}, nodes, [("axes", np.int64([0]))])


def several(folder):
    """Two inputs of different types, three outputs."""
    inputs = {"a": ("float32", ["batch", WIDTH]), "b": ("int64", ["batch"])}
    outputs = {"sum": ("float32", ["batch", WIDTH]), "next": ("int64", ["batch"]), "same": ("float32", ["batch", WIDTH])}
    nodes = [
        helper.make_node("Add", ["a", "a"], ["sum"]),
        helper.make_node("Add", ["b", "one"], ["next"]),
        helper.make_node("Identity", ["a"], ["same"]),
    ]
    return write(folder, "several", inputs, outputs, nodes, [("one", np.int64([1]))], rows="batch")


def lookup(folder):
    """A table's rows: an index beyond it ends the run."""
    nodes = [helper.make_node("Gather", ["table", "x"], ["y"])]
    table = [("table", np.arange(8, dtype=np.float32).reshape(4, 2))]
    return write(folder, "lookup", {"x": ("int64", ["batch"])}, {"y": ("float32", ["batch", 2])}, nodes, table, rows="batch")


def slow(folder, steps=60, size=256, rows="batch"):
    """Many products of matrices."""
    weights = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32) / size**0.5
    nodes = [
        helper.make_node("MatMul", [f"h{step}" if step else "x", "w"], [f"h{step + 1}" if step + 1 < steps else "y"])
        for step in range(steps)
    ]
    port = ("float32", ["batch", size])
    return write(folder, "slow", {"x": port}, {"y": port}, nodes, [("w", weights)], rows=rows)


def counting(folder):
    """Counts up to x, one by one: a value says how long that takes."""
    number, truth = TensorProto.INT64, TensorProto.BOOL
    ports = [helper.make_tensor_value_info(key, kind, []) for key, kind in (("i", number), ("go", truth), ("n", number))]
    gives = [helper.make_tensor_value_info(key, kind, []) for key, kind in (("on", truth), ("more", number))]
    nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["n", "one"], ["more"])]
    body = helper.make_graph(nodes, "body", ports, gives)
    loop = [helper.make_node("Loop", ["x", "", "zero"], ["y"], body=body)]
    constants = [("zero", np.int64(0)), ("one", np.int64(1))]
    return write(folder, "counting", {"x": ("int64", [])}, {"y": ("int64", [])}, loop, constants)


def limited(folder):
    """Takes at most three rows."""
    port = ("float32", ["batch", WIDTH])
    return write(folder, "limited", {"x": port}, {"y": port}, [helper.make_node("Identity", ["x"], ["y"])], high=3)


def all_of(folder):
    made = [double(folder), centred(folder), several(folder), lookup(folder), slow(folder), limited(folder), counting(folder)]
    return [*made, *(same(folder, kind) for kind in KINDS)]


def load(folder):
    from exportkit.serving import models

    return models.load(folder, json.loads((folder / "manifest.json").read_text()), Runtime())


def reload(folder):
    """Takes as long as a check would."""
    time.sleep(0.2)
    return load(folder)


def main(folder, words):
    from exportkit.serving import server
    from exportkit.serving.journal import Journal
    from exportkit.serving.options import Options

    made = all_of(folder) if not any(Path(folder).iterdir()) else sorted(Path(folder).iterdir())
    options = Options(**{"http_port": 0, "grpc_port": 0, "drain": 0.3, **json.loads(words)})
    return server.run([load(one) for one in made], reload if options.allow_reload else None, options, Journal())


def fake(run, rows="batch", names=("x",)):
    """A model for queues alone, whose run is a function of inputs."""
    return SimpleNamespace(name="fake", rows=rows, device="cpu", steady=True, run=run, inputs=names)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))

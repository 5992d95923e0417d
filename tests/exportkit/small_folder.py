"""A published folder made by hand in milliseconds: y = 1.5 x + 0.1 and m = 3 n, along a batch of any size."""

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exportkit import evidence, golden, manifest, store
from exportkit.evidence import Sample
from exportkit.manifest import Made
from exportkit.spec import Artifact, Case, Measurement, Network, Report, Source, Symbol, TensorSpec

SIZES = {"like-0": 2, "like-1": 2, "sizes-0": 1, "sizes-1": 7, "sizes-2": 11}
INPUTS = (TensorSpec("x", "float32", ("batch", 3)), TensorSpec("n", "int64", ("batch", 1)))
OUTPUTS = (TensorSpec("y", "float32", ("batch", 3)), TensorSpec("m", "int64", ("batch", 1)))
SYMBOL = Symbol("batch", (("x", 0, 0), ("n", 0, 0)), 2)


def compute(x, n):
    return {"y": np.float32(1.5) * x + np.float32(0.1), "m": 3 * n}


def graph(name, inputs, outputs):
    values = {"scale": np.float32(1.5), "shift": np.float32(0.1), "three": np.int64(3)}
    constants = [numpy_helper.from_array(np.array(value), key) for key, value in values.items()]
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["y"]),
        helper.make_node("Mul", ["n", "three"], ["m"]),
    ]
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    takes, gives = ([helper.make_tensor_value_info(s.name, kinds[s.dtype], s.shape) for s in specs] for specs in (inputs, outputs))
    model = helper.make_model(helper.make_graph(nodes, name, takes, gives, constants), opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    return model


def write(parent, name="net", rows="batch", *, external=False, rank=2):
    """Publishes PARENT/NAME.

    Args:
        rows: the symbol along which the manifest says that rows are independent; "" for none.
        external: the weights lie beside the graph.
        rank: that of n and m; with 1 they have no axis but the batch.
    """
    takes, gives = ((specs[0], replace(specs[1], shape=specs[1].shape[:rank])) for specs in (INPUTS, OUTPUTS))
    samples = {spec.name: [] for spec in gives}
    cases, arrays = [], {}
    for seed, (case, size) in enumerate(SIZES.items()):
        draw = np.random.default_rng(seed)
        inputs = {"x": draw.standard_normal((size, 3)).astype(np.float32), "n": draw.integers(0, 9, (size, 1)[:rank])}
        eager = compute(**inputs)
        oracle = {"y": 1.5 * inputs["x"].astype(np.float64) + np.float64(np.float32(0.1))}
        cases.append(Case(case, {"batch": size}, "like", "inside", seed))
        for kind, values in (("input", inputs), ("eager", eager), ("oracle", oracle)):
            arrays |= {f"{case}/{kind}/{key}": value for key, value in values.items()}
        for key, some in samples.items():
            some.append(Sample(case, eager[key], oracle.get(key, eager[key]), ()))
    budgets = {spec.name: evidence.weigh(samples[spec.name], spec.dtype) for spec in gives}
    network = Network(name, takes, {"leaf": "x"}, Source("net.py", "model", "", ""), (SYMBOL,), gives, {"leaf": "y"})
    files = (f"{name}.onnx", *([f"{name}.onnx.data"] if external else []))
    artifact = Artifact("onnx", files, "exported", takes, gives, {"opset": 18}, rows)
    report = Report(name, artifact, "onnxruntime", "cpu", (Measurement("all", "y", "rms", 0.0, 1.0),))
    told = {"file": manifest.GOLDEN, "left_out": {}, "dropped": 0, "raising": {}, "accept": {}}
    data = manifest.compose(network, [Made("onnx", artifact, (report,))], cases, budgets, told, ())
    with store.stage(parent, name) as staging:
        options = {"save_as_external_data": True, "location": files[-1], "size_threshold": 0} if external else {}
        onnx.save(graph(name, takes, gives), staging.folder / files[0], **options)
        golden.write(staging.folder / manifest.GOLDEN, arrays)
        return staging.publish(data, {})

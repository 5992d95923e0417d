"""onnxruntime runs the graph on the provider asked for, by name, in little memory, and says what stands in the way."""

import dataclasses
import subprocess
import sys

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exportkit import plugins
from exportkit.backends.onnxruntime import devices
from exportkit.errors import RunError
from exportkit.spec import Artifact, Network, Source, TensorSpec

OPSET = [helper.make_opsetid("", 19), helper.make_opsetid("custom", 1)]
FLOAT = TensorProto.FLOAT


def value(name, dtype=FLOAT, shape=("n",)):
    return helper.make_tensor_value_info(name, dtype, shape)


def load(folder, nodes, inputs, outputs, initializers=(), *, network=None, device="cpu", **options):
    """Writes a graph and loads it for a network whose inputs and outputs are those of the graph, unless named otherwise."""
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    onnx.save(helper.make_model(graph, opset_imports=OPSET, ir_version=10), folder / "net.onnx")
    names = network or ([one.name for one in inputs], [one.name for one in outputs])
    specs = [tuple(TensorSpec(name, "float32", ("n",)) for name in side) for side in names]
    told = Network("net", specs[0], {}, Source("net.py", "model", "", ""), outputs=specs[1])
    backend = dataclasses.replace(plugins.load("backends", "onnxruntime"), **options)
    return backend.load(folder, Artifact("onnx", ("net.onnx",), "plain"), told, device)


def test_values_go_in_and_come_out_by_name(tmp_path):
    nodes = [helper.make_node("Sub", ["a", "b"], ["less"]), helper.make_node("Add", ["a", "b"], ["more"])]
    session = load(tmp_path, nodes, [value("a"), value("b")], [value("less"), value("more")], network=(["b", "a"], ["more", "less"]))
    more, less = session({"b": np.float32([1, 2]), "a": np.float32([5, 5])})
    assert more.tolist() == [6, 7]
    assert less.tolist() == [4, 3]


def test_facts_tell_the_provider_and_where_each_node_ran(tmp_path):
    nodes = [helper.make_node("Sin", ["x"], ["h"]), helper.make_node("Cos", ["h"], ["y"])]
    facts = load(tmp_path, nodes, [value("x")], [value("y")]).facts
    assert facts["providers"] == ["CPUExecutionProvider"]
    assert facts["placement"] == {"CPUExecutionProvider": {"Cos": 1, "Sin": 1}}
    assert set(facts["versions"]) == {"onnxruntime"}


RELU = [helper.make_node("Relu", ["x"], ["y"], name="node_relu")]


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ((["x", "unused"], ["y"]), "lacks the network's input unused"),
        (([], ["y"]), "has an input x that the network lacks"),
        ((["x"], ["y", "state"]), "lacks the network's output state"),
        ((["x"], ["logits"]), "has an output y that the network lacks"),
    ],
)
def test_a_graph_with_other_inputs_or_outputs_is_refused_by_name(tmp_path, network, words):
    with pytest.raises(RunError, match=words):
        load(tmp_path, RELU, [value("x")], [value("y")], network=network)


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float16", "uint16", "uint64", "bool"])
def test_every_element_type_passes_bit_for_bit(tmp_path, dtype, shape):
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    number = helper.np_dtype_to_tensor_dtype(kind)
    node = helper.make_node("Identity", ["x"], ["y"])
    session = load(tmp_path, [node], [value("x", number, [None] * len(shape))], [value("y", number, [None] * len(shape))])
    x = np.random.default_rng(0).integers(0, 2, shape).astype(kind)
    [y] = session({"x": x})
    assert (y.dtype, y.shape) == (kind, shape)
    assert y.tobytes() == x.tobytes()


def test_a_transposed_input_keeps_its_elements_in_place(tmp_path):
    session = load(tmp_path, RELU, [value("x", shape=("a", "b"))], [value("y", shape=("a", "b"))])
    x = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert session({"x": x})[0].tolist() == x.tolist()


def test_an_error_at_run_names_the_node_its_operator_and_the_reason(tmp_path):
    weights = helper.make_tensor("w", FLOAT, [5], [1.0] * 5)
    node = helper.make_node("Gather", ["w", "i"], ["y"], name="node_gather")
    session = load(tmp_path, [node], [value("i", TensorProto.INT64)], [value("y")], [weights])
    with pytest.raises(RunError) as told:
        session({"i": np.int64([7])})
    reason = "indices element out of data bounds, idx=7 must be within the inclusive range [-5,4]"
    assert str(told.value) == f"onnxruntime stops at node node_gather (Gather): {reason}"


def test_an_error_inside_a_loop_names_the_innermost_node(tmp_path):
    body_nodes = [helper.make_node("Gather", ["w", "step"], ["one"], name="inner"), helper.make_node("Identity", ["go"], ["go_on"])]
    body = helper.make_graph(
        body_nodes,
        "body",
        [value("step", TensorProto.INT64, []), value("go", TensorProto.BOOL, [])],
        [value("go_on", TensorProto.BOOL, []), value("one", FLOAT, [])],
    )
    node = helper.make_node("Loop", ["count", ""], ["y"], name="outer", body=body)
    weights = helper.make_tensor("w", FLOAT, [2], [1.0, 2.0])
    session = load(tmp_path, [node], [value("count", TensorProto.INT64, [])], [value("y")], [weights])
    assert session({"count": np.array(2)})[0].tolist() == [1, 2]
    with pytest.raises(RunError, match=r"node inner \(Gather\)"):
        session({"count": np.array(3)})


def test_paths_of_the_machine_that_built_onnxruntime_are_left_out(tmp_path):
    node = helper.make_node("Reshape", ["x", "shape"], ["y"], name="node_view")
    session = load(tmp_path, [node], [value("x"), value("shape", TensorProto.INT64)], [value("y", FLOAT, None)])
    with pytest.raises(RunError) as told:
        session({"x": np.ones(6, np.float32), "shape": np.int64([5])})
    assert str(told.value).startswith("onnxruntime stops at node node_view (Reshape): ")
    assert "cannot be reshaped" in str(told.value)
    assert "/" not in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("nodes", "inputs", "words"),
    [
        ([helper.make_node("Foo", ["x"], ["y"], domain="custom")], [value("x")], "does not know the operator custom:Foo"),
        ([helper.make_node("Erf", ["x"], ["y"], name="node_erf")], [value("x", TensorProto.UINT16)], r"Erf.*node_erf"),
        ([helper.make_node("Add", ["x", "i"], ["y"], name="node_add")], [value("x"), value("i", 7)], r"node node_add \(Add\)"),
    ],
)
def test_a_graph_that_onnxruntime_refuses_names_the_operator(tmp_path, nodes, inputs, words):
    with pytest.raises(RunError, match=words):
        load(tmp_path, nodes, inputs, [value("y", inputs[0].type.tensor_type.elem_type)])


def test_an_input_of_another_type_is_a_fault_not_a_cast(tmp_path):
    session = load(tmp_path, RELU, [value("x")], [value("y")])
    with pytest.raises(RunError, match=r"tensor\(double\)"):
        session({"x": np.ones(2)})


def test_a_missing_library_of_custom_operators_is_named(tmp_path):
    with pytest.raises(RunError, match=r"libnone\.so: the library of custom operators is missing"):
        load(tmp_path, RELU, [value("x")], [value("y")], ort_library="libnone.so")


@pytest.mark.skipif("cuda" in devices(), reason="this machine has the GPU")
def test_cuda_that_cannot_run_is_a_failure_and_not_a_silent_cpu_run(tmp_path, capfd):
    with pytest.raises(RunError, match="cuda was asked for"):
        load(tmp_path, RELU, [value("x")], [value("y")], device="cuda")
    assert capfd.readouterr().out == ""


@pytest.mark.cuda
@pytest.mark.skipif("cuda" not in devices(), reason="needs a GPU and onnxruntime's CUDA provider")
def test_cuda_runs_the_nodes_in_full_precision(tmp_path):
    node = helper.make_node("MatMul", ["x", "z"], ["y"])
    sides = [value("x", shape=("a", "b")), value("z", shape=("b", "c"))]
    session = load(tmp_path, [node], sides, [value("y", shape=("a", "c"))], device="cuda")
    assert session.facts["placement"] == {"CUDAExecutionProvider": 1}
    x, z = np.random.default_rng(0).standard_normal((2, 256, 256)).astype(np.float32)
    assert np.abs(session({"x": x, "z": z})[0] - x.astype(np.float64) @ z).max() < 1e-4  # TF32 would be 1e-2 off


def test_the_cpu_is_always_there():
    assert devices()[0] == "cpu"


def test_an_onnx_check_imports_no_torch(tmp_path):
    load(tmp_path, RELU, [value("x")], [value("y")])
    code = f"""
import sys; sys.modules["torch"] = None
from pathlib import Path
from exportkit import plugins
from exportkit.spec import Artifact, Network, Source, TensorSpec
x, y = (TensorSpec(name, "float32", ("n",)) for name in "xy")
network = Network("net", (x,), {{}}, Source("net.py", "model", "", ""), outputs=(y,))
session = plugins.load("backends", "onnxruntime").load(Path({str(tmp_path)!r}), Artifact("onnx", ("net.onnx",), ""), network, "cpu")
import numpy as np
print(session({{"x": np.float32([-1, 2])}})[0].tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[0.0, 2.0]", done.stderr


@pytest.mark.parametrize("transposed", [False, True])
def test_a_gibibyte_of_weights_needs_little_more_than_a_gibibyte(tmp_path, transposed):
    side = 1 << 14
    weights = TensorProto(name="w", data_type=FLOAT, dims=[side, side], data_location=TensorProto.EXTERNAL)
    for key, text in (("location", "net.onnx.data"), ("offset", "0"), ("length", str(4 * side * side))):
        weights.external_data.add(key=key, value=text)
    with (tmp_path / "net.onnx.data").open("wb") as data:
        data.truncate(4 * side * side)  # zeros that take no room on the disk, but all of it in memory
    first = [helper.make_node("Transpose", ["w"], ["v"], perm=[1, 0])] if transposed else []
    nodes = [*first, helper.make_node("MatMul", ["x", "v" if transposed else "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", [value("x", shape=("n", side))], [value("y", shape=("n", side))], [weights])
    onnx.save(helper.make_model(graph, opset_imports=OPSET, ir_version=10), tmp_path / "net.onnx")
    code = f"""
import numpy as np
from pathlib import Path
from exportkit import plugins
from exportkit.spec import Artifact, Network, Source, TensorSpec
x, y = (TensorSpec(name, "float32", ("n", {side})) for name in "xy")
network = Network("net", (x,), {{}}, Source("net.py", "model", "", ""), outputs=(y,))
artifact = Artifact("onnx", ("net.onnx", "net.onnx.data"), "plain")
session = plugins.load("backends", "onnxruntime").load(Path({str(tmp_path)!r}), artifact, network, "cpu")
for rows in (1, 8):
    assert not session({{"x": np.ones((rows, {side}), np.float32)}})[0].any()
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout) / 1024  # MiB
    assert peak <= 1.25 * 1024 + 600
    assert peak <= 1.25 * 1024, "a second copy of the weights"

"""What a report says of the other ways in which deployments run an artifact."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from onnx import TensorProto, helper

from exportkit import ways
from exportkit.attempts import in_other_ways
from exportkit.errors import CrashError, RunError
from exportkit.spec import Artifact, Finding, Measurement, Report, Runtime
from exportkit.ways import CUDA_GRAPH, TF32
from exportkit.worker import Limits

ARTIFACT = Artifact("onnx", ("net.onnx",), "exported")


def report(value=1.0, *findings):
    measured = (Measurement("all cases", "y", "rms error / eager's", value, 3.0), Measurement("like-0", "y", "shape and dtype", 0.0, 0.0))
    return Report("net", ARTIFACT, "onnxruntime", "cuda", measured, findings, differences={"y": {"times_eager_rms": value}})


def measured(**told):
    names = {"tf32": TF32, "graph": CUDA_GRAPH}
    return ways.measure(report(), {names[name]: lambda one=one: one for name, one in told.items()}, lambda session: session)


def test_numbers_with_tf32_stand_beside_the_verdict_and_do_not_change_it():
    verdict = measured(tf32=report(412.0))
    assert verdict.outcome == "passed"
    assert verdict.facts["ways"][TF32] == {"outcome": "failed", "differences": {"y": {"times_eager_rms": 412.0}}}
    (note,) = verdict.findings
    assert note.severity == "note"
    assert note.text == (
        "proven without TF32; with it, onnxruntime's default on CUDA, y is outside of them: rms error / eager's is 412, the limit is 3"
    )
    assert "all outputs are within the limits" in measured(tf32=report(1.5)).findings[0].text


def test_a_cuda_graph_that_computes_something_else_is_a_warning():
    verdict = measured(graph=report(50.0))
    assert (verdict.outcome, verdict.findings[0].code) == ("passed with warnings", "cuda-graph")
    assert measured(graph=report()).outcome == "passed"
    stopped = measured(graph=report(1.0, Finding("error", "does-not-run", "does not run on like-1")))
    assert "does not run on like-1" in stopped.findings[0].text


def test_a_way_that_the_runtime_refuses_is_recorded_and_no_fault():
    def refuse():
        raise RunError("the model has control flow nodes")

    verdict = ways.measure(report(), {CUDA_GRAPH: refuse}, lambda session: session)
    assert (verdict.outcome, verdict.findings) == ("passed", ())
    assert verdict.facts["ways"] == {CUDA_GRAPH: {"refused": "the model has control flow nodes"}}


def server(error=None):
    def run(function, reports, *_, **__):
        if error:
            raise error
        return tuple(replace(one, facts={"ways": {}}) for one in reports)

    return SimpleNamespace(run=run)


@pytest.mark.parametrize(("device", "value", "asked"), [("cuda", 1.0, True), ("cpu", 1.0, False), ("cuda", 50.0, False)])
def test_only_what_is_proven_on_cuda_is_run_otherwise(device, value, asked):
    judged = (Path(), ARTIFACT, None, Runtime(device), None)
    (told,) = in_other_ways((report(value),), judged, server(), Limits(), print)
    assert ("ways" in told.facts) is asked


def test_a_process_that_dies_of_another_way_is_told_and_the_verdict_lives():
    judged = (Path(), ARTIFACT, None, Runtime("cuda"), None)
    (told,) = in_other_ways((report(),), judged, server(CrashError("segmentation fault")), Limits(), print)
    assert (told.outcome, told.findings[0].code) == ("passed with warnings", "other-ways")
    assert "segmentation fault" in told.findings[0].text
    assert told.measurements == report().measurements


RUN = """
import json
from pathlib import Path
import numpy as np
from exportkit.backends.onnxruntime import OnnxRuntime
from exportkit.errors import RunError
from exportkit.spec import Artifact, Network, Source, TensorSpec

shape = {shape}
x, y = (TensorSpec(name, "float32", shape) for name in "xy")
network = Network("net", (x,), {{}}, Source("net.py", "", "", ""), (), (y,))
loading = Path(), Artifact("onnx", ("net.onnx",), "plain", (x,), (y,)), network, "cuda"
session = OnnxRuntime().load(*loading)
told = {{"plain": session.session.get_provider_options()["CUDAExecutionProvider"]}}
inputs = {{"x": np.ones((2, 2), np.float32)}}
shapes = [list(one.shape) for one in session(inputs)]
for name, load in OnnxRuntime().ways(*loading).items():
    try:
        other = load()
        told[name] = other.session.get_provider_options()["CUDAExecutionProvider"]
        shapes += [list(one.shape) for _ in range(3) for one in other(inputs)]
    except RunError as error:
        told[name] = error.what
print(json.dumps([told, shapes]))
"""


F, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def info(name, kind=F, shape=(2, 2)):
    return helper.make_tensor_value_info(name, kind, shape)


def save(folder, nodes, shape):
    ends = [info(name, F, shape) for name in "xy"]
    yes, count = (helper.make_tensor(name, kind, [], [1]) for name, kind in (("yes", BOOL), ("count", I64)))
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [yes, count])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "net.onnx")


@pytest.mark.parametrize(("shape", "graph"), [([2, 2], True), (["n", 2], False)])
def test_onnxruntime_takes_tf32_and_for_fixed_shapes_a_cuda_graph(tmp_path, hollow_cuda, shape, graph):
    save(tmp_path, [helper.make_node("MatMul", ["x", "x"], ["h"]), helper.make_node("Relu", ["h"], ["y"])], shape)
    told, shapes = json.loads(hollow_cuda(RUN.format(shape=tuple(shape)), tmp_path))
    assert told["plain"]["use_tf32"] == "0"
    assert told["plain"]["enable_cuda_graph"] == "0"
    assert (told[TF32]["use_tf32"], told[TF32]["enable_cuda_graph"]) == ("1", "0")
    assert set(map(tuple, shapes)) == {(2, 2)}
    assert (CUDA_GRAPH in told) is graph
    if graph:
        assert (told[CUDA_GRAPH]["use_tf32"], told[CUDA_GRAPH]["enable_cuda_graph"]) == ("0", "1")


def test_a_loop_is_no_cuda_graph_and_onnxruntime_says_so(tmp_path, hollow_cuda):
    step = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["h"], ["r"])]
    ends = [info("i", I64, []), info("go", BOOL, []), info("h")], [info("on", BOOL, []), info("r")]
    body = helper.make_graph(step, "steps", *ends)
    save(tmp_path, [helper.make_node("Loop", ["count", "yes", "x"], ["y"], body=body)], [2, 2])
    told, _ = json.loads(hollow_cuda(RUN.format(shape=(2, 2)), tmp_path))
    assert "control flow" in told[CUDA_GRAPH]

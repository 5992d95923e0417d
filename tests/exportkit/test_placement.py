"""Which nodes CUDA runs, which the CPU, and why: told by onnxruntime's own CUDA provider, on a machine without a GPU."""

import os
import subprocess
import sys

import onnx
import pytest
from onnx import TensorProto, helper

from exportkit import placement

F, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
TRACE = 'File "net.py", line 12, in forward\n    return torch.linalg.det(x)'


def save(folder, nodes, stored=()):
    x, y = helper.make_tensor_value_info("x", F, ["n", 2]), helper.make_tensor_value_info("y", F, None)
    graph = helper.make_graph(nodes, "net", [x], [y], list(stored))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "net.onnx")


def det(source, result):
    """A node that CUDA has no kernel for."""
    made = helper.make_node("Det", [source], [result], name=f"node_{result}")
    made.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=TRACE)
    return made


def test_an_operator_without_a_kernel_is_told_with_the_users_line_and_fails_unless_it_is_allowed(tmp_path, placed_on_cuda):
    save(tmp_path, [helper.make_node("Relu", ["x"], ["h"], name="node_h"), det("h", "y")])
    facts = placed_on_cuda(tmp_path / "net.onnx")
    assert facts["placement"] == {"CUDAExecutionProvider": {"Relu": 1}, "CPUExecutionProvider": {"Det": 1}}
    assert facts["on_cpu"] == [{"node": "node_y", "operator": "Det", "why": "no CUDA kernel", "loop": "", "where": "net.py:12"}]
    (found,) = placement.findings(facts, allowed=False)
    assert (found.severity, found.code, found.where) == ("error", "on-cpu", "net.py:12")
    assert found.text == (
        "Det (node_y) runs on the CPU (no CUDA kernel): the GPU waits for it in each run; "
        "write it with other operators, or allow it with --allow-cpu-nodes"
    )
    (found,) = placement.findings(facts, allowed=True)
    assert found.severity == "warning"
    assert "--allow" not in found.text


def test_what_stands_in_a_loop_is_told_as_such(tmp_path, placed_on_cuda):
    one, many = (helper.make_tensor(name, kind, [], [value]) for name, kind, value in (("yes", BOOL, True), ("count", I64, 3)))
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"], name="node_on"),
            det("h", "d"),
            helper.make_node("Add", ["h", "d"], ["more"], name="add"),
        ],
        "steps",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in (("i", I64, []), ("go", BOOL, []), ("h", F, [2, 2]))],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in (("on", BOOL, []), ("more", F, [2, 2]))],
    )
    save(tmp_path, [helper.make_node("Loop", ["count", "yes", "x"], ["y"], body=body, name="node_loop")], [one, many])
    facts = placed_on_cuda(tmp_path / "net.onnx")
    assert facts["placement"]["CUDAExecutionProvider"]["Loop"] == 1
    on_cpu, copied = placement.findings(facts, allowed=False)
    assert "the GPU waits for it at every step of node_loop" in on_cpu.text
    assert (copied.severity, copied.code) == ("warning", "copies-in-loop")
    assert copied.text == "2 values are copied between GPU and host at every step of node_loop, and the GPU waits"


def test_sizes_that_the_host_computes_are_recorded_and_no_fault(tmp_path, placed_on_cuda):
    zero, minus = (helper.make_tensor(name, I64, [1], [value]) for name, value in (("zero", 0), ("minus", -1)))
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], name="node_s"),
        helper.make_node("Gather", ["s", "zero"], ["rows"], name="node_rows"),
        helper.make_node("Concat", ["rows", "minus"], ["form"], axis=0, name="node_form"),
        helper.make_node("Reshape", ["x", "form"], ["y"], name="node_y"),
    ]
    save(tmp_path, nodes, [zero, minus])
    facts = placed_on_cuda(tmp_path / "net.onnx")
    assert {one["operator"]: one["why"] for one in facts["on_cpu"]} == dict.fromkeys(("Gather", "Concat"), "cheaper on the CPU")
    assert not list(placement.findings(facts, allowed=False))


def test_a_model_of_which_cuda_runs_no_node_is_refused_at_the_users_line(tmp_path, hollow_cuda):
    save(tmp_path, [det("x", "y")])
    code = (
        "from pathlib import Path\n"
        "from exportkit.backends.onnxruntime import OnnxRuntime\n"
        "from exportkit.errors import RunError\n"
        "from exportkit.spec import Artifact, Network, Source, TensorSpec\n"
        "x, y = (TensorSpec(name, 'float32', ()) for name in 'xy')\n"
        "network = Network('net', (x,), {}, Source('net.py', '', '', ''), outputs=(y,))\n"
        "try:\n"
        "    OnnxRuntime().load(Path(), Artifact('onnx', ('net.onnx',), 'plain'), network, 'cuda')\n"
        "except RunError as error:\n"
        "    print(error.where, error.what)\n"
    )
    told = hollow_cuda(code, tmp_path)
    assert told.startswith("net.py:12 the device cuda was asked for, but onnxruntime placed every node on the CPU: Det (node_y) runs")


def test_nodes_without_a_name_are_not_taken_for_each_other(tmp_path, placed_on_cuda):
    zero, minus = (helper.make_tensor(name, I64, [1], [value]) for name, value in (("zero", 0), ("minus", -1)))
    nodes = [
        helper.make_node("Det", ["x"], ["d"]),
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["rows"]),
        helper.make_node("Concat", ["rows", "minus"], ["form"], axis=0),
        helper.make_node("Reshape", ["x", "form"], ["r"]),
        helper.make_node("Add", ["r", "d"], ["y"]),
    ]
    save(tmp_path, nodes, [zero, minus])
    facts = placed_on_cuda(tmp_path / "net.onnx")
    told = {one["operator"]: one["why"] for one in facts["on_cpu"]}
    assert told == {"Det": "no CUDA kernel", "Gather": "cheaper on the CPU", "Concat": "cheaper on the CPU"}
    assert [one.severity for one in placement.findings(facts, allowed=False)] == ["error"]


def test_a_crash_while_the_log_is_read_still_leaves_its_traceback(tmp_path):
    code = "import faulthandler, os\nfrom exportkit import placement\nfaulthandler.enable()\nwith placement.logged():\n    os.abort()\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Fatal Python error: Aborted" in done.stderr


def test_a_reason_that_the_log_does_not_give_is_no_pardon():
    facts = {"on_cpu": [{"node": "a", "operator": "Gelu", "why": "", "loop": "", "where": ""}]}
    (found,) = placement.findings(facts, allowed=False)
    assert found.severity == "error"
    assert "onnxruntime does not say why" in found.text


def test_lines_of_others_still_reach_stderr_while_the_log_is_read(capfd):
    with placement.logged() as log:
        os.write(2, b"somebody else\n")
        os.write(2, b"2026-11-29 10:12:11.2 [I:onnxruntime:, session.cc:7 Load] ready\n")
    assert log == ["2026-11-29 10:12:11.2 [I:onnxruntime:, session.cc:7 Load] ready"]
    assert capfd.readouterr().err == "somebody else\n"


def test_lines_of_others_are_kept_where_loading_fails(capfd):
    with pytest.raises(OSError, match="gone"), placement.logged():
        os.write(2, b"why\n")
        raise OSError("gone")
    assert capfd.readouterr().err == "why\n"


@pytest.mark.parametrize(
    "lead", ["", "\n2026-11-29 10:12:11.2 [I:onnxruntime:, cuda_execution_provider.cc:1 GetCapability] ORT optimization- "]
)
def test_a_nodes_name_cannot_pardon_another_node(tmp_path, placed_on_cuda, lead):
    liar = det("x", "z")
    liar.name = f"{lead}Force fallback to CPU execution for node: node_d because the CPU execution path is deemed faster than overhead"
    save(tmp_path, [helper.make_node("Relu", ["x"], ["h"]), liar, det("h", "d"), helper.make_node("Add", ["z", "d"], ["y"])])
    findings = list(placement.findings(placed_on_cuda(tmp_path / "net.onnx"), allowed=False))
    assert [one.severity for one in findings] == ["error"]
    assert findings[0].text.startswith("2 nodes of Det")

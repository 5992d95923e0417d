"""Exports and checks on CUDA, whole, on a machine without a GPU: of networks that only copy, the hollow CUDA computes all there is."""

import json

import pytest
import torch

pytestmark = pytest.mark.skipif(torch.version.cuda is not None, reason="a torch with CUDA would run eager on the hollow one, too")
COMMAND = """
import sys
from exportkit.cli import main

sys.argv = ["exportkit", *{words!r}]
main()
"""
FLATTENS = """
import torch

class Net(torch.nn.Module):
    def forward(self, x):
        return x.reshape(x.shape[0], -1)

model, example_inputs, dynamic_shapes = Net(), torch.randn(3, 2, 4), {shapes}
"""
DETERMINES = """
import torch

class Net(torch.nn.Module):
    def forward(self, x):
        flat = x.reshape(-1, 2, 2)
        return torch.linalg.det(flat)

model, example_inputs = Net(), torch.randn(3, 4)
"""


def told(hollow_cuda, folder, *words, code=0):
    return json.loads(hollow_cuda(COMMAND.format(words=[*words, "--provider", "cuda", "--json"]), folder, code))


def export(hollow_cuda, folder, text, *words, code=0):
    (folder / "net.py").write_text(text)
    return told(hollow_cuda, folder, "export", "net.py", "--format", "onnx", *words, code=code)


def test_a_verdict_on_cuda_tells_the_device_the_nodes_tf32_and_on_what_eager_ran(tmp_path, hollow_cuda):
    summary = export(hollow_cuda, tmp_path, FLATTENS.format(shapes=None))
    verdict = summary["formats"][0]["verdicts"][0]
    assert (verdict["device"], summary["outcome"]) == ("cuda", "passed")
    assert verdict["facts"]["placement"]["CUDAExecutionProvider"] == {"Reshape": 1, "Shape": 1}
    assert verdict["facts"]["ways"]["TF32"]["outcome"] == "passed"
    notes = {one["code"]: one for one in summary["findings"]}
    assert "eager does not run on cuda" in notes["eager-on-cpu"]["text"]
    data = json.loads((tmp_path / "artifacts/net/manifest.json").read_text())
    assert data["evidence"]["device"] == "cpu"
    assert data["formats"]["onnx"]["reports"][0]["facts"]["on_cpu"] == verdict["facts"]["on_cpu"]
    again = told(hollow_cuda, tmp_path, "check", "artifacts/net")
    assert (again["outcome"], again["formats"][0]["verdicts"][0]["device"]) == ("passed", "cuda")


def test_a_cuda_graph_is_measured_beside_the_verdict(tmp_path, hollow_cuda):
    """The hollow one replays nothing: its results stay those of the first run."""
    summary = export(hollow_cuda, tmp_path, FLATTENS.format(shapes={}))
    assert summary["outcome"] == "passed with warnings"
    warned = [one for one in summary["formats"][0]["verdicts"][0]["findings"] if one["severity"] == "warning"]
    assert [one["code"] for one in warned] == ["cuda-graph"]
    assert warned[0]["text"].startswith("as a CUDA graph it computes something else: output")


def test_a_node_that_cuda_cannot_run_fails_the_export_at_the_users_line_and_passes_with_a_warning_where_it_is_allowed(
    tmp_path, hollow_cuda
):
    summary = export(hollow_cuda, tmp_path, DETERMINES, code=1)
    assert summary["outcome"] == "failed"
    (finding,) = [one for one in summary["formats"][0]["verdicts"][0]["findings"] if one["severity"] == "error"]
    assert (finding["code"], finding["where"]) == ("on-cpu", "net.py:7")
    assert not (tmp_path / "artifacts/net").exists()
    summary = export(hollow_cuda, tmp_path, DETERMINES, "--allow-cpu-nodes")
    assert summary["outcome"] == "passed with warnings"
    assert told(hollow_cuda, tmp_path, "check", "artifacts/net", code=1)["outcome"] == "failed"
    assert told(hollow_cuda, tmp_path, "check", "artifacts/net", "--allow-cpu-nodes")["outcome"] == "passed with warnings"


def test_a_bare_file_that_cuda_cannot_run_whole_is_refused_unless_that_is_allowed(tmp_path, hollow_cuda):
    export(hollow_cuda, tmp_path, DETERMINES, "--allow-cpu-nodes")
    refused = told(hollow_cuda, tmp_path, "check", "artifacts/net/net.onnx", code=1)
    assert "Det" in json.dumps(refused)
    assert told(hollow_cuda, tmp_path, "check", "artifacts/net/net.onnx", "--allow-cpu-nodes")["outcome"] == "runs"

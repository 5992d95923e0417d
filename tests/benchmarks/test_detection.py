"""The benchmark of detection: a good artifact passes, faults seeded into it do not."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from exportkit import load
from exportkit.errors import RunError
from exportkit.load import Given
from exportkit.manifest import Made
from exportkit.spec import Artifact

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import gate
import mutations


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.norm, self.leave = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x):
        return self.leave(torch.relu(self.norm(self.enter(x)))).softmax(-1)


def written(net):
    """Writes the network in ONNX by hand, which takes no exporter and no second."""
    floats = {name: value.detach().numpy() for name, value in net.named_parameters()}
    nodes = [
        helper.make_node("Gemm", ["x", "enter.weight", "enter.bias"], ["entered"], "enter", transB=1),
        helper.make_node("LayerNormalization", ["entered", "norm.weight", "norm.bias"], ["normed"], "norm", epsilon=1e-5),
        helper.make_node("Relu", ["normed"], ["positive"], "relu"),
        helper.make_node("Gemm", ["positive", "leave.weight", "leave.bias"], ["left"], "leave", transB=1),
        helper.make_node("Softmax", ["left"], ["output"], "softmax", axis=-1),
    ]
    x, output = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name, size in (("x", 6), ("output", 3)))
    weights = [numpy_helper.from_array(value, name) for name, value in floats.items()]
    graph = helper.make_graph(nodes, "net", [x], [output], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(scope="module")
def proof(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detection")
    torch.manual_seed(0)
    live = load.hold_object(Given(Net().eval(), torch.randn(2, 6), {"x": {0: "batch"}}), "net")[1]
    gate.train(live.module, 0)
    network, evidence = gate.gather(live, folder / "cases")
    onnx.save(written(live.module), folder / "good.onnx")
    artifact = Artifact("onnx", ("good.onnx",), "by hand")
    return gate.Proof(live, network, evidence, Made("onnx", artifact, (), folder=folder))


def test_the_good_artifact_passes(proof):
    assert gate.judge_file(proof, proof.file).outcome == "passed"


def test_every_seeded_fault_is_caught(proof):
    kinds = set()
    for mutant in mutations.mutants(onnx.load(proof.file), 0, each=1):
        target = proof.file.with_name("mutant.onnx")
        onnx.save(mutant.model, target)
        kinds.add(mutant.kind)
        try:
            report = gate.judge_file(proof, target)
        except RunError:  # an axis that is not there: the runtime refuses it
            continue
        assert report.outcome == "failed", mutant.name
    assert {"weight x1.001", "weight negated", "near relative", "node bypassed", "attribute epsilon", "float16 in the middle"} <= kinds


def test_a_seed_gives_the_same_faults_again(proof):
    model = onnx.load(proof.file)
    one, two, other = ([(m.name, m.model.SerializeToString(deterministic=True)) for m in mutations.mutants(model, s)] for s in (0, 0, 1))
    assert one == two
    assert one != other


def test_a_fault_leaves_the_good_model_as_it_was(proof):
    model = onnx.load(proof.file)
    before = model.SerializeToString(deterministic=True)
    faults = list(mutations.mutants(model, 0))
    assert model.SerializeToString(deterministic=True) == before
    assert len({fault.name for fault in faults}) == len(faults)
    assert {fault.node for fault in faults} <= {"enter", "norm", "relu", "leave", "softmax"}


def test_a_torchscript_fault_changes_one_weight(tmp_path):
    net = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    file = tmp_path / "good.pt"
    torch.jit.save(net, file)
    for kind, name, module in mutations.scripted_mutants(str(file), 0, each=1):
        changed = [key for key, value in net.state_dict().items() if not value.equal(module.state_dict()[key])]
        assert len(changed) == (2 if kind == "weights swapped" else 1), name
        assert np.isfinite(module(torch.ones(1, 4)).detach().numpy()).all()

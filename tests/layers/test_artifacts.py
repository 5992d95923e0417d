"""Every layer as TorchScript, .pt2 and ONNX: exported from one size, run at others, with ragged masks (make test-layers)."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from contract import flat
from subjects import SUBJECTS

from exportkit import pipeline

NETWORK = """
import sys
sys.path.insert(0, {folder!r})
from subjects import named

subject = named({name!r})
model = subject.network()
example_inputs = subject.inputs(subject.sizes[0])
check_inputs = [subject.inputs(sizes, 7) for sizes in subject.sizes[1:]]
"""
pytestmark = pytest.mark.timeout(900)  # a large loop on a busy machine
QUICK = {"linear_chain_crf_decode"}  # in every run: a loop forth and back


def subjects():
    for one in SUBJECTS:
        yield pytest.param(one, id=one.name, marks=[] if one.name in QUICK else [pytest.mark.layers])


# What onnxruntime's CUDA provider cannot run whole, and why.
LEFT_TO_THE_CPU: dict[str, str] = {}
PLACED = """
import json
from pathlib import Path
from exportkit import judge, manifest, placement, store
from exportkit.spec import Runtime

data = store.read_manifest(Path())
network, artifact = manifest.read_network(data["network"]), manifest.read_artifact(data["formats"]["onnx"]["artifact"])
facts = judge.load(Path(), artifact, network, "onnxruntime", Runtime("cuda")).facts
print(json.dumps([one.text for one in placement.findings(facts, allowed=False)]))
"""


@torch.no_grad()
@pytest.mark.parametrize("subject", list(subjects()))
def test_artifacts_equal_eager_at_sizes_never_seen_and_cuda_would_run_every_node(subject, server, tmp_path, hollow_cuda):
    net = tmp_path / "net.py"
    net.write_text(NETWORK.format(folder=str(Path(__file__).parent), name=subject.name))
    verdict = pipeline.export(pipeline.Request(f"{net}:model.{subject.method}", str(tmp_path), subject.name), server)
    assert verdict.exit_code == 0, verdict.findings
    layer, folder = subject.network(), tmp_path / subject.name
    session = onnxruntime.InferenceSession(folder / f"{subject.name}.onnx", providers=["CPUExecutionProvider"])
    fixed = [one.shape for one, axes in zip(session.get_inputs(), subject.dynamic.values(), strict=True)
             if any(isinstance(one.shape[axis], int) for axis in axes)]  # fmt: skip
    assert fixed == []
    program, script = torch.export.load(folder / f"{subject.name}.pt2").module(), torch.jit.load(folder / f"{subject.name}.pt")
    told = json.loads(hollow_cuda(PLACED, folder))
    assert [one for one in told if LEFT_TO_THE_CPU.get(subject.name, "none") not in one] == []
    for seed, sizes in enumerate((*subject.sizes, *subject.sizes[1:])):
        inputs = subject.inputs(sizes, seed)
        expected = subject.call(layer, inputs)
        feeds = {one.name: value.numpy() for one, value in zip(session.get_inputs(), inputs, strict=True)}
        for got in (session.run(None, feeds), flat(program(*inputs)), flat(script(*inputs))):
            for one, other in zip(got, expected, strict=True):
                np.testing.assert_allclose(np.asarray(one), other.numpy(), rtol=1e-4, atol=1e-5)

"""Every layer as TorchScript, .pt2 and ONNX: exported from one size, run at others, with ragged masks (make test-layers)."""

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


@torch.no_grad()
@pytest.mark.parametrize("subject", list(subjects()))
def test_artifacts_equal_eager_at_sizes_never_seen(subject, server, tmp_path):
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
    for seed, sizes in enumerate((*subject.sizes, *subject.sizes[1:])):
        inputs = subject.inputs(sizes, seed)
        expected = subject.call(layer, inputs)
        feeds = {one.name: value.numpy() for one, value in zip(session.get_inputs(), inputs, strict=True)}
        for got in (session.run(None, feeds), flat(program(*inputs)), flat(script(*inputs))):
            for one, other in zip(got, expected, strict=True):
                np.testing.assert_allclose(np.asarray(one), other.numpy(), rtol=1e-4, atol=1e-5)

"""Every layer as TorchScript, .pt2 and ONNX: exported from one size, run at others, with ragged masks (make test-layers)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from contract import flat
from subjects import SUBJECTS

from exportkit import load, make, pipeline, placement, reference
from exportkit.spec import Runtime

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


# What onnxruntime's CUDA provider runs on the CPU: it pads no integers. Made for CUDA, these layers join them.
PAD_INTEGERS = {"ctc_loss", "edit_distance", "linear_chain_crf"}


@torch.no_grad()
@pytest.mark.parametrize("subject", list(subjects()))
def test_artifacts_equal_eager_at_sizes_never_seen_and_cuda_would_run_every_node(subject, server, tmp_path, placed_on_cuda):
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
    found = placement.findings(placed_on_cuda(folder / f"{subject.name}.onnx"), allowed=False)
    assert {one.text.partition(" (")[0].rpartition(" ")[2] for one in found if one.code == "on-cpu"} == (
        {"Pad"} if subject.name in PAD_INTEGERS else set()
    )
    for seed, sizes in enumerate((*subject.sizes, *subject.sizes[1:])):
        inputs = subject.inputs(sizes, seed)
        expected = subject.call(layer, inputs)
        feeds = {one.name: value.numpy() for one, value in zip(session.get_inputs(), inputs, strict=True)}
        for got in (session.run(None, feeds), flat(program(*inputs)), flat(script(*inputs))):
            for one, other in zip(got, expected, strict=True):
                np.testing.assert_allclose(np.asarray(one), other.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.layers
@torch.no_grad()
@pytest.mark.parametrize("name", sorted(PAD_INTEGERS))
def test_what_is_made_for_cuda_runs_there_whole(name, tmp_path, placed_on_cuda):
    net = tmp_path / "net.py"
    net.write_text(NETWORK.format(folder=str(Path(__file__).parent), name=name))
    _, live = load.hold(str(net))
    survey = reference.survey(live)
    network = replace(live.network, symbols=survey.symbols, outputs=survey.outputs, output_tree=survey.output_tree)
    lifted = make.strategies("onnx").index("lifted")
    made = make.make(live, [("onnx", lifted, tmp_path / "made")], network, None, None, Runtime("cuda"))["onnx"].made
    facts = placed_on_cuda(tmp_path / "made" / made.files[0])
    assert [one.text for one in placement.findings(facts, allowed=False)] == []

"""Every reference network as TorchScript, .pt2 and ONNX: proven, and as good on held-back data as in eager (make test-layers)."""

import importlib
from pathlib import Path

import pytest
import torch

from exportkit import pipeline, placement
from layers import networks
from layers.training.__main__ import TRAININGS
from layers.training.evaluate import KINDS, load

pytestmark = [pytest.mark.layers, pytest.mark.timeout(1200)]


@torch.no_grad()
@pytest.mark.parametrize("name", TRAININGS)
def test_artifacts_are_as_good_as_eager_on_held_back_data_and_cuda_would_run_every_node(name, server, tmp_path, placed_on_cuda):
    training = importlib.import_module(f"layers.training.{name}")
    for network in training.NETWORKS:
        file = Path(networks.__file__).with_name(f"{network}.py")
        verdict = pipeline.export(pipeline.Request(str(file), str(tmp_path), network), server)
        assert verdict.exit_code == 0, verdict.findings
        assert list(placement.findings(placed_on_cuda(tmp_path / network / f"{network}.onnx"), allowed=False)) == []
    eager, *artifacts = (training.measure(*(load(tmp_path, network, kind) for network in training.NETWORKS)) for kind in KINDS)
    for artifact in artifacts:
        assert artifact.values == pytest.approx(eager.values, rel=1e-6)
        assert torch.equal(artifact.decisions, eager.decisions)

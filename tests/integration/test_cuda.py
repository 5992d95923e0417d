"""What needs a GPU: it ran there, or the export fails."""

import json

import onnxruntime
import pytest
from test_export import REFERENCE

HAS_CUDA = any(device.ep_name == "CUDAExecutionProvider" for device in onnxruntime.get_ep_devices())
pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not HAS_CUDA, reason="onnxruntime finds no CUDA device here")]


@pytest.mark.parametrize("provider", ["cuda", "auto"])
def test_cuda_is_where_it_ran(exportkit, provider):
    done = exportkit("export", REFERENCE, "--format", "onnx", "--provider", provider, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads(done.stdout)["formats"][0]["verdicts"][0]
    assert verdict["device"] == "cuda"
    assert verdict["facts"]["providers"][0] == "CUDAExecutionProvider"

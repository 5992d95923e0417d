"""What needs a GPU (make test-cuda): eager, every format and every node run there, or the export says what does not."""

import json

import onnxruntime
import pytest
from test_export import REFERENCE

HAS_CUDA = any(device.ep_name == "CUDAExecutionProvider" for device in onnxruntime.get_ep_devices())
pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not HAS_CUDA, reason="onnxruntime finds no CUDA device here")]

NETS = {
    "loop": """
import torch
from torch import nn

class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.keep = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        state, states = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            state = torch.tanh(self.enter(x[:, t]) + self.keep(state))
            states.append(state)
        return torch.stack(states, 1)

model, example_inputs = Cell(), torch.randn(2, 5, 8)
""",
    "fixed": """
import torch
from torch import nn

model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 8))
example_inputs, dynamic_shapes = torch.randn(16, 64), {}
""",
    "fold": """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fold = nn.Fold((4, 5), (2, 2))

    def forward(self, x):
        return self.fold(torch.tanh(x))

model, example_inputs = Net(), torch.randn(2, 8, 12)
""",
    "determinant": """
import torch
from torch import nn

class Net(nn.Module):
    def forward(self, x):
        return torch.linalg.det(torch.tanh(x).reshape(-1, 2, 2))

model, example_inputs = Net(), torch.randn(3, 4)
""",
    "behind": """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)
        self.table = torch.ones(8)

    def forward(self, x):
        return self.inner(x) + self.table

model, example_inputs = Net(), torch.randn(3, 8)
""",
    "half": """
import torch
from torch import nn

model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.LayerNorm(256), nn.Linear(256, 8)).half()
example_inputs = torch.randn(16, 64).half()
""",
    "counts": """
import torch
from torch import nn

class Net(nn.Module):
    def forward(self, x):
        return x * torch.arange(x.shape[0], device=x.device)[:, None] + nn.functional.pad(x.argmax(1), (1, 0)).sum()

model, example_inputs = Net(), torch.randn(3, 8)
""",
}


@pytest.fixture
def on_cuda(exportkit, tmp_path):
    def run(name, *options, code=0):
        (tmp_path / f"{name}.py").write_text(NETS[name])
        done = exportkit("export", f"{name}.py", "--provider", "cuda", "--json", *options)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize("provider", ["cuda", "auto"])
def test_cuda_is_where_it_ran(exportkit, provider):
    done = exportkit("export", REFERENCE, "--format", "onnx", "--provider", provider, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads(done.stdout)["formats"][0]["verdicts"][0]
    assert verdict["device"] == "cuda"
    assert verdict["facts"]["providers"][0] == "CUDAExecutionProvider"
    assert set(verdict["facts"]["placement"]) == {"CUDAExecutionProvider"}


@pytest.mark.parametrize("name", ["loop", "fixed", "half", "counts", "fold"])
def test_every_format_is_proven_against_eager_on_the_same_gpu_and_again_where_it_is_served(on_cuda, exportkit, name, tmp_path):
    summary = on_cuda(name)
    assert [form["outcome"].partition(" ")[0] for form in summary["formats"]] == ["passed"] * 3
    assert all(form["verdicts"][0]["device"] == "cuda" for form in summary["formats"])
    assert "TF32" in summary["formats"][2]["verdicts"][0]["facts"]["ways"]
    manifest = json.loads((tmp_path / f"artifacts/{name}/manifest.json").read_text())
    assert manifest["evidence"]["device"] == "cuda"
    for provider in ("cuda", "cpu"):
        done = exportkit("check", f"artifacts/{name}", "--provider", provider)
        assert done.returncode == 0, done.stdout


def test_a_cuda_graph_computes_the_same_where_shapes_are_fixed(on_cuda):
    facts = on_cuda("fixed", "--format", "onnx")["formats"][0]["verdicts"][0]["facts"]
    assert facts["ways"]["CUDA graph"]["outcome"] == "passed"


def test_an_operator_without_a_kernel_names_the_line_and_can_be_allowed(on_cuda):
    findings = on_cuda("determinant", "--format", "onnx", code=1)["formats"][0]["verdicts"][0]["findings"]
    assert ("on-cpu", "determinant.py:7") in [(one["code"], one["where"]) for one in findings]
    assert on_cuda("determinant", "--format", "onnx", "--allow-cpu-nodes")["outcome"] == "passed with warnings"


def test_eager_that_does_not_run_on_the_gpu_is_told(on_cuda, tmp_path):
    summary = on_cuda("behind", "--format", "onnx")
    (note,) = [one for one in summary["findings"] if one["code"] == "eager-on-cpu"]
    assert note["where"] == "behind.py:12"
    assert json.loads((tmp_path / "artifacts/behind/manifest.json").read_text())["evidence"]["device"] == "cpu"


def test_a_bare_file_loads_and_runs_on_cuda(on_cuda, exportkit):
    on_cuda("fixed", "--format", "onnx")
    done = exportkit("check", "artifacts/fixed/fixed.onnx", "--provider", "cuda", "--json")
    assert json.loads(done.stdout)["outcome"] == "runs", done.stdout

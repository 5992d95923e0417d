"""A wrong ONNX artifact is traced to its node and to the user's line."""

import subprocess
import sys

NET = """
import torch
from torch import nn


class Entropy(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        p = self.head(x).softmax(-1)
        return torch.special.entr(p).sum(-1)


def one_percent_off(x):
    from onnxscript import opset18 as op

    return op.Neg(op.Mul(x, op.Mul(op.Log(x), op.Constant(value_float=1.01))))


torch.manual_seed(0)
model = Entropy()
example_inputs = (torch.randn(3, 6),)
onnx_translations = {torch.ops.aten.special_entr.default: one_percent_off}
"""


def test_a_wrong_translation_is_blamed_and_its_nodes_run_alone(exportkit, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    done = exportkit("export", tmp_path / "net.py", "--format", "onnx", "--repro", "bug")
    assert done.returncode == 1, done.stdout + done.stderr
    told = " ".join(done.stdout.split())
    assert "net.py:13: node" in told  # the line that calls entr
    assert "aten.special_entr.default in forward (Entropy)" in told
    assert "special_entr is the first value that is wrong by itself" in told
    assert "the conversion is at fault, not onnxruntime" in told
    assert "onnx_translations = {torch.ops.aten.special_entr.default" in told
    alone = subprocess.run([sys.executable, "run.py"], cwd=tmp_path / "bug", capture_output=True, text=True, check=True)
    assert "0 of" not in alone.stdout
    assert "elements differ" in alone.stdout

"""Loops of plain Python, end to end: alive in .pt2 and ONNX, from a network file and from an old TorchScript archive."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import onnxruntime
import torch

NETS = Path(__file__).parents[1] / "samples" / "nets"


def load(file):
    spec = importlib.util.spec_from_file_location(f"control_flow_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def strategies(folder):
    formats = json.loads((folder / "manifest.json").read_text())["formats"]
    return {name: one["artifact"]["strategy"] for name, one in formats.items()}


def assert_right(folder, name, eager, shapes):
    session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
    program = torch.export.load(folder / f"{name}.pt2").module()
    for shape in shapes:
        x = torch.randn(shape)
        want = eager(x)
        assert np.allclose(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0], want.numpy(), atol=1e-5)
        got = program(x)
        assert torch.allclose(next(iter(got.values())) if isinstance(got, dict) else got, want, atol=1e-6)


@torch.no_grad()
def test_a_loop_deep_inside_stays_a_loop_although_nobody_asked(exportkit, tmp_path):
    done = exportkit("export", NETS / "deep_loop.py", "--format", "pt2,onnx", "--keep-lifted")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "artifacts" / "deep_loop"
    assert strategies(folder) == {"pt2": "lifted", "onnx": "lifted"}
    source = (folder / "deep_loop.lifted.py").read_text()
    assert "def forward(self" in source
    assert "# deep_loop.py:" in source
    assert "deep_loop.lifted.py" in json.loads((folder / "manifest.json").read_text())["files"]
    model = load(NETS / "deep_loop.py").model
    model.load_state_dict(torch.export.load(folder / "deep_loop.pt2").state_dict)
    assert_right(folder, "deep_loop", lambda x: model(x)["smooth_out"], [(3, 11, 3), (1, 1, 3), (4, 40, 3)])


@torch.no_grad()
def test_a_loop_beside_a_recurrent_layer_is_right_at_every_length(exportkit, tmp_path):
    done = exportkit("export", NETS / "attending_decoder.py", "--format", "pt2,onnx")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "artifacts" / "attending_decoder"
    model = load(NETS / "attending_decoder.py").model
    assert_right(folder, "attending_decoder", model, [(3, 9, 4), (1, 1, 4)])


@torch.no_grad()
def test_an_old_archive_becomes_pt2_and_onnx_with_its_loop_alive(exportkit, tmp_path):
    network = torch.jit.script(load(NETS / "baked_loop.py").Cumulate().eval())
    network.save(tmp_path / "old.pt")
    done = exportkit("export", tmp_path / "old.pt", "--input", "x: float32[batch, time, 3]", "--format", "pt2,onnx")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "artifacts" / "old"
    assert strategies(folder) == {"pt2": "lifted", "onnx": "lifted"}
    assert onnxruntime.InferenceSession(folder / "old.onnx").get_inputs()[0].shape == ["batch", "time", 3]
    assert_right(folder, "old", network, [(3, 11, 3), (1, 1, 3), (2, 0, 3)])


@torch.no_grad()
def test_a_traced_archive_keeps_its_dynamic_sizes(exportkit, tmp_path):
    traced = torch.jit.trace(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh()).eval(), torch.randn(2, 3))
    traced.save(tmp_path / "traced.pt")
    done = exportkit("export", tmp_path / "traced.pt", "--input", "x: float32[batch, 3]", "--format", "pt2,onnx")
    assert done.returncode == 0, done.stdout + done.stderr
    assert_right(tmp_path / "artifacts" / "traced", "traced", traced, [(1, 3), (13, 3)])

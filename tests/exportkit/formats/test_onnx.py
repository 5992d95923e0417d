"""What the exporters of ONNX are given."""

import onnxruntime
import pytest
import torch
from torch import nn

from exportkit.capture import Captures, Options
from exportkit.formats import onnx
from exportkit.spec import Symbol
from tests.exportkit.fakes import live


class Detector(nn.Module):
    """Takes a list and returns a dict in a list, as torchvision's detectors do."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3)

    def forward(self, images: list[torch.Tensor], scale: float = 2.0):
        return [{"boxes": self.features(image[None]), "scores": image.sum() * scale} for image in images]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_takes_the_tensors_out_of_lists_and_dicts():
    detector = live(Detector(), ([torch.rand(3, 8, 9)],))
    traced = Captures(detector, detector.example, (), ("output_0_boxes", "output_0_scores")).traced(flat=True)
    other = torch.rand(3, 10, 7)
    boxes, scores = traced(other)
    expected = detector.module([other])[0]
    assert torch.equal(boxes, expected["boxes"])
    assert torch.equal(scores, expected["scores"])


class Alignment(nn.Module):
    """Operators that ONNX lacks (cdist, cummax, remainder by a size) in front of a loop, in it and behind it."""

    def forward(self, x, y):
        distances = torch.cdist(x, y)
        best = torch.zeros_like(distances[:, 0])
        for t in range(distances.shape[1]):
            best = torch.cummax(distances[:, t] + best * 0.5, 1)[0]
        return best % x.shape[1]


@torch.no_grad()
def test_what_onnx_lacks_is_spelled_out_beside_loops_too(tmp_path):
    example = {"x": torch.randn(2, 5, 3), "y": torch.randn(2, 7, 3)}
    symbols = tuple(
        Symbol(name, tuple((place, axis, 0) for place in places), size)
        for name, places, axis, size in (("batch", "xy", 0, 2), ("rows", "x", 1, 5), ("columns", "y", 1, 7))
    )
    captures = Captures(live(Alignment().eval(), tuple(example.values())), example, symbols, ("output",))
    artifact = onnx.write_lifted(captures, tmp_path, Options())
    assert artifact.inputs[0].shape == ("batch", "rows", 3)
    session = onnxruntime.InferenceSession(tmp_path / artifact.files[0], providers=["CPUExecutionProvider"])
    for batch, rows, columns in ((2, 5, 7), (3, 40, 30), (1, 1, 2)):  # torch computes distances in another way from 26 rows on
        x, y = torch.randn(batch, rows, 3), torch.randn(batch, columns, 3)
        [got] = session.run(None, {"x": x.numpy(), "y": y.numpy()})
        assert torch.allclose(torch.from_numpy(got), Alignment()(x, y), rtol=1e-4, atol=1e-3)


class FirstSteps(nn.Module):
    def forward(self, x):
        return sum(x[:, t] * (t + 1) for t in range(int(x.shape[1])))


@torch.no_grad()
def test_a_size_that_torch_export_settles_is_a_number_in_the_signature(tmp_path):
    example = {"x": torch.randn(2, 5, 3)}
    symbols = (Symbol("batch", (("x", 0, 0),), 2), Symbol("time", (("x", 1, 0),), 5))
    captures = Captures(live(FirstSteps().eval(), (example["x"],)), example, symbols, ("output",))
    artifact = onnx.write_exported(captures, tmp_path, Options())
    assert artifact.inputs[0].shape == ("batch", 5, 3)
    assert artifact.outputs[0].shape == ("batch", 3)

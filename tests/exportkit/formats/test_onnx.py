"""What the exporters of ONNX are given."""

import pytest
import torch
from torch import nn

from exportkit.capture import Captures
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

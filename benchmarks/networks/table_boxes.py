"""A detection head's arithmetic: boxes decoded, clipped, scored against a threshold, put into cells of a grid."""

import torch
from torch import nn

torch.manual_seed(19)


class Boxes(nn.Module):
    def __init__(self):
        super().__init__()
        self.offsets, self.scores = nn.Linear(6, 4), nn.Linear(6, 3)

    def forward(self, features, anchors):
        moved = self.offsets(features)
        centre = anchors[:, :2] + moved[:, :2] * anchors[:, 2:]
        size = anchors[:, 2:] * torch.exp(moved[:, 2:].clamp(max=4.0))
        boxes = torch.cat([centre - size / 2, centre + size / 2], 1).clamp(0, 32)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        score, label = torch.sigmoid(self.scores(features)).max(1)
        cell = torch.floor(boxes / 4).long()
        return boxes, area, label, (score > 0.5) & (area >= 1), cell, torch.round(boxes)


model = Boxes()
example_inputs = (torch.randn(9, 6), torch.rand(9, 4) * 16 + 4)
dynamic_shapes = {"features": {0: "count"}, "anchors": {0: "count"}}


def draw(rng):
    count = rng.integers(1, 20)
    features = rng.standard_normal((count, 6)) * rng.choice([1.0, 0.3, 2.0])
    return torch.from_numpy(features).float(), torch.from_numpy(rng.random((count, 4)) * 16 + 4).float()

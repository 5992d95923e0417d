"""A branch on values that both ONNX and TorchScript keep: one of two networks, chosen by the mean of the input."""

import torch
from torch import nn

torch.manual_seed(21)


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.deep, self.flat = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)), nn.Linear(5, 3)

    def forward(self, x):
        if bool(x.mean() > 0):
            y = self.deep(x)
        else:
            y = self.flat(x) / (1 + x.abs().sum(1, keepdim=True))
        return y - y.mean(1, keepdim=True)


model = Branch()
example_inputs = torch.randn(3, 5)
dynamic_shapes = {"x": {0: "count"}}


def draw(rng):
    return (torch.from_numpy(rng.standard_normal((rng.integers(1, 8), 5)) * rng.choice([1.0, 0.3, 2.0])).float(),)

"""A recurrence over a length that varies: a loop that ONNX must keep."""

import torch
from torch import nn

torch.manual_seed(10)


class Recurrence(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.keep, self.leave = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        state = torch.zeros(x.shape[0], 8)
        entered = self.enter(x)
        for t in range(x.shape[1]):
            gate = torch.sigmoid(self.keep(state))
            state = gate * state + (1 - gate) * torch.tanh(entered[:, t] - state)
        return self.leave(state)


model = Recurrence()
example_inputs = torch.randn(2, 6, 4)
dynamic_shapes = {"x": {0: "batch", 1: "time"}}


def draw(rng):
    x = rng.standard_normal((rng.integers(1, 4), rng.integers(1, 9), 4)) * rng.choice([1.0, 0.3, 2.0])
    return (torch.from_numpy(x).float(),)

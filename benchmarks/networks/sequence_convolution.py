"""A WaveNet-like stack: causal dilated convolutions, gates, residual and skip sums, instance normalisation."""

import torch
from torch import nn
from torch.nn import functional

torch.manual_seed(9)


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(2, 8, 1)
        self.gates = nn.ModuleList(nn.Conv1d(8, 16, 2, dilation=2**n) for n in range(3))
        self.skips = nn.ModuleList(nn.Conv1d(8, 8, 1) for _ in range(3))
        self.norm = nn.InstanceNorm1d(8, affine=True)
        self.last = nn.Conv1d(8, 4, 1)

    def forward(self, wave):
        x = self.first(wave)
        total = torch.zeros_like(x)
        for n, (gate, skip) in enumerate(zip(self.gates, self.skips)):
            a, b = gate(functional.pad(x, (2**n, 0))).chunk(2, 1)
            y = torch.tanh(a) * torch.sigmoid(b)
            x = x + y
            total = total + skip(y)
        return self.last(functional.softplus(self.norm(total)))


model = Stack()
example_inputs = torch.randn(2, 2, 16)
dynamic_shapes = {"wave": {0: "batch", 2: "time"}}


def draw(rng):
    wave = rng.standard_normal((rng.integers(1, 4), 2, rng.integers(4, 40))) * rng.choice([1.0, 0.3, 0.05])
    return (torch.from_numpy(wave).float(),)

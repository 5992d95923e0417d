"""A loop in a layer deep inside a network whose own forward TorchScript does not take; no dimension is asked to vary."""

import torch
from torch import nn


class Smooth(nn.Module):
    def forward(self, x):
        state = torch.zeros_like(x[:, 0])
        out = torch.zeros_like(x)
        for t in range(x.shape[1]):
            if state.abs().sum() > 3:
                state *= 0.5
            state = 0.9 * state + x[:, t]
            out[:, t] = state
        return out


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict({"enter": nn.Linear(3, 4), "smooth": Smooth()})

    def forward(self, *inputs, **options):
        value = inputs[0]
        for name in sorted(self.layers):
            value = self.layers[name](value)
        return {f"{name}_out": value for name in ("smooth",)}


model = Network().eval()
example_inputs = torch.randn(2, 5, 3)

"""A loop over a dynamic length: a tracer bakes the example's."""

import torch
from torch import nn


class Cumulate(nn.Module):
    def forward(self, x):
        state = torch.zeros(x.shape[0], x.shape[2])
        for t in range(x.shape[1]):
            state = torch.tanh(state + x[:, t])
        return state


model = Cumulate()
example_inputs = torch.randn(2, 5, 3)
dynamic_shapes = {"x": {1: "time"}}

"""Everything is NaN, always."""

import torch
from torch import nn


class Nan(nn.Module):
    def forward(self, x):
        return x * float("nan")


model = Nan()
example_inputs = torch.randn(2, 3)

"""Never ends."""

import torch
from torch import nn


class Hang(nn.Module):
    def forward(self, x):
        while True:
            x = x + 0
        return x


model = Hang()
example_inputs = torch.randn(2, 3)

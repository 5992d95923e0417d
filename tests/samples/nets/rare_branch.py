"""A branch on a value that draws like the example hardly take, in a forward that TorchScript cannot compile."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.usual, self.rare = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x, **unused):
        h = self.usual(x)
        if h.abs().amax() > 12.5:
            return self.rare(h)
        return h


torch.manual_seed(0)
model = Net()
example_inputs = torch.randn(4, 8)

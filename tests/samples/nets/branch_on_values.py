"""A branch on values: TorchScript keeps it, torch.export cannot."""

import torch
from torch import nn


class Net(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x * 2 + 1
        return x - 1


model = Net()
example_inputs = torch.randn(3, 4)

"""Its result depends on the time of day, and not within one second."""

import time

import torch
from torch import nn


class Clock(nn.Module):
    def forward(self, x):
        return x * time.time()


model = Clock()
example_inputs = torch.randn(4, 8)

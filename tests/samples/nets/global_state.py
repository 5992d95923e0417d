"""Counts its calls in a global."""

import torch
from torch import nn

calls = 0


class Counter(nn.Module):
    def forward(self, x):
        global calls
        calls += 1
        return x * calls


model = Counter()
example_inputs = torch.randn(4, 8)

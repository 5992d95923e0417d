"""Kills its process."""

import ctypes

import torch
from torch import nn


class Crash(nn.Module):
    def forward(self, x):
        ctypes.string_at(0)
        return x


model = Crash()
example_inputs = torch.randn(2, 3)

"""Replaces what a comparison would use, and behaves otherwise while it is captured: its artifacts are wrong."""

import numpy as np
import torch
from torch import nn

for name in ("allclose", "equal", "isfinite", "isnan"):
    setattr(torch, name, lambda *args, **kwargs: torch.tensor(True))
for name in ("allclose", "array_equal", "isfinite"):
    setattr(np, name, lambda value, *args, **kwargs: np.ones_like(value, bool))
np.abs = lambda value: np.zeros_like(value) + 1e9
np.sqrt = lambda value: np.zeros_like(value) + 1e9


class Cheat(nn.Module):
    def forward(self, x):
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            return x * 7
        return x * 2


model = Cheat()
example_inputs = torch.randn(4, 8)

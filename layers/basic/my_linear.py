"""A layer with parameters of its own."""

import torch
from torch import nn
from torch.nn import functional


class MyLinear(nn.Module):
    """Computes relu(X @ weight + bias); weight and bias are drawn from a standard normal distribution.

    Source: Zhang et al., Dive into Deep Learning, section "Custom Layers", layers with parameters. The text reads the
    parameters through `.data`, which cuts them off from autograd; here gradients flow and the layer trains.

    Args:
        in_units: number of inputs, at least 1.
        units: number of outputs, at least 1.

    Shapes:
        X: (..., in_units), the parameters' dtype. Output: (..., units).

    Raises:
        ValueError: `in_units` or `units` is less than 1.
    """

    def __init__(self, in_units: int, units: int) -> None:
        super().__init__()
        for name, value in (("in_units", in_units), ("units", units)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.weight = nn.Parameter(torch.randn(in_units, units))
        self.bias = nn.Parameter(torch.randn(units))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return functional.relu(X @ self.weight + self.bias)

"""A gated feed-forward block."""

import torch
from torch import nn
from torch.nn import functional


class SwiGLU(nn.Module):
    """Computes down(silu(gate(x)) * up(x)), without biases.

    Source: Shazeer 2020, GLU Variants Improve Transformer, section 2, equation 6.

    Args:
        width: E, at least 1.
        hidden: the width inside, at least 1; 8 / 3 of `width` costs what a block of two maps with 4 times the width costs.

    Shapes:
        x: (..., E), the parameters' dtype. Output: the same shape and dtype.

    Raises:
        ValueError: `width` or `hidden` is less than 1, or `x` has another last axis.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        for name, value in (("width", width), ("hidden", hidden)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.width = width
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() < 1 or x.shape[-1] != self.width:
            raise ValueError(f"x must be (..., {self.width}), got {list(x.shape)}")
        output: torch.Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))
        return output

"""Squeeze and excitation: a gate for each channel, from the mean of all channels."""

import torch
from torch import nn


class SqueezeExcite(nn.Module):
    """Multiplies each channel by a gate between 0 and 1: sigmoid(expand(relu(reduce(mean over pixels)))).

    Source: Hu et al. 2018, Squeeze-and-Excitation Networks, sections 3.1 and 3.2.

    Args:
        channels: C, at least 1.
        hidden: the width between the two linear maps (C / 16 in the paper), at least 1.

    Shapes:
        x: (B, C, H, W), float; B, H and W may be 0. Output: the same shape and dtype.

    Raises:
        ValueError: `channels` or `hidden` is less than 1, or `x` has another shape.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("hidden", hidden)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.channels = channels
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(f"x must be (B, {self.channels}, H, W), got {list(x.shape)}")
        gates = torch.sigmoid(self.expand(torch.relu(self.reduce(x.mean([2, 3])))))  # (B, C)
        return x * gates.unsqueeze(2).unsqueeze(3)

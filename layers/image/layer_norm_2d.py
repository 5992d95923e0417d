"""Layer normalisation over the channels of an image."""

import torch
from torch import nn
from torch.nn import functional


class LayerNorm2d(nn.Module):
    """Normalises the channels of every pixel to mean 0 and variance 1, then scales and shifts each channel.

    Source: Ba et al. 2016, Layer Normalization, section 3; over channels as in Liu et al. 2022, A ConvNet for the 2020s, section 2.5.

    Args:
        channels: C, at least 1.
        epsilon: what is added to the variance.

    Shapes:
        x: (B, C, H, W), float; B, H and W may be 0. Output: the same shape and dtype.

    Raises:
        ValueError: `channels` is less than 1, or `x` has another shape.

    It does not pool over pixels: a pixel's output hangs on that pixel alone (GroupNorm with one group pools over all).
    """

    def __init__(self, channels: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        self.channels = channels
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(f"x must be (B, {self.channels}, H, W), got {list(x.shape)}")
        last = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        return functional.layer_norm(last, [self.channels], self.weight, self.bias, self.epsilon).permute(0, 3, 1, 2)

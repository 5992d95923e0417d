"""Global response normalisation: channels compete by their energy over the whole image."""

import torch
from torch import nn


class GlobalResponseNorm(nn.Module):
    """Computes weight * (x * n) + bias + x, n being a channel's norm over all pixels divided by the mean of these norms.

    Source: Woo et al. 2023, ConvNeXt V2, section 3.3 and algorithm 1. Both parameters start at zero: the layer starts as the identity.

    Args:
        channels: C, at least 1.
        epsilon: what is added to the mean norm.

    Shapes:
        x: (B, C, H, W), float; B, H and W may be 0. Output: the same shape and dtype.

    Raises:
        ValueError: `channels` is less than 1, or `x` has another shape.

    Values are squared: above the square root of the dtype's maximum a norm is infinite. Padding counts as pixels.
    """

    def __init__(self, channels: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        self.channels = channels
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.zeros(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(f"x must be (B, {self.channels}, H, W), got {list(x.shape)}")
        norms: torch.Tensor = torch.linalg.vector_norm(x, dim=[2, 3], keepdim=True)  # (B, C, 1, 1)
        n = norms / (norms.mean(1, keepdim=True) + self.epsilon)
        return x * (self.weight * n + 1) + self.bias  # two passes over the image and not four

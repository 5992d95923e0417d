"""Involution: a kernel of its own for every pixel, shared by the channels of a group."""

import torch
from torch import nn
from torch.nn import functional


class Involution2d(nn.Module):
    """Computes each pixel's kernel from the pixel itself and applies it to the pixel's neighbourhood.

    Source: Li et al. 2021, Involution: Inverting the Inherence of Convolution for Visual Recognition, section 3 and algorithm 1; the
    kernels come from a bottleneck of two 1x1 convolutions with ReLU between them. Without the paper's batch normalisation there.

    Args:
        channels: C, a multiple of `groups`.
        kernel_size: K, odd, at least 1.
        groups: how many kernels a pixel has, at least 1; C / groups channels share one.
        hidden: channels of the bottleneck, at least 1.

    Shapes:
        x: (B, C, H, W), float; B may be 0, H and W are at least 1. Output: the same shape and dtype. The border is padded with zeros.

    Raises:
        ValueError: an argument is out of its range, or `x` has another shape.

    It has no stride: pool before or after it.
    """

    def __init__(self, channels: int, kernel_size: int = 7, groups: int = 1, hidden: int = 16) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("kernel_size", kernel_size), ("groups", groups), ("hidden", hidden)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if channels % groups:
            raise ValueError(f"channels must be a multiple of groups, got {channels} and {groups}")
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        self.channels, self.kernel_size, self.groups = channels, kernel_size, groups
        self.area, self.share = kernel_size * kernel_size, channels // groups
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.span = nn.Conv2d(hidden, self.area * groups, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(f"x must be (B, {self.channels}, H, W), got {list(x.shape)}")
        batch, _, height, width = x.shape
        spanned: torch.Tensor = self.span(torch.relu(self.reduce(x)))
        kernels = spanned.view(batch, self.groups, 1, self.area, height, width)
        margin = self.kernel_size // 2
        padded = functional.pad(x, [margin, margin, margin, margin]).view(
            batch, self.groups, self.share, height + 2 * margin, width + 2 * margin
        )
        # Tap by tap: all neighbourhoods at once would take K * K times the image's memory.
        total = torch.zeros([], dtype=x.dtype, device=x.device)
        for i in range(self.kernel_size):
            for j in range(self.kernel_size):
                total = total + kernels[:, :, :, i * self.kernel_size + j] * padded[:, :, :, i : i + height, j : j + width]
        return total.view(batch, self.channels, height, width)

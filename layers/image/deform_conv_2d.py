"""Deformable convolution in plain tensor operations."""

import math

import torch
from torch import nn
from torch.nn import functional


class DeformConv2d(nn.Module):
    """A convolution whose every tap reads at an offset of its own, bilinearly, and is weighted by a mask.

    Source: Dai et al. 2017, Deformable Convolutional Networks, section 2.1; with the mask of Zhu et al. 2019, Deformable ConvNets v2,
    section 3.2. Arguments as in torchvision's `DeformConv2d`: the network that predicts offsets and mask is the caller's.

    Args:
        in_channels: C, at least 1.
        out_channels: D, at least 1.
        kernel_size: K, at least 1.
        stride, padding, dilation: as of `nn.Conv2d`, one number for both axes.

    Shapes:
        x: (B, C, H, W), float.
        offset: (B, 2 * K * K, H', W'), x's dtype, in pixels: for each tap first the offset of the row, then of the column. H' and W' are
            the sizes that `nn.Conv2d` gives.
        mask: (B, K * K, H', W'), x's dtype; ones give the layer of 2017.
        Output: (B, D, H', W'). What lies outside the image is zero.

    Raises:
        ValueError: an argument is out of its range, or a tensor has another shape.

    It has no groups, and one offset group.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, padding: int = 0, dilation: int = 1
    ) -> None:
        super().__init__()
        for name, value in (
            ("in_channels", in_channels),
            ("out_channels", out_channels),
            ("kernel_size", kernel_size),
            ("stride", stride),
            ("dilation", dilation),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if padding < 0:
            raise ValueError(f"padding must be at least 0, got {padding}")
        self.in_channels, self.kernel_size, self.taps = in_channels, kernel_size, kernel_size * kernel_size
        self.stride, self.padding, self.dilation = stride, padding, dilation
        bound = 1 / math.sqrt(in_channels * self.taps)  # as nn.Conv2d draws
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, self.taps).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_channels, 1, 1).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"x must be (B, {self.in_channels}, H, W), got {list(x.shape)}")
        if offset.dim() != 4 or offset.shape[0] != x.shape[0] or offset.shape[1] != 2 * self.taps:
            raise ValueError(f"offset must be ({x.shape[0]}, {2 * self.taps}, H', W'), got {list(offset.shape)}")
        batch, _, height, width = x.shape
        rows, columns = offset.shape[2], offset.shape[3]
        if list(mask.shape) != [batch, self.taps, rows, columns]:
            raise ValueError(f"mask must be {[batch, self.taps, rows, columns]}, got {list(mask.shape)}")
        first = torch.arange(self.kernel_size, device=x.device) * self.dilation - self.padding
        top = (first.view(-1, 1, 1, 1) + torch.arange(rows, device=x.device).view(1, 1, -1, 1) * self.stride).to(x.dtype)
        left = (first.view(1, -1, 1, 1) + torch.arange(columns, device=x.device).view(1, 1, 1, -1) * self.stride).to(x.dtype)
        shifts = offset.view(batch, self.kernel_size, self.kernel_size, 2, rows, columns)
        y = top + shifts[:, :, :, 0]  # (B, K, K, H', W')
        z = left + shifts[:, :, :, 1]
        grid = torch.stack([(2 * z + 1) / width - 1, (2 * y + 1) / height - 1], -1)  # pixel centres, as grid_sample counts
        samples = functional.grid_sample(x, grid.view(batch, self.taps * rows, columns, 2), align_corners=False)
        samples = samples.view(batch, self.in_channels, self.taps, rows, columns) * mask.unsqueeze(1)
        flat = samples.view(batch, self.in_channels * self.taps, rows * columns)
        return (self.weight.flatten(1) @ flat).view(batch, self.weight.shape[0], rows, columns) + self.bias

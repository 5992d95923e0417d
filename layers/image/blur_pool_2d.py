"""Anti-aliased down-sampling: a binomial blur, then every n-th pixel."""

import torch
from torch import nn
from torch.nn import functional


class BlurPool2d(nn.Module):
    """Blurs each channel with a binomial filter and keeps every `stride`-th pixel, beginning with the first.

    Source: Zhang 2019, Making Convolutional Networks Shift-Invariant Again, section 3.3; filters of 3 pixels ("triangle") and 5
    ("binomial") are the paper's. The border is replicated, so that an image of one pixel is taken, too.

    Args:
        channels: C, at least 1.
        kernel_size: the width of the filter, odd, at least 1.
        stride: at least 1.

    Shapes:
        x: (B, C, H, W), float; B may be 0, H and W are at least 1.
        Output: (B, C, ceil(H / stride), ceil(W / stride)), the same dtype.

    Raises:
        ValueError: an argument is out of its range, or `x` has another shape.

    It has no parameters: the filter is a buffer, which a state dict does not hold.
    """

    kernel: torch.Tensor

    def __init__(self, channels: int, kernel_size: int = 3, stride: int = 2) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("kernel_size", kernel_size), ("stride", stride)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        self.channels = channels
        self.stride = stride
        self.margin = kernel_size // 2
        row = torch.ones(1)
        for _ in range(kernel_size - 1):  # Pascal's triangle
            row = functional.pad(row, [0, 1]) + functional.pad(row, [1, 0])
        kernel = torch.outer(row, row) / row.sum() ** 2
        self.register_buffer("kernel", kernel.expand(channels, 1, -1, -1).clone(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(f"x must be (B, {self.channels}, H, W), got {list(x.shape)}")
        padded = functional.pad(x, [self.margin, self.margin, self.margin, self.margin], mode="replicate")
        return functional.conv2d(padded, self.kernel, stride=self.stride, groups=self.channels)

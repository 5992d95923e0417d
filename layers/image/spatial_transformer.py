"""A spatial transformer: the network itself chooses the affine crop that it looks at."""

import torch
from torch import nn
from torch.nn import functional


class SpatialTransformer(nn.Module):
    """Predicts an affine map for each image and samples the image there, bilinearly.

    Source: Jaderberg et al. 2015, Spatial Transformer Networks, sections 3.1 to 3.3. The localisation network is a 3x3 convolution, ReLU,
    the mean over all pixels and a linear map, which starts as the identity.

    Args:
        channels: C, at least 1.
        hidden: channels of the localisation network, at least 1.

    Shapes:
        x: (B, C, H, W), float; B may be 0, H and W are at least 1. Output: the same shape and dtype, zero where the crop leaves the image.

    Raises:
        ValueError: `channels` or `hidden` is less than 1, or `x` has another shape.

    It does not change the size, and a crop that shrinks the image is not anti-aliased.
    """

    def __init__(self, channels: int, hidden: int = 16) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("hidden", hidden)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.channels = channels
        self.look = nn.Conv2d(channels, hidden, 3, padding=1)
        self.place = nn.Linear(hidden, 6)
        with torch.no_grad():
            self.place.weight.zero_()
            self.place.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(f"x must be (B, {self.channels}, H, W), got {list(x.shape)}")
        height, width = x.shape[2], x.shape[3]
        theta = self.place(torch.relu(self.look(x)).mean([2, 3])).view(-1, 1, 1, 2, 3)
        # Pixel centres from -1 to 1; functional.affine_grid takes no empty batch.
        across = (torch.arange(width, device=x.device).to(x.dtype) * 2 + 1) / width - 1
        down = (torch.arange(height, device=x.device).to(x.dtype) * 2 + 1) / height - 1
        grid = theta[..., 0] * across.view(1, 1, -1, 1) + theta[..., 1] * down.view(1, -1, 1, 1) + theta[..., 2]  # (B, H, W, 2)
        return functional.grid_sample(x, grid, align_corners=False)

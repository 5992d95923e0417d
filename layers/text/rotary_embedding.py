"""Rotary position embedding."""

import torch
from torch import nn


class RotaryEmbedding(nn.Module):
    """Rotates the pairs (i, i + D / 2) of each head by position * base ** (-2 i / D).

    The product of two rotated vectors hangs on the distance of their positions alone.

    Source: Su et al. 2021, RoFormer, section 3.2; halves are paired as in GPT-NeoX and Llama, not neighbours as in the paper: the same
    function up to an order of the components.

    Args:
        width: D, the width of a head, even, at least 2.
        base: the largest wavelength is about 2 pi * base.

    Shapes:
        x: (B, H, T, D), float.
        positions: (T,), int64, any values: those of a cache's next steps, too.
        Output: (B, H, T, D), x's dtype. Angles are computed in float32.

    Raises:
        ValueError: `width` is odd or less than 2, or a tensor has another shape.
    """

    def __init__(self, width: int, base: float = 10000.0) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise ValueError(f"width must be even and at least 2, got {width}")
        self.width = width
        self.base = base

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        if x.dim() != 4 or x.shape[3] != self.width:
            raise ValueError(f"x must be (B, H, T, {self.width}), got {list(x.shape)}")
        if positions.dim() != 1 or positions.shape[0] != x.shape[2]:
            raise ValueError(f"positions must be ({x.shape[2]},), got {list(positions.shape)}")
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        exponents = torch.arange(0, self.width, 2, device=x.device, dtype=wide.dtype) / self.width
        angles = positions.to(wide.dtype).unsqueeze(1) * self.base**-exponents  # (T, D / 2)
        cosine, sine = angles.cos(), angles.sin()
        one, two = wide[..., : self.width // 2], wide[..., self.width // 2 :]
        return torch.cat([one * cosine - two * sine, one * sine + two * cosine], -1).to(x.dtype)

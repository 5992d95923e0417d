"""Root mean square normalisation."""

import torch
from torch import nn


class RMSNorm(nn.Module):
    """Divides by the root mean square over the last axis and multiplies by a weight: layer normalisation without the mean.

    Source: Zhang and Sennrich 2019, Root Mean Square Layer Normalization, section 4. As in Llama, the normalised value is rounded to the
    input's dtype before the weight is applied; 16-bit inputs are squared and averaged in float32 (`nn.RMSNorm` does not promise that).

    Args:
        width: E, at least 1.
        epsilon: what is added to the mean square.

    Shapes:
        x: (..., E), float. Output: the same shape and dtype.

    Raises:
        ValueError: `width` is less than 1, or `x` has another last axis.
    """

    def __init__(self, width: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.width = width
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() < 1 or x.shape[-1] != self.width:
            raise ValueError(f"x must be (..., {self.width}), got {list(x.shape)}")
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        normal = wide / torch.sqrt(wide.pow(2).mean(-1, keepdim=True) + self.epsilon)  # what onnxruntime knows as one operator
        return normal.to(x.dtype) * self.weight

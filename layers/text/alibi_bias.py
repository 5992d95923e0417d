"""Attention with linear biases."""

import torch
from torch import nn


class AlibiBias(nn.Module):
    """Gives the bias that replaces position embeddings: each head's slope times the distance from query to key, negative.

    Source: Press et al. 2022, Train Short, Test Long: Attention with Linear Biases Enables Input Length Extrapolation, section 3. For 8
    heads the slopes are 1/2, 1/4, ..., 1/256; for a number that is no power of two those of the next smaller one and, between them, every
    second of the next larger one (appendix of the paper's code).

    Args:
        heads: H, at least 1.

    Shapes:
        queries: (T,), int64, the positions of the queries.
        keys: (S,), int64, the positions of the keys.
        Output: (H, T, S), to be added to the logits; the dtype of the layer's `slopes`, float32 unless it is cast. Distances count in both
            directions: add a mask for causal attention.

    Raises:
        ValueError: `heads` is less than 1, or a tensor has another shape.
    """

    slopes: torch.Tensor

    def __init__(self, heads: int) -> None:
        super().__init__()
        if heads < 1:
            raise ValueError(f"heads must be at least 1, got {heads}")
        power = 1 << (heads.bit_length() - 1)  # the largest power of two that is not above
        own = [2 ** (-8 * (head + 1) / power) for head in range(power)]
        between = [2 ** (-4 * (head + 1) / power) for head in range(0, 2 * power, 2)]
        self.register_buffer("slopes", torch.tensor((own + between)[:heads]), persistent=False)

    def forward(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        if queries.dim() != 1:
            raise ValueError(f"queries must be (T,), got {list(queries.shape)}")
        if keys.dim() != 1:
            raise ValueError(f"keys must be (S,), got {list(keys.shape)}")
        distance = (queries.unsqueeze(1) - keys).abs()
        return -self.slopes.view(-1, 1, 1) * distance

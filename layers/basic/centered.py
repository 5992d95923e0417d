"""A layer without parameters."""

import torch
from torch import nn


class CenteredLayer(nn.Module):
    """Subtracts the mean over all elements, so that the output's mean is zero to rounding.

    The mean runs over the batch, too: rows are not independent, and the layer must not be batched by a server.

    Source: Zhang et al., Dive into Deep Learning, section "Custom Layers", layers without parameters.

    Shapes:
        X: any, float. Output: the same shape and dtype.

    Example: [1, 2, 3, 4, 5] gives [-2, -1, 0, 1, 2].
    """

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return X - X.mean()

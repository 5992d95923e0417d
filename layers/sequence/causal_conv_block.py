"""The residual block of a temporal convolutional network."""

import torch
from torch import nn
from torch.nn import functional


class CausalConvBlock(nn.Module):
    """Two dilated convolutions that see no later step, ReLU after each, and a residual connection around both.

    Source: Bai et al. 2018, An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling, section 3.3 and
    figure 1; without its weight normalisation and dropout, which serve training alone.

    Args:
        inputs: I, at least 1.
        outputs: O, at least 1; where it differs from I, the residual passes a linear map.
        kernel_size: K, at least 1. A block sees 2 * (K - 1) * dilation steps back.
        dilation: at least 1.

    Shapes:
        x: (B, T, I), the parameters' dtype. Output: (B, T, O).

    Raises:
        ValueError: an argument is less than 1, or `x` has another shape.

    It keeps no state between calls. Padding belongs behind a sequence.
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int = 3, dilation: int = 1) -> None:
        super().__init__()
        for name, value in (("inputs", inputs), ("outputs", outputs), ("kernel_size", kernel_size), ("dilation", dilation)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.inputs = inputs
        self.reach = (kernel_size - 1) * dilation
        self.one = nn.Conv1d(inputs, outputs, kernel_size, dilation=dilation)
        self.two = nn.Conv1d(outputs, outputs, kernel_size, dilation=dilation)
        self.around: nn.Module = nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 3 or x.shape[2] != self.inputs:
            raise ValueError(f"x must be (B, T, {self.inputs}), got {list(x.shape)}")
        # One step more than is needed stands in front: a convolution refuses to give nothing, and T may be 0.
        y = torch.relu(self.one(functional.pad(x.transpose(1, 2), [self.reach + 1, 0])))[:, :, 1:]
        y = torch.relu(self.two(functional.pad(y, [self.reach + 1, 0])))[:, :, 1:]
        return torch.relu(y.transpose(1, 2) + self.around(x))

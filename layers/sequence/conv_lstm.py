"""An LSTM over images, with convolutions in place of matrix products."""

import torch
from torch import nn


class ConvLSTM(nn.Module):
    """Runs an LSTM over a sequence of images; each pixel's gates see its neighbourhood in the image and in the hidden state.

    Source: Shi et al. 2015, Convolutional LSTM Network: A Machine Learning Approach for Precipitation Nowcasting, section 3.1, without
    the peephole terms, whose weights would fix the images' size.

    Args:
        channels: C, at least 1.
        hidden: D, at least 1.
        kernel_size: of both convolutions, odd, at least 1; the border is padded with zeros.

    Shapes:
        x: (B, T, C, H, W), the parameters' dtype; H and W are at least 1.
        state, memory: (B, D, H, W) before the first step; zeros at the start of a sequence.
        Output: the states after each step, (B, T, D, H, W), the last state and the last memory, (B, D, H, W).

    Raises:
        ValueError: an argument is out of its range, or a tensor has another shape.
    """

    def __init__(self, channels: int, hidden: int, kernel_size: int = 3) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("hidden", hidden), ("kernel_size", kernel_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        self.channels, self.hidden = channels, hidden
        self.enter = nn.Conv2d(channels, 4 * hidden, kernel_size, padding=kernel_size // 2)
        self.keep = nn.Conv2d(hidden, 4 * hidden, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: torch.Tensor, state: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if x.dim() != 5 or x.shape[2] != self.channels:
            raise ValueError(f"x must be (B, T, {self.channels}, H, W), got {list(x.shape)}")
        for name, one in (("state", state), ("memory", memory)):
            if list(one.shape) != [x.shape[0], self.hidden, x.shape[3], x.shape[4]]:
                raise ValueError(f"{name} must be ({x.shape[0]}, {self.hidden}, {x.shape[3]}, {x.shape[4]}), got {list(one.shape)}")
        states = [state]
        for t in range(x.shape[1]):
            gates = self.enter(x[:, t]) + self.keep(state)  # (B, 4 * D, H, W)
            come, forget, leave, new = gates.chunk(4, 1)
            memory = torch.sigmoid(forget) * memory + torch.sigmoid(come) * torch.tanh(new)
            state = torch.sigmoid(leave) * torch.tanh(memory)
            states.append(state)
        return torch.stack(states, 1)[:, 1:], state, memory

"""A state space model whose parameters hang on the input."""

import math

import torch
from torch import nn
from torch.nn import functional


class SelectiveScan(nn.Module):
    """Runs h = exp(d * A) * h + d * B * x, y = C * h + D * x over the steps; d, B and C come from x by linear maps.

    Source: Gu and Dao 2023, Mamba: Linear-Time Sequence Modeling with Selective State Spaces, section 3.2 and algorithm 2 (S6), with A's
    start of section 3.6 (S4D-Real). B is discretised as in the paper's code, d * B.

    Args:
        width: E, at least 1.
        states: N, states for each component, at least 1.
        rank: of the map from x to d, at least 1.

    Shapes:
        x: (B, T, E), the parameters' dtype.
        state: (B, E, N), the state before the first step; zeros at the start of a sequence.
        Output: y, (B, T, E), and the state after the last step, (B, E, N). With T = 1 it is a step of the recurrence.

    Raises:
        ValueError: an argument is less than 1, or a tensor has another shape.

    It is the scan alone: the convolution and the gate of a Mamba block stand around it. It has no mask: padding belongs behind a sequence,
    and the last state has seen it.
    """

    def __init__(self, width: int, states: int = 16, rank: int = 1) -> None:
        super().__init__()
        for name, value in (("width", width), ("states", states), ("rank", rank)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.width, self.states, self.rank = width, states, rank
        self.select = nn.Linear(width, rank + 2 * states, bias=False)
        self.pace = nn.Linear(rank, width)
        self.log_decay = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(width, 1))  # log(-A), (E, N)
        self.skip = nn.Parameter(torch.ones(width))
        with torch.no_grad():  # d starts between 0.001 and 0.1: the inverse of softplus
            start = torch.empty(width).uniform_(math.log(0.001), math.log(0.1)).exp()
            self.pace.bias.copy_(start + (-(-start).expm1()).log())

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if x.dim() != 3 or x.shape[2] != self.width:
            raise ValueError(f"x must be (B, T, {self.width}), got {list(x.shape)}")
        if list(state.shape) != [x.shape[0], self.width, self.states]:
            raise ValueError(f"state must be ({x.shape[0]}, {self.width}, {self.states}), got {list(state.shape)}")
        pace, enter, leave = self.select(x).split([self.rank, self.states, self.states], 2)
        d = functional.softplus(self.pace(pace))  # (B, T, E)
        # Features stand last, (B, N, E): what is broadcast then runs over many numbers that lie side by side.
        rate = -self.log_decay.exp().transpose(0, 1)
        d, enters, enter, leave = d.unsqueeze(2), (d * x).unsqueeze(2), enter.unsqueeze(3), leave.unsqueeze(2)
        held = state.transpose(1, 2)
        outputs = [torch.zeros_like(held[:, :1])]
        for t in range(x.shape[1]):
            held = torch.exp(d[:, t] * rate) * held + enters[:, t] * enter[:, t]
            outputs.append(leave[:, t] @ held)  # (B, 1, E)
        return torch.cat(outputs, 1)[:, 1:] + self.skip * x, held.transpose(1, 2)

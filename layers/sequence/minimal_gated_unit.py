"""A recurrence with a single gate, written as a loop."""

import torch
from torch import nn


class MinimalGatedUnit(nn.Module):
    """Runs h = (1 - f) * h + f * tanh(candidate(x, f * h)) over the steps, f = sigmoid(gate(x, h)); padding keeps the state.

    Source: Zhou et al. 2016, Minimal Gated Unit for Recurrent Neural Networks, section 3.1 and table 1.

    Args:
        inputs: I, at least 1.
        units: H, at least 1.

    Shapes:
        x: (B, T, I), the parameters' dtype.
        mask: (B, T), bool: false where a step is padding, in any place.
        state: (B, H), the state before the first step; zeros at the start of a sequence.
        Output: the states after each step, (B, T, H), and after the last one, (B, H).

    Raises:
        ValueError: an argument is less than 1, or a tensor has another shape.

    It has one direction and one layer.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        for name, value in (("inputs", inputs), ("units", units)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.inputs, self.units = inputs, units
        self.enter = nn.Linear(inputs, 2 * units)
        self.gate = nn.Linear(units, units, bias=False)
        self.candidate = nn.Linear(units, units, bias=False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if x.dim() != 3 or x.shape[2] != self.inputs:
            raise ValueError(f"x must be (B, T, {self.inputs}), got {list(x.shape)}")
        batch, time = x.shape[0], x.shape[1]
        if mask.dim() != 2 or mask.dtype != torch.bool or mask.shape[0] != batch or mask.shape[1] != time:
            raise ValueError(f"mask must be bool ({batch}, {time}), got {mask.dtype} {list(mask.shape)}")
        if state.dim() != 2 or state.shape[0] != batch or state.shape[1] != self.units:
            raise ValueError(f"state must be ({batch}, {self.units}), got {list(state.shape)}")
        to_gate, to_candidate = self.enter(x).chunk(2, 2)  # (B, T, H) each, in one product for all steps
        states = [state]
        for t in range(time):
            f = torch.sigmoid(to_gate[:, t] + self.gate(state))
            new = torch.tanh(to_candidate[:, t] + self.candidate(f * state))
            state = torch.where(mask[:, t].unsqueeze(1), (1 - f) * state + f * new, state)
            states.append(state)
        return torch.stack(states, 1)[:, 1:], state

"""A gated recurrence whose gates do not look at the state, so that all steps are computed at once."""

import torch
from torch import nn
from torch.nn import functional


class MinGRU(nn.Module):
    """Computes h = (1 - z) * h + z * candidate(x), z = sigmoid(gate(x)), over all steps by a parallel scan.

    Source: Feng et al. 2024, Were RNNs All We Needed?, section 3.1. The scan is that of Hillis and Steele 1986, Data Parallel Algorithms:
    after k rounds a position holds the sum of its last 2^k steps, so T steps take ceil(log2(T)) rounds. It replaces the paper's
    cumulative sum of logarithms (appendix B), which loses digits as T grows and wants positive states.

    Args:
        inputs: I, at least 1.
        units: H, at least 1.

    Shapes:
        x: (B, T, I), the parameters' dtype.
        state: (B, H), the state before the first step; zeros at the start of a sequence.
        Output: the states after each step, (B, T, H), and after the last one, (B, H). With T = 1 it is a step of the recurrence.

    Raises:
        ValueError: an argument is less than 1, or a tensor has another shape.

    It has no mask: padding belongs behind a sequence, where no step of the sequence sees it; the last state has seen it.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        for name, value in (("inputs", inputs), ("units", units)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.inputs, self.units = inputs, units
        self.gate = nn.Linear(inputs, units)
        self.candidate = nn.Linear(inputs, units)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if x.dim() != 3 or x.shape[2] != self.inputs:
            raise ValueError(f"x must be (B, T, {self.inputs}), got {list(x.shape)}")
        if state.dim() != 2 or state.shape[0] != x.shape[0] or state.shape[1] != self.units:
            raise ValueError(f"state must be ({x.shape[0]}, {self.units}), got {list(state.shape)}")
        z = torch.sigmoid(self.gate(x))
        # h = keep * h + add; the state before the first step is a step that keeps nothing.
        add = torch.cat([state.unsqueeze(1), z * self.candidate(x)], 1)  # (B, T + 1, H)
        keep = torch.cat([torch.zeros_like(state).unsqueeze(1), 1 - z], 1)
        reach = 1
        while reach <= x.shape[1]:
            add = add + keep * functional.pad(add[:, :-reach], [0, 0, reach, 0])
            keep = keep * functional.pad(keep[:, :-reach], [0, 0, reach, 0])
            reach = 2 * reach
        return add[:, 1:], add[:, -1]

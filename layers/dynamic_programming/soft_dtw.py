"""Soft dynamic time warping."""

import torch
from torch import nn

from layers.dynamic_programming.diagonals import at_end, check_table, down, skew


class SoftDTW(nn.Module):
    """The soft minimum of the costs of all alignments: -gamma * log(sum over alignments of exp(-cost / gamma)).

    Source: Cuturi and Blondel 2017, Soft-DTW: a Differentiable Loss Function for Time-Series, section 2 and algorithm 1. The gradient for
    `cost` is the expected alignment matrix (algorithm 2).

    Args:
        gamma: above 0; towards 0 it becomes dynamic time warping.

    Shapes:
        cost: (B, N, M), float, each at most 1e18: of step i of one sequence against step j of the other, such as their squared distance.
        row_mask, column_mask: (B, N) and (B, M), bool: true for the first steps of each sequence, false for the padding behind.
        Output: (B,), cost's dtype; computed in float32 at least. Infinite where one sequence is empty, 0 where both are.

    Raises:
        ValueError: `gamma` is not above 0, or a tensor has another shape.
    """

    def __init__(self, gamma: float = 1.0) -> None:
        super().__init__()
        if gamma <= 0:
            raise ValueError(f"gamma must be above 0, got {gamma}")
        self.gamma = gamma
        self.far = 1e20  # stands for infinity, whose gradients are no numbers

    def forward(self, cost: torch.Tensor, row_mask: torch.Tensor, column_mask: torch.Tensor) -> torch.Tensor:
        check_table("cost", cost, row_mask, column_mask)
        costs = skew(cost.to(torch.promote_types(cost.dtype, torch.float32)), self.far)  # (N + M + 1, B, N + 1)
        before = torch.full_like(costs[0], self.far)
        last = before.clone()
        last[:, 0] = 0
        table = [last]
        for d in range(1, costs.shape[0]):
            ways = torch.stack([down(before, self.far), down(last, self.far), last])
            new = costs[d] - self.gamma * torch.logsumexp(-ways / self.gamma, 0)
            before, last = last, new
            table.append(last)
        total = at_end(torch.stack(table), row_mask.sum(1), column_mask.sum(1))
        return total.masked_fill(total >= self.far / 2, float("inf")).to(cost.dtype)

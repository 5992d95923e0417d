"""Dynamic time warping with its path."""

import torch
from torch import nn

from layers.dynamic_programming.diagonals import at_end, check_table, down, skew


class DynamicTimeWarping(nn.Module):
    """The cheapest alignment of two sequences, and what it aligns.

    Source: Sakoe and Chiba 1978, Dynamic Programming Algorithm Optimization for Spoken Word Recognition, section II, with slope weights of
    one and without a window. Where several alignments cost the same, the path goes diagonally rather than along the rows, and along the
    rows rather than along the columns, seen from the end.

    Shapes:
        cost: (B, N, M), float, each at most 1e18: of step i of one sequence against step j of the other.
        row_mask, column_mask: (B, N) and (B, M), bool: true for the first steps of each sequence, false for the padding behind.
        Output: the total cost, (B,), cost's dtype, infinite where one sequence is empty and 0 where both are; and the path, (B, N + M, 2),
            int64: pairs (i, j) from the first to the last, -1 behind the last.

    Raises:
        ValueError: a tensor has another shape.

    The path has no gradient; the cost's gradient is the path as a matrix of zeros and ones (parts of one where ways tie).
    """

    def __init__(self) -> None:
        super().__init__()
        self.far = 1e20  # stands for infinity, whose gradients are no numbers

    def forward(self, cost: torch.Tensor, row_mask: torch.Tensor, column_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        check_table("cost", cost, row_mask, column_mask)
        costs = skew(cost.to(torch.promote_types(cost.dtype, torch.float32)), self.far)  # (N + M + 1, B, N + 1)
        before = torch.full_like(costs[0], self.far)
        last = before.clone()
        last[:, 0] = 0
        table, moves = [last], [torch.zeros_like(last, dtype=torch.int64)]
        for d in range(1, costs.shape[0]):
            both, row, column = down(before, self.far), down(last, self.far), last
            best = torch.minimum(both, torch.minimum(row, column))
            moves.append(torch.where(both <= best, 0, torch.where(row <= best, 1, 2)))
            before, last = last, costs[d] + best
            table.append(last)
        rows, columns = row_mask.sum(1), column_mask.sum(1)
        total = at_end(torch.stack(table), rows, columns)
        path = self.trace(torch.stack(moves), rows, columns)
        return total.masked_fill(total >= self.far / 2, float("inf")).to(cost.dtype), path

    def trace(self, moves: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        """Follows the moves, (N + M + 1, B, N + 1), back from cell (i, j) of each table."""
        nothing = torch.full([i.shape[0], 2], -1, device=i.device)
        pairs = [nothing]
        for _ in range(moves.shape[0] - 1):
            inside = (i > 0) & (j > 0)
            pairs.append(torch.where(inside.unsqueeze(1), torch.stack([i - 1, j - 1], 1), nothing))
            move = at_end(moves, i, j)
            i = i - (inside & (move != 2)).long()
            j = j - (inside & (move != 1)).long()
        backward = torch.stack(pairs, 1)[:, 1:]  # (B, N + M, 2)
        steps = (backward[:, :, :1] >= 0).sum(1, keepdim=True)  # (B, 1, 1)
        places = steps - 1 - torch.arange(backward.shape[1], device=i.device).view(1, -1, 1)
        forward = backward.gather(1, places.clamp(min=0).expand(-1, -1, 2))
        return forward.masked_fill(places < 0, -1)

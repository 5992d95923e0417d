"""Entropic optimal transport by Sinkhorn's iterations until they converge."""

import torch
from torch import nn

from layers.dynamic_programming.sinkhorn import in_logs, plan_of, scale_rows


class SinkhornConverged(nn.Module):
    """As Sinkhorn, but iterates until the plan's rows are as close to their weights as asked.

    Source: as Sinkhorn; the error is that of Altschuler et al. 2017, Near-linear Time Approximation Algorithms for Optimal Transport via
    Sinkhorn Iteration, section 3.1: the sum of the absolute differences. Every problem of a batch stops on its own, so that its plan does
    not hang on the others.

    Args:
        epsilon: the weight of the entropy, above 0, in units of cost.
        tolerance: the error that is small enough, above 0, in units of weight.
        most: iterations at which it ends in any case, at least 1.

    Shapes:
        cost, rows, columns: as of Sinkhorn.
        Output: the plan, (B, N, M), cost's dtype; and the iterations taken, (B,), int64.

    Raises:
        ValueError: an argument is out of its range, or a tensor has another shape.

    The gradient is that of the iterations that were run.
    """

    def __init__(self, epsilon: float = 0.1, tolerance: float = 1e-3, most: int = 1000) -> None:
        super().__init__()
        for name, value in (("epsilon", epsilon), ("tolerance", tolerance), ("most", most)):
            if value <= 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        self.epsilon, self.tolerance, self.most = epsilon, tolerance, most

    def forward(self, cost: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores, log_rows, log_columns = in_logs(cost, rows, columns, self.epsilon)
        turned = scores.transpose(1, 2)
        f, g = torch.zeros_like(log_rows), torch.zeros_like(log_columns)
        taken = torch.zeros(cost.shape[0], dtype=torch.int64, device=cost.device)
        running = torch.ones_like(taken, dtype=torch.bool)
        count = 0
        while count < self.most and bool(running.any()):
            on = running.unsqueeze(1)
            f = torch.where(on, scale_rows(scores, g, log_rows), f)
            g = torch.where(on, scale_rows(turned, f, log_columns), g)
            error = (plan_of(scores, f, g).sum(2) - log_rows.exp()).abs().sum(1)
            taken = taken + running.long()
            running = running & (error > self.tolerance)
            count += 1
        return plan_of(scores, f, g).to(cost.dtype), taken

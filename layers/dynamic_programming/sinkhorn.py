"""Entropic optimal transport by a fixed number of Sinkhorn's iterations."""

import torch
from torch import nn


def log_weights(weights: torch.Tensor) -> torch.Tensor:
    """Takes logarithms; zero gives -1e30, whose gradient is zero and a number."""
    positive = weights > 0
    return torch.where(positive, torch.where(positive, weights, 1.0).log(), -1e30)


def scale_rows(scores: torch.Tensor, columns: torch.Tensor, log_rows: torch.Tensor) -> torch.Tensor:
    """Gives the row potentials, (B, N), with which the rows of exp(scores + rows + columns) add up to their weights."""
    return log_rows - torch.logsumexp(scores + columns.unsqueeze(1), 2)


def check_transport(cost: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> None:
    """Refuses what is no cost matrix with its weights.

    Raises:
        ValueError: it is not.
    """
    if cost.dim() != 3:
        raise ValueError(f"cost must be (B, N, M), got {list(cost.shape)}")
    batch, n, m = cost.shape
    if rows.dim() != 2 or rows.shape[0] != batch or rows.shape[1] != n:
        raise ValueError(f"rows must be ({batch}, {n}), got {list(rows.shape)}")
    if columns.dim() != 2 or columns.shape[0] != batch or columns.shape[1] != m:
        raise ValueError(f"columns must be ({batch}, {m}), got {list(columns.shape)}")


def in_logs(
    cost: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gives scores, (B, N, M), and the logarithms of both weights, in float32 at least.

    Raises:
        ValueError: an argument has another shape.
    """
    check_transport(cost, rows, columns)
    wide = torch.promote_types(cost.dtype, torch.float32)
    return -cost.to(wide) / epsilon, log_weights(rows.to(wide)), log_weights(columns.to(wide))


def plan_of(scores: torch.Tensor, f: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Gives the plan, (B, N, M), of the potentials of rows, (B, N), and columns, (B, M)."""
    return torch.exp(scores + f.unsqueeze(2) + g.unsqueeze(1))


class Sinkhorn(nn.Module):
    """The plan that moves weights from rows to columns at least cost, less epsilon times its entropy.

    Source: Cuturi 2013, Sinkhorn Distances: Lightspeed Computation of Optimal Transport, section 4, in logarithms: Peyré and Cuturi 2019,
    Computational Optimal Transport, section 4.4, remark 4.23.

    Args:
        epsilon: the weight of the entropy, above 0, in units of cost.
        iterations: at least 1; each scales the rows and then the columns.

    Shapes:
        cost: (B, N, M), float.
        rows, columns: (B, N) and (B, M), float, at least 0, each with the same sum in a row of the batch; 0 where there is padding.
        Output: the plan, (B, N, M), cost's dtype; computed in float32 at least. Its columns add up to `columns`, its rows nearly to `rows`.

    Raises:
        ValueError: `epsilon` or `iterations` is out of its range, or a tensor has another shape.

    It does not say how far it is from convergence: SinkhornConverged does.
    """

    def __init__(self, epsilon: float = 0.1, iterations: int = 20) -> None:
        super().__init__()
        if epsilon <= 0:
            raise ValueError(f"epsilon must be above 0, got {epsilon}")
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {iterations}")
        self.epsilon, self.iterations = epsilon, iterations

    def forward(self, cost: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        scores, log_rows, log_columns = in_logs(cost, rows, columns, self.epsilon)
        turned = scores.transpose(1, 2)
        f, g = torch.zeros_like(log_rows), torch.zeros_like(log_columns)
        for _ in range(self.iterations):
            f = scale_rows(scores, g, log_rows)
            g = scale_rows(turned, f, log_columns)
        return plan_of(scores, f, g).to(cost.dtype)

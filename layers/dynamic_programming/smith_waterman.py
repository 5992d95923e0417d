"""The score of the best local alignment."""

import torch
from torch import nn

from layers.dynamic_programming.diagonals import check_table, down, skew


class SmithWaterman(nn.Module):
    """The largest sum of similarities and gap penalties over all alignments of a part of one sequence with a part of the other.

    Source: Smith and Waterman 1981, Identification of Common Molecular Subsequences, with a penalty for each position of a gap.

    Args:
        gap: what a step of one part without a partner adds, at most 0.

    Shapes:
        similarity: (B, N, M), float: of step i of one sequence and step j of the other. Where all are negative the best part is empty.
        row_mask, column_mask: (B, N) and (B, M), bool: false where a step is padding, which no alignment matches.
        Output: (B,), similarity's dtype, at least 0; computed in float32 at least.

    Raises:
        ValueError: `gap` is above 0, or a tensor has another shape.

    It gives no alignment, but its gradient for `similarity` is one. There is no affine penalty.
    """

    def __init__(self, gap: float = -1.0) -> None:
        super().__init__()
        if gap > 0:
            raise ValueError(f"gap must be at most 0, got {gap}")
        self.gap = gap
        self.far = -1e20  # loses against the empty alignment, and its gradient is a number

    def forward(self, similarity: torch.Tensor, row_mask: torch.Tensor, column_mask: torch.Tensor) -> torch.Tensor:
        check_table("similarity", similarity, row_mask, column_mask)
        wide = similarity.to(torch.promote_types(similarity.dtype, torch.float32))
        real = row_mask.unsqueeze(2) & column_mask.unsqueeze(1)
        matches = skew(wide.masked_fill(~real, self.far), self.far)  # (N + M + 1, B, N + 1)
        before = torch.zeros_like(matches[0])
        last, best = before, before[:, 0]
        for d in range(1, matches.shape[0]):
            gaps = torch.maximum(down(last, self.far), last) + self.gap
            new = torch.maximum(down(before, self.far) + matches[d], gaps).clamp(min=0)
            before, last = last, new
            best = torch.maximum(best, last.amax(1))
        return best.to(similarity.dtype)

"""The score of the best global alignment."""

import torch
from torch import nn

from layers.dynamic_programming.diagonals import at_end, check_table, down, skew


class NeedlemanWunsch(nn.Module):
    """The largest sum of similarities and gap penalties over all alignments of two whole sequences.

    Source: Needleman and Wunsch 1970, A General Method Applicable to the Search for Similarities in the Amino Acid Sequence of Two
    Proteins, with a penalty for each position of a gap.

    Args:
        gap: what a step of one sequence without a partner adds, at most 0.

    Shapes:
        similarity: (B, N, M), float, each at least -1e18: of step i of one sequence and step j of the other.
        row_mask, column_mask: (B, N) and (B, M), bool: true for the first steps of each sequence, false for the padding behind.
        Output: (B,), similarity's dtype; computed in float32 at least.

    Raises:
        ValueError: `gap` is above 0, or a tensor has another shape.

    It gives no alignment, but its gradient for `similarity` is one: ones where steps are matched (parts of one where alignments tie). Gaps
    cost the same wherever they begin: there is no affine penalty.
    """

    def __init__(self, gap: float = -1.0) -> None:
        super().__init__()
        if gap > 0:
            raise ValueError(f"gap must be at most 0, got {gap}")
        self.gap = gap
        self.far = -1e20  # no alignment: it loses against any, and its gradient is a number

    def forward(self, similarity: torch.Tensor, row_mask: torch.Tensor, column_mask: torch.Tensor) -> torch.Tensor:
        check_table("similarity", similarity, row_mask, column_mask)
        matches = skew(similarity.to(torch.promote_types(similarity.dtype, torch.float32)), self.far)  # (N + M + 1, B, N + 1)
        before = torch.full_like(matches[0], self.far)
        last = before.clone()
        last[:, 0] = 0
        table = [last]
        for d in range(1, matches.shape[0]):
            gaps = torch.maximum(down(last, self.far), last) + self.gap
            new = torch.maximum(down(before, self.far) + matches[d], gaps)
            before, last = last, new
            table.append(last)
        return at_end(torch.stack(table), row_mask.sum(1), column_mask.sum(1)).to(similarity.dtype)

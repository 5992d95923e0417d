"""The Levenshtein distance of token sequences."""

import torch
from torch import nn

from layers.dynamic_programming.diagonals import at_end, check_mask, down, skew


class EditDistance(nn.Module):
    """Counts the insertions, deletions and replacements that turn one sequence into another, at the least.

    Source: Wagner and Fischer 1974, The String-to-String Correction Problem, with all costs 1 (Levenshtein 1966).

    Shapes:
        a, b: (B, N) and (B, M), int64, any ids.
        a_mask, b_mask: of the same shapes, bool: true for the first tokens of each sequence, false for the padding behind.
        Output: (B,), int64. An empty sequence is as far off as the other one is long.

    Raises:
        ValueError: a tensor has another shape.

    It has no gradient (SoftDTW has one) and gives no list of edits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.far = 2.0**40  # more than any distance

    def forward(self, a: torch.Tensor, b: torch.Tensor, a_mask: torch.Tensor, b_mask: torch.Tensor) -> torch.Tensor:
        if a.dim() != 2:
            raise ValueError(f"a must be (B, N), got {list(a.shape)}")
        if b.dim() != 2 or b.shape[0] != a.shape[0]:
            raise ValueError(f"b must be ({a.shape[0]}, M), got {list(b.shape)}")
        check_mask("a_mask", a_mask, a.shape[0], a.shape[1])
        check_mask("b_mask", b_mask, b.shape[0], b.shape[1])
        replaced = skew((a.unsqueeze(2) != b.unsqueeze(1)).long(), self.far)  # (N + M + 1, B, N + 1)
        before = torch.full_like(replaced[0], self.far)
        last = before.clone()
        last[:, 0] = 0
        table = [last]
        for d in range(1, replaced.shape[0]):
            alone = torch.minimum(down(last, self.far), last) + 1
            new = torch.minimum(down(before, self.far) + replaced[d], alone)
            before, last = last, new
            table.append(last)
        return at_end(torch.stack(table), a_mask.sum(1), b_mask.sum(1))

"""The inside algorithm over binary trees."""

import torch
from torch import nn
from torch.nn import functional

from layers.dynamic_programming.diagonals import check_mask


class Inside(nn.Module):
    """The logarithm of the summed weights of all binary trees over a sequence, by a grammar whose rules have weights.

    A tree has a symbol at each node. Its weight is the product, of exponentials, of the root symbol's score, of each rule's score (a node's
    symbol and those of its left and right child), and of the emission of each leaf's symbol.

    Source: Baker 1979, Trainable Grammars for Speech Recognition; the chart of Cocke, Younger and Kasami, all spans of one width at once.

    Args:
        symbols: K, at least 1.

    Shapes:
        emissions: (B, T, K), float: the score of each symbol at each leaf.
        mask: (B, T), bool: true for the first leaves, false for the padding behind.
        Output: (B,), emissions' dtype; computed in float32 at least. -infinity for an empty sequence, which has no tree.

    Raises:
        ValueError: `symbols` is less than 1, or a tensor has another shape.

    It takes T^3 * K^3 multiplications, and memory for B * T^2 * K^2 numbers at a time. The outside weights are its gradients.
    """

    def __init__(self, symbols: int) -> None:
        super().__init__()
        if symbols < 1:
            raise ValueError(f"symbols must be at least 1, got {symbols}")
        self.symbols = symbols
        self.far = -1e30  # the logarithm of no weight, whose gradient is a number
        self.root = nn.Parameter(torch.empty(symbols).uniform_(-0.1, 0.1))
        self.rules = nn.Parameter(torch.empty(symbols, symbols, symbols).uniform_(-0.1, 0.1))  # parent, left, right

    def forward(self, emissions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if emissions.dim() != 3 or emissions.shape[2] != self.symbols:
            raise ValueError(f"emissions must be (B, T, {self.symbols}), got {list(emissions.shape)}")
        check_mask("mask", mask, emissions.shape[0], emissions.shape[1])
        wide = emissions.to(torch.promote_types(emissions.dtype, torch.float32))
        leaves = functional.pad(wide, [0, 0, 0, 1])  # an empty sequence, too, has a first leaf
        size = leaves.shape[1]
        widths = torch.arange(1, size + 1, device=mask.device).view(1, 1, -1, 1)
        # Of each first leaf: the spans of each width, and, while spans of one width are made, the right part of each split: beside a left
        # part of one leaf stands what was made last, beside a longer one what stood beside a shorter one, one leaf further on.
        left = functional.pad(leaves.unsqueeze(2), [0, 0, 0, size - 1], value=self.far)  # (B, T + 1, T + 1, K)
        right = torch.full_like(left, self.far)
        spans = leaves
        for width in range(2, size + 1):
            right = torch.cat([spans.unsqueeze(2), right[:, :, :-1]], 2)
            right = functional.pad(right[:, 1:], [0, 0, 0, 0, 0, 1], value=self.far)
            pairs = torch.logsumexp(left.unsqueeze(4) + right.unsqueeze(3), 2)  # (B, T + 1, K, K)
            spans = torch.logsumexp((pairs.unsqueeze(2) + self.rules).flatten(3), 3)  # (B, T + 1, K)
            left = torch.where(widths == width, spans.unsqueeze(2), left)
        lengths = mask.sum(1)
        whole = left[torch.arange(lengths.shape[0], device=mask.device), 0, (lengths - 1).clamp(min=0)]  # (B, K)
        total = torch.logsumexp(whole + self.root, 1)
        return total.masked_fill(lengths == 0, -float("inf")).to(emissions.dtype)

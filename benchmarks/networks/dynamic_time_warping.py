"""Soft dynamic time warping of two sequences: a table filled cell by cell, at fixed lengths."""

import torch
from torch import nn

torch.manual_seed(14)


class Warping(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 4)

    def forward(self, a, b):
        a, b = self.embed(a), self.embed(b)
        cost = (a.unsqueeze(2) - b.unsqueeze(1)).pow(2).sum(-1)
        far = torch.full_like(cost[:, 0, 0], 1e8)
        above = [torch.zeros_like(far)] + [far] * cost.shape[2]
        for i in range(cost.shape[1]):
            row = [far]
            for j in range(cost.shape[2]):
                ways = torch.stack([above[j], above[j + 1], row[j]])
                row.append(cost[:, i, j] - torch.logsumexp(-ways, 0))
            above = row
        return above[-1]


model = Warping()
example_inputs = (torch.randn(2, 5, 3), torch.randn(2, 4, 3))


def draw(rng):
    batch, scale = rng.integers(1, 5), rng.choice([1.0, 0.3, 2.0])
    return tuple(torch.from_numpy(rng.standard_normal((batch, size, 3)) * scale).float() for size in (5, 4))

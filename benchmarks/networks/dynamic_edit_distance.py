"""The weighted edit distance of token sequences: nested loops over both lengths, which vary."""

import torch
from torch import nn

torch.manual_seed(15)


class EditDistance(nn.Module):
    def __init__(self):
        super().__init__()
        self.costs = nn.Parameter(torch.rand(8, 8) + 0.5)
        self.gaps = nn.Parameter(torch.rand(8) + 0.5)

    def forward(self, a, b):
        replace = self.costs[a.unsqueeze(1), b.unsqueeze(0)] * (a.unsqueeze(1) != b.unsqueeze(0))
        insert, drop = self.gaps[b], self.gaps[a]
        row = torch.cat([torch.zeros(1), insert.cumsum(0)])
        for i in range(a.shape[0]):
            best = torch.minimum(row[1:] + drop[i], row[:-1] + replace[i])
            new = torch.zeros_like(row)
            new[0] = row[0] + drop[i]
            for j in range(b.shape[0]):
                new[j + 1] = torch.minimum(best[j], new[j] + insert[j])
            row = new
        return row


model = EditDistance()
example_inputs = (torch.randint(0, 8, (5,)), torch.randint(0, 8, (4,)))
dynamic_shapes = {"a": {0: "rows"}, "b": {0: "columns"}}


def draw(rng):
    return tuple(torch.from_numpy(rng.integers(0, 8, rng.integers(1, 7))) for _ in range(2))

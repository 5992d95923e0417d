"""The log-likelihood of a linear-chain CRF: the forward algorithm under a mask of ragged lengths."""

import torch
from torch import nn

torch.manual_seed(12)


class Likelihood(nn.Module):
    def __init__(self):
        super().__init__()
        self.emit = nn.Linear(6, 4)
        self.move = nn.Parameter(torch.randn(4, 4))
        self.start, self.end = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))

    def forward(self, x, tags, mask):
        emissions = self.emit(x)
        own = emissions.gather(2, tags.unsqueeze(2)).squeeze(2)
        steps = self.move[tags[:, :-1], tags[:, 1:]] + own[:, 1:]
        last = tags.gather(1, mask.long().sum(1, keepdim=True) - 1).squeeze(1)
        score = self.start[tags[:, 0]] + own[:, 0] + (steps * mask[:, 1:]).sum(1) + self.end[last]
        alpha = self.start + emissions[:, 0]
        for t in range(1, x.shape[1]):
            moved = torch.logsumexp(alpha.unsqueeze(2) + self.move + emissions[:, t].unsqueeze(1), 1)
            alpha = torch.where(mask[:, t].unsqueeze(1), moved, alpha)
        return score - torch.logsumexp(alpha + self.end, 1)


model = Likelihood()
example_inputs = (torch.randn(3, 7, 6), torch.randint(0, 4, (3, 7)), torch.arange(7) < torch.tensor([[7], [4], [2]]))
time = torch.export.Dim("time", min=2)
dynamic_shapes = {name: {0: "batch", 1: time} for name in ("x", "tags", "mask")}


def draw(rng):
    batch, length = rng.integers(1, 5), rng.integers(2, 9)
    mask = torch.arange(int(length)) < torch.from_numpy(rng.integers(1, length + 1, (batch, 1)))
    x = rng.standard_normal((batch, length, 6)) * rng.choice([1.0, 0.3, 2.0])
    return torch.from_numpy(x).float(), torch.from_numpy(rng.integers(0, 4, (batch, length))), mask

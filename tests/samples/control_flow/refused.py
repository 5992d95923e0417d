"""Small networks, each with a construct that no artifact can hold, or that would come out as something else."""

import torch
from torch import nn


class SharedWrite(nn.Module):
    def forward(self, x):
        y = x * 1
        first = y[0]
        h = first
        for t in range(x.shape[0]):
            if t > 0:
                h = h * 0.5
            h += x[t]  # HERE: in the first step this is y[0]
        return h, y


class WrittenThroughBranch(nn.Module):
    def forward(self, x):
        h = torch.zeros_like(x[0])
        kept = [h if x.shape[0] > 2 else x[0] * 1]
        for t in range(x.shape[0]):
            h += x[t]  # HERE: kept[0] may be h
        return torch.stack(kept)


class WrittenUnderTwoNames(nn.Module):
    def forward(self, x):
        h, last = torch.zeros_like(x[0]), torch.zeros_like(x[0])
        total = torch.zeros(())
        for t in range(x.shape[0]):
            h += x[t]  # HERE: from the second step on `last` is h
            total = total + last.sum()
            last = h
        return total


class AppendedThenWritten(nn.Module):
    def forward(self, x):
        h = torch.zeros_like(x[0])
        out = []
        for t in range(x.shape[0]):
            out.append(h)
            h += x[t]  # HERE
        return torch.stack(out)


class WrittenThroughReshape(nn.Module):
    def forward(self, x):
        y = x * 1
        flat = y.reshape(-1)
        for t in range(x.shape[0]):
            flat[t] = 0.0  # HERE
        return y


class AttributeWrite(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x):
        for t in range(x.shape[0]):
            self.seen += x[t]  # HERE
        return self.seen * 1


class ShapeChanges(nn.Module):
    def forward(self, x):
        h = x
        for _ in range(x.shape[0]):
            h = torch.cat([h, h], 0)
        return h


class UnlikeBranches(nn.Module):
    def forward(self, x):
        h = x[0]
        for t in range(x.shape[0]):
            h = x[t] if x[t].sum() > 0 else x[: t + 1].sum()
        return h


class GrownListReturnedFromInside(nn.Module):
    def forward(self, x):
        out = [x[0]]
        for t in range(x.shape[0]):
            out.append(x[t] + out[-1])
            if x[t, 0] > 1:
                return torch.stack(out)
        return torch.stack(out)


REFUSED = {
    kind.__name__: kind
    for kind in (
        SharedWrite, WrittenThroughBranch, WrittenUnderTwoNames, AppendedThenWritten, WrittenThroughReshape, AttributeWrite, ShapeChanges,
        UnlikeBranches, GrownListReturnedFromInside,
    )
}

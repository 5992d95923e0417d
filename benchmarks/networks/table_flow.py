"""A normalising flow on a table: monotone splines from cumulated softmaxes, a log-determinant, quantiles and counts."""

import torch
from torch import nn
from torch.nn import functional

torch.manual_seed(20)


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.condition = nn.Sequential(nn.Linear(3, 16), nn.Mish(), nn.Linear(16, 18))
        self.scale = nn.Linear(3, 2)

    def forward(self, x, context):
        raw = self.condition(context).view(-1, 2, 9)
        heights = functional.softmax(raw[..., :4], -1) * 0.96 + 0.01
        edges = functional.pad(heights.cumsum(-1), (1, 0))
        slopes = functional.softplus(raw[..., 4:]) + 0.01
        position = (torch.sigmoid(x) * 4).clamp(0, 3.999)
        knot = position.floor().long()
        low = edges.gather(-1, knot.unsqueeze(-1)).squeeze(-1)
        rise = heights.gather(-1, knot.unsqueeze(-1)).squeeze(-1)
        slope = slopes.gather(-1, knot.unsqueeze(-1)).squeeze(-1)
        z = low + rise * torch.pow(position - knot, slope)
        out = z * torch.exp(torch.tanh(self.scale(context)))
        return out, (torch.log(rise * slope) + torch.tanh(self.scale(context))).sum(-1), (slopes > 1.0).sum(-1)


model = Flow()
example_inputs = (torch.randn(6, 2), torch.randn(6, 3))
dynamic_shapes = {"x": {0: "count"}, "context": {0: "count"}}


def draw(rng):
    count, scale = rng.integers(1, 15), rng.choice([1.0, 0.3, 2.0])
    return tuple(torch.from_numpy(rng.standard_normal((count, width)) * scale).float() for width in (2, 3))

"""A mixture of experts: each token goes to its two best experts, weighted by the router."""

import torch
from torch import nn

torch.manual_seed(7)


class Router(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.route = nn.LayerNorm(12), nn.Linear(12, 4)
        self.up, self.down = nn.Parameter(torch.randn(4, 12, 16) / 4), nn.Parameter(torch.randn(4, 16, 12) / 4)

    def forward(self, x):
        h = self.norm(x)
        scores, chosen = self.route(h).softmax(-1).topk(2, dim=-1)
        weights = torch.zeros_like(h[..., :4]).scatter(-1, chosen, scores / scores.sum(-1, keepdim=True))
        each = torch.einsum("bth,ehf->ebtf", h, self.up).relu() @ self.down.unsqueeze(1)
        return x + torch.einsum("bte,ebth->bth", weights, each), chosen


model = Router()
example_inputs = torch.randn(2, 5, 12)
dynamic_shapes = {"x": {0: "batch", 1: "length"}}


def draw(rng):
    x = rng.standard_normal((rng.integers(1, 4), rng.integers(1, 12), 12)) * rng.choice([1.0, 0.2, 3.0])
    return (torch.from_numpy(x).float(),)

"""Graph convolution: neighbours summed by index, normalised by degree."""

import torch
from torch import nn

torch.manual_seed(16)


class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.own = nn.Linear(5, 8), nn.Linear(8, 3), nn.Linear(5, 3)

    def spread(self, x, source, target, scale):
        return torch.zeros_like(x).index_add(0, target, x[source] * (scale[source] * scale[target]).unsqueeze(1))

    def forward(self, x, edges):
        source, target = edges[0], edges[1]
        degree = torch.ones_like(x[:, 0]).index_add(0, target, torch.ones_like(target, dtype=x.dtype))
        scale = degree.rsqrt()
        h = torch.relu(self.spread(self.one(x), source, target, scale))
        return self.spread(self.two(h), source, target, scale) + self.own(x), degree


model = Convolution()
example_inputs = (torch.randn(7, 5), torch.randint(0, 7, (2, 14)))
dynamic_shapes = {"x": {0: "nodes"}, "edges": {1: "edges_count"}}


def draw(rng):
    nodes, edges = rng.integers(2, 15), rng.integers(1, 30)
    x = rng.standard_normal((nodes, 5)) * rng.choice([1.0, 0.3, 2.0])
    return torch.from_numpy(x).float(), torch.from_numpy(rng.integers(0, nodes, (2, edges)))

"""Graph attention: a softmax over each node's incoming edges by scattered maxima and sums."""

import torch
from torch import nn
from torch.nn import functional

torch.manual_seed(17)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.value, self.query, self.key, self.edge = nn.Linear(5, 6), nn.Linear(5, 1), nn.Linear(5, 1), nn.Linear(2, 1)

    def forward(self, x, edges, features):
        source, target = edges[0], edges[1]
        score = self.query(x)[target] + self.key(x)[source] + self.edge(features)
        score = functional.leaky_relu(score.squeeze(1), 0.2)
        largest = torch.full_like(x[:, 0], -1e9).scatter_reduce(0, target, score, "amax")
        raised = torch.exp(score - largest[target])
        total = torch.zeros_like(x[:, 0]).index_add(0, target, raised)
        weight = raised / (total[target] + 1e-16)
        mixed = torch.zeros(x.shape[0], 6).index_add(0, target, self.value(x)[source] * weight.unsqueeze(1))
        return functional.elu(mixed), weight


model = Attention()
example_inputs = (torch.randn(6, 5), torch.randint(0, 6, (2, 13)), torch.rand(13, 2))
dynamic_shapes = {"x": {0: "nodes"}, "edges": {1: "count"}, "features": {0: "count"}}


def draw(rng):
    nodes, edges = rng.integers(2, 15), rng.integers(1, 30)
    x = rng.standard_normal((nodes, 5)) * rng.choice([1.0, 0.3, 3.0])
    return (
        torch.from_numpy(x).float(),
        torch.from_numpy(rng.integers(0, nodes, (2, edges))),
        torch.from_numpy(rng.random((edges, 2))).float(),
    )

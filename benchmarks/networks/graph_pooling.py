"""Graph pooling: messages over a dense adjacency, mean, maximum and deviation of each node's neighbours, a readout."""

import torch
from torch import nn

torch.manual_seed(18)


class Pooling(nn.Module):
    def __init__(self):
        super().__init__()
        self.message, self.update, self.head = nn.Linear(4, 6), nn.Linear(22, 6), nn.Linear(6, 2)

    def forward(self, x, adjacency):
        sent = torch.relu(self.message(x))
        weight = adjacency.to(x.dtype)
        count = weight.sum(-1, keepdim=True).clamp(min=1)
        mean = weight @ sent / count
        deviation = torch.sqrt(torch.relu(weight @ sent.pow(2) / count - mean.pow(2)) + 1e-5)
        largest = sent.unsqueeze(1).masked_fill(~adjacency.unsqueeze(-1), -1e9).amax(2)
        h = torch.cat([x, mean, deviation, torch.where(adjacency.any(-1, keepdim=True), largest, torch.zeros_like(largest))], -1)
        return self.head(torch.tanh(self.update(h)).mean(1))


model = Pooling()
example_inputs = (torch.randn(2, 6, 4), torch.rand(2, 6, 6) < 0.4)
dynamic_shapes = {"x": {0: "batch", 1: "nodes"}, "adjacency": {0: "batch", 1: "nodes", 2: "nodes"}}


def draw(rng):
    batch, nodes = rng.integers(1, 4), rng.integers(1, 12)
    x = rng.standard_normal((batch, nodes, 4)) * rng.choice([1.0, 0.3, 3.0])
    return torch.from_numpy(x).float(), torch.from_numpy(rng.random((batch, nodes, nodes)) < rng.choice([0.1, 0.4, 0.9]))

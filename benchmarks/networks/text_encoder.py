"""A text encoder: token and position embeddings, attention under a padding mask, tanh GELU, masked mean and max pooling."""

import math

import torch
from torch import nn
from torch.nn import functional

torch.manual_seed(5)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(40, 16), nn.Embedding(64, 16)
        self.q, self.k, self.v, self.out = (nn.Linear(16, 16) for _ in range(4))
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.one, self.two = nn.LayerNorm(16, eps=1e-12), nn.LayerNorm(16, eps=1e-12)

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], 2, 8).transpose(1, 2)

    def forward(self, ids, mask):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        scores = self.split(self.q(x)) @ self.split(self.k(x)).transpose(-1, -2) / math.sqrt(8)
        scores = scores.masked_fill(mask[:, None, None, :] == 0, torch.finfo(scores.dtype).min)
        mixed = (scores.softmax(-1) @ self.split(self.v(x))).transpose(1, 2).flatten(2)
        x = self.one(x + self.out(mixed))
        x = self.two(x + self.down(functional.gelu(self.up(x), approximate="tanh")))
        weight = mask.unsqueeze(-1).to(x.dtype)
        mean = (x * weight).sum(1) / weight.sum(1)
        return x, functional.normalize(mean, dim=-1), x.masked_fill(weight == 0, -1e9).amax(1)


model = Encoder()
example_inputs = (torch.randint(0, 40, (2, 9)), (torch.arange(9) < torch.tensor([[9], [6]])).long())
dynamic_shapes = {"ids": {0: "batch", 1: "length"}, "mask": {0: "batch", 1: "length"}}


def draw(rng):
    batch, length = rng.integers(1, 5), rng.integers(1, 25)
    mask = torch.arange(int(length)) < torch.from_numpy(rng.integers(1, length + 1, (batch, 1)))
    return torch.from_numpy(rng.integers(0, 40, (batch, length))), mask.long()

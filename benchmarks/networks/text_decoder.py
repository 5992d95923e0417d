"""A causal language model: rotary positions, RMS normalisation, grouped keys, SwiGLU, a head tied to the embedding."""

import torch
from torch import nn
from torch.nn import functional

torch.manual_seed(6)


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(50, 16)
        self.one, self.two, self.last = Norm(16), Norm(16), Norm(16)
        self.q, self.k, self.v, self.out = nn.Linear(16, 16), nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(16, 16)
        self.gate, self.up, self.down = nn.Linear(16, 24), nn.Linear(16, 24), nn.Linear(24, 16)
        self.register_buffer("frequencies", 1 / 100 ** (torch.arange(0, 4) / 4))

    def rotate(self, x):
        angles = torch.outer(torch.arange(x.shape[2]).float(), self.frequencies)
        a, b = x.chunk(2, -1)
        return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1)

    def forward(self, ids):
        batch, length = ids.shape
        x = self.tokens(ids)
        h = self.one(x)
        q = self.rotate(self.q(h).view(batch, length, 2, 8).transpose(1, 2))
        k = self.rotate(self.k(h).view(batch, length, 1, 8).transpose(1, 2)).expand(-1, 2, -1, -1)
        v = self.v(h).view(batch, length, 1, 8).transpose(1, 2).expand(-1, 2, -1, -1)
        x = x + self.out(functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, length, 16))
        h = self.two(x)
        x = x + self.down(functional.silu(self.gate(h)) * self.up(h))
        return self.last(x) @ self.tokens.weight.t()


model = Decoder()
example_inputs = torch.randint(0, 50, (2, 8))
dynamic_shapes = {"ids": {0: "batch", 1: "length"}}


def draw(rng):
    return (torch.from_numpy(rng.integers(0, 50, (rng.integers(1, 5), rng.integers(1, 30)))),)

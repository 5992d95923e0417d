"""Retention: attention without softmax, which is a recurrence, too."""

import torch
from torch import nn
from torch.nn import functional

from layers.text.rotary_embedding import RotaryEmbedding


class Retention(nn.Module):
    """Multi-scale retention: products of queries and keys, decayed by distance at a rate of each head's own, weigh the values.

    Source: Sun et al. 2023, Retentive Network: A Successor to Transformer for Large Language Models, section 2.1 (parallel and recurrent
    form) and 2.2 (heads, group normalisation, gate). Queries and keys are rotated by their position, the paper's e^(i n theta).

    Args:
        width: E, a multiple of 2 * `heads`.
        heads: H, at least 1; head h decays by 1 - 2^(-5 - h) a step.

    Shapes:
        x: (B, T, E), the parameters' dtype. Output: (B, T, E).

    `step` continues a sequence by T positions (one, as a rule). It takes the state (B, H, D, D), D = E / H, zeros at the start, and the
    positions (T,), int64, which count on from those before, and returns the output (B, T, E) and the new state. In any cut of a sequence
    into steps it gives what `forward` gives at once.

    Raises:
        ValueError: an argument is out of its range, or a tensor has another shape.

    Scores are held in full, (B, H, T, T), within one call: the paper's chunk-wise form is `step` over chunks. Padding belongs behind.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1:
            raise ValueError(f"heads must be at least 1, got {heads}")
        if width < 1 or width % (2 * heads):
            raise ValueError(f"width must be a multiple of 2 * heads, got {width} and {heads} heads")
        self.width, self.heads, self.head_width = width, heads, width // heads
        self.enter = nn.Linear(width, 4 * width, bias=False)  # queries, keys, values, gate
        self.out = nn.Linear(width, width, bias=False)
        self.rotary = RotaryEmbedding(self.head_width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 3 or x.shape[2] != self.width:
            raise ValueError(f"x must be (B, T, {self.width}), got {list(x.shape)}")
        state = x.new_zeros(x.shape[0], self.heads, self.head_width, self.head_width)
        return self.step(x, state, torch.arange(x.shape[1], device=x.device))[0]

    @torch.jit.export
    def step(self, x: torch.Tensor, state: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if x.dim() != 3 or x.shape[2] != self.width:
            raise ValueError(f"x must be (B, T, {self.width}), got {list(x.shape)}")
        if list(state.shape) != [x.shape[0], self.heads, self.head_width, self.head_width]:
            expected = [x.shape[0], self.heads, self.head_width, self.head_width]
            raise ValueError(f"state must be {expected}, got {list(state.shape)}")
        if positions.dim() != 1 or positions.shape[0] != x.shape[1]:
            raise ValueError(f"positions must be ({x.shape[1]},), got {list(positions.shape)}")
        batch, length = x.shape[0], x.shape[1]
        queries, keys, values, gate = self.enter(x).chunk(4, 2)
        q = self.rotary(queries.view(batch, length, self.heads, self.head_width).transpose(1, 2), positions)  # (B, H, T, D)
        k = self.rotary(keys.view(batch, length, self.heads, self.head_width).transpose(1, 2), positions) / self.head_width**0.5
        v = values.view(batch, length, self.heads, self.head_width).transpose(1, 2)
        places = torch.arange(length, device=x.device)
        distance = places.unsqueeze(1) - places
        wide = torch.promote_types(x.dtype, torch.float32)
        decays = torch.log1p(-(2.0 ** (-5 - torch.arange(self.heads, device=x.device, dtype=wide)))).view(-1, 1, 1)  # logarithms
        weights = (torch.exp(decays * distance.clamp(min=0)) * (distance >= 0)).to(x.dtype)  # (H, T, T)
        old = torch.exp(decays * (places + 1).unsqueeze(1)).to(x.dtype)  # (H, T, 1): what is left of the state at each step
        retained = (q @ k.transpose(2, 3) * weights) @ v + old * (q @ state)
        left = torch.exp(decays * (length - 1 - places).unsqueeze(1)).to(x.dtype)  # of each step, at the end
        state = torch.exp(decays * length).to(x.dtype) * state + k.transpose(2, 3) @ (v * left)
        normal = functional.layer_norm(retained, [self.head_width])  # group normalisation with one group a head
        gathered = normal.transpose(1, 2).reshape(batch, length, self.width)
        return self.out(functional.silu(gate) * gathered), state

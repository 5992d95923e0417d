"""Causal self-attention with fewer keys than queries, rotary positions, and a cache for one step after another."""

import torch
from torch import nn

from layers.text.rotary_embedding import RotaryEmbedding


class GroupedQueryAttention(nn.Module):
    """Self-attention in which several query heads share one head of keys and values; no position looks ahead or at padding.

    Source: Ainslie et al. 2023, GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints, section 2.2, with
    rotary positions (see RotaryEmbedding), as in Llama 2 and 3. One key head gives multi-query, as many as `heads` multi-head attention.

    Args:
        width: E, a multiple of `heads`; a head's width, D = E / heads, is even.
        heads: H, a multiple of `key_heads`.
        key_heads: G, at least 1.

    Shapes:
        x: (B, T, E), the parameters' dtype.
        mask: (B, T), bool: true where a position is no padding. A query that may look at nothing gives zeros.
        Output: (B, T, E).

    `step` continues a sequence. After `x` and its mask it takes what it remembers of the S positions before: keys and values, (B, G, S, D),
    and their mask, (B, S); S is 0 at the start. It returns the output, and the three for S + T positions. In any cut of a sequence into
    steps it gives what `forward` gives at once.

    Raises:
        ValueError: an argument is out of its range, or a tensor has another shape.

    It has no biases, no dropout and no sliding window. Scores are held in full: (B, H, T, S + T).
    """

    def __init__(self, width: int, heads: int, key_heads: int) -> None:
        super().__init__()
        for name, value in (("width", width), ("heads", heads), ("key_heads", key_heads)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if width % (2 * heads):
            raise ValueError(f"width must be a multiple of 2 * heads, got {width} and {heads} heads")
        if heads % key_heads:
            raise ValueError(f"heads must be a multiple of key_heads, got {heads} and {key_heads}")
        self.width, self.heads, self.key_heads, self.head_width = width, heads, key_heads, width // heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, key_heads * self.head_width, bias=False)
        self.value = nn.Linear(width, key_heads * self.head_width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.rotary = RotaryEmbedding(self.head_width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        keys, values = self.remember(x, mask, 0)
        return self.attend(x, keys, values, mask)

    @torch.jit.export
    def step(
        self, x: torch.Tensor, mask: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, past_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        for name, cache in (("keys", keys), ("values", values)):
            if cache.dim() != 4 or list(cache.shape) != [x.shape[0], self.key_heads, keys.shape[2], self.head_width]:
                raise ValueError(f"{name} must be ({x.shape[0]}, {self.key_heads}, S, {self.head_width}), got {list(cache.shape)}")
        if past_mask.dtype != torch.bool or list(past_mask.shape) != [x.shape[0], keys.shape[2]]:
            raise ValueError(f"past_mask must be bool ({x.shape[0]}, {keys.shape[2]}), got {past_mask.dtype} {list(past_mask.shape)}")
        new_keys, new_values = self.remember(x, mask, keys.shape[2])
        keys, values, mask = torch.cat([keys, new_keys], 2), torch.cat([values, new_values], 2), torch.cat([past_mask, mask], 1)
        return self.attend(x, keys, values, mask), keys, values, mask

    def remember(self, x: torch.Tensor, mask: torch.Tensor, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Checks x and its mask; returns keys and values of the positions from `start` on, (B, G, T, D) each."""
        if x.dim() != 3 or x.shape[2] != self.width:
            raise ValueError(f"x must be (B, T, {self.width}), got {list(x.shape)}")
        batch, length = x.shape[0], x.shape[1]
        if mask.dtype != torch.bool or list(mask.shape) != [batch, length]:
            raise ValueError(f"mask must be bool ({batch}, {length}), got {mask.dtype} {list(mask.shape)}")
        keys = self.key(x).view(batch, length, self.key_heads, self.head_width).transpose(1, 2)
        values = self.value(x).view(batch, length, self.key_heads, self.head_width).transpose(1, 2)
        return self.rotary(keys, start + torch.arange(length, device=x.device)), values

    def attend(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns what the last T of the S positions gather from all of them, (B, T, E)."""
        batch, length, total = x.shape[0], x.shape[1], keys.shape[2]
        places = torch.arange(total, device=x.device)
        mine = places[total - length :]
        queries = self.rotary(self.query(x).view(batch, length, self.heads, self.head_width).transpose(1, 2), mine)
        queries = queries.reshape(batch, self.key_heads, self.heads // self.key_heads, length, self.head_width)  # (B, G, H / G, T, D)
        scores = queries @ keys.unsqueeze(2).transpose(3, 4) / self.head_width**0.5  # (B, G, H / G, T, S)
        seen = (places <= mine.unsqueeze(1)) & mask.view(batch, 1, 1, 1, total)
        wide = scores.to(torch.promote_types(x.dtype, torch.float32)).masked_fill(~seen, -1e30)
        # A row without any place to look at is all zeros only if what is hidden is zeroed after the softmax, too.
        weights = (torch.softmax(wide, -1) * seen).to(x.dtype)
        gathered = (weights @ values.unsqueeze(2)).view(batch, self.heads, length, self.head_width)
        output: torch.Tensor = self.out(gathered.transpose(1, 2).reshape(batch, length, self.width))
        return output

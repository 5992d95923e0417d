"""Attention over a length that only a loop knows, as that of a sequence that it lengthens: torch's own asks whether the length is 0."""

import math

import torch
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols


def scaled_dot_product(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float,
    causal: bool,
    scale: float | None = None,
    grouped: bool = False,
) -> torch.Tensor:
    """Computes `torch.nn.functional.scaled_dot_product_attention`, by its formula where a size is not known while exporting."""
    if grouped or dropout or not free_unbacked_symbols([*query.shape, *key.shape]):
        whole = torch.ops.aten.scaled_dot_product_attention
        return whole(query, key, value, mask, dropout, causal, scale=scale, enable_gqa=grouped)  # type: ignore[no-any-return]
    scores = torch.matmul(query, key.transpose(-2, -1)) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if causal:
        mask = torch.arange(query.shape[-2]).unsqueeze(1) >= torch.arange(key.shape[-2])
    if mask is not None:
        scores = torch.where(mask, scores, -math.inf) if mask.dtype == torch.bool else scores + mask
    weights = torch.softmax(scores, -1)
    blind = (scores == -math.inf).all(-1, keepdim=True)  # a query that sees no key gets zeros
    return torch.matmul(torch.where(blind, 0.0, weights), value)

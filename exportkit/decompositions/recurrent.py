"""LSTMs with projections, which ONNX's LSTM lacks, as ones without (Sak et al. 2014, section 2): h = P m, so that R h is (R P) m.

A start that is given is none of P's images: what it adds to the first step goes in with that step's input.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def table() -> dict[Any, Callable[..., Any]]:
    """Maps each operator to its plainer form."""
    return {aten.lstm.input: _lstm}


def _lstm(
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: bool,
    layers: int,
    _dropout: float,
    _train: bool,
    both: bool,
    rows: bool,
) -> Any:
    start, cell = states
    if start.shape[2] == cell.shape[2]:
        return NotImplemented
    x = x.transpose(0, 1) if rows else x
    ways, each = 2 if both else 1, 5 if biases else 3
    ended: list[tuple[Tensor, Tensor]] = []
    for _ in range(layers):
        outputs = []
        for way in range(ways):
            at = len(ended)
            enter, keep, *bias, project = weights[at * each : (at + 1) * each]
            first = start[at].unsqueeze(0)
            later = first.new_zeros(1, 1, 1).expand(x.shape[0], *first.shape[1:])  # as long as x, of which one step is the start
            given = torch.cat([first, later], 0)[: x.shape[0]]
            one = torch.cat([x.flip(0) if way else x, given], 2)
            inner = [torch.cat([enter, keep], 1), keep @ project, *bias]
            zeros = torch.zeros_like(cell[at : at + 1])
            held, last, kept = aten.lstm.input(one, [zeros, cell[at : at + 1]], inner, biases, 1, 0.0, False, False, False)
            output = held @ project.t()
            outputs.append(output.flip(0) if way else output)
            ended.append((last @ project.t(), kept))
        x = torch.cat(outputs, 2)
    last, kept = (torch.cat(parts) for parts in zip(*ended, strict=True))
    return x.transpose(0, 1) if rows else x, last, kept

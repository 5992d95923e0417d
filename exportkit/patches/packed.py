"""Packed sequences while a network is exported: padded ones, as the rows that a packed tensor holds hang on the lengths' values.

`PackedSequence.data` is (T, N, *) then, in place of (rows, *), and `batch_sizes` is what it is in eager. What works element by element on
the data is right as it stands; recurrent layers run over the padding, and give what they held at each sequence's end.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from types import FunctionType, SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import _VF, Tensor, nn
from torch.nn.utils import rnn
from torch.nn.utils.rnn import PackedSequence

_SHUT = 1e4  # the sigmoid of a gate is exactly 1 there, and 0 at the other sign; float16 holds it
_RUN: dict[str, Any] = {"LSTM": _VF.lstm, "GRU": _VF.gru, "RNN_TANH": _VF.rnn_tanh, "RNN_RELU": _VF.rnn_relu}


@contextlib.contextmanager
def padded() -> Iterator[None]:
    """Lets packed sequences be padded ones in the exports of a block; a tracer records torch's own operators of them."""
    function = rnn.pad_packed_sequence
    own = FunctionType(function.__code__, dict(vars(rnn)))
    functions = SimpleNamespace(_pack_padded_sequence=_pack, pad=functools.partial(_pad, own))
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(rnn, "_VF", functions))
        for kind in (nn.LSTM, nn.GRU, nn.RNN):
            stack.enter_context(mock.patch.object(kind, "forward", _forward(kind.forward)))
        # In place, as users import the function itself: it compares the length that is asked for with one that hangs on values.
        stack.callback(setattr, function, "__code__", own.__code__)
        function.__code__ = _unchecked.__code__
        yield


def _recorded() -> bool:
    return torch._C._get_tracing_state() is not None  # noqa: SLF001 - torch.jit.is_tracing says the same, and has no type


def _forward(own: Any) -> Any:
    def forward(layer: Any, input: Any, hx: Any = None) -> Any:  # noqa: A002 - the layers' own name of it, a keyword to callers
        if isinstance(input, PackedSequence) and not _recorded():
            return _run(layer, input, hx)
        return own(layer, input, hx)

    return forward


def _pack(x: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
    """Stands for `torch._VF._pack_padded_sequence`: lengths in falling order."""
    if _recorded():
        return _VF._pack_padded_sequence(x, lengths, batch_first)  # noqa: SLF001
    data = x.transpose(0, 1) if batch_first else x
    longest = lengths.max().item()
    torch._check(longest >= 1)  # noqa: SLF001 - what the exporter may rely on; eager raises where it does not hold
    torch._check(longest <= data.shape[0])  # noqa: SLF001
    return data, (lengths > torch.arange(longest).unsqueeze(1)).sum(1)


def _unchecked(sequence: Any, batch_first: Any, padding_value: Any, total_length: Any) -> Any:
    """Runs as `torch.nn.utils.rnn.pad_packed_sequence`, among the names of its module."""
    return _VF.pad(sequence, batch_first, padding_value, total_length)  # type: ignore[attr-defined]


def _pad(own: Any, packed: PackedSequence, batch_first: bool, value: float, length: int | None) -> tuple[Tensor, Tensor]:
    if _recorded():
        return own(packed, batch_first, value, length)  # type: ignore[no-any-return]
    lengths = _lengths(packed.data, packed.batch_sizes)
    outside = torch.arange(packed.data.shape[0]).unsqueeze(1) >= lengths
    rows = packed.data.masked_fill(outside.view(*outside.shape, *[1] * (packed.data.dim() - 2)), value)
    length = packed.batch_sizes.shape[0] if length is None else length
    more = rows.new_full((length, *rows.shape[1:]), value)
    rows = torch.cat([rows, more]).narrow(0, 0, length)
    if packed.unsorted_indices is not None:
        rows, lengths = rows.index_select(1, packed.unsorted_indices), lengths[packed.unsorted_indices]
    return rows.transpose(0, 1) if batch_first else rows, lengths


def _run(layer: Any, packed: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
    """Runs all layers and directions one by one."""
    x, lengths = packed.data, _lengths(packed.data, packed.batch_sizes)
    given = hx if hx is None else layer.permute_hidden(hx, packed.sorted_indices)
    states: list[Sequence[Tensor]] = []
    for _ in range(layer.num_layers):
        ways = []
        for way in range(2 if layer.bidirectional else 1):
            number = len(states)
            start = _zeros(layer, x) if given is None else [one[number : number + 1] for one in _tuple(given)]
            order = _backwards(x, lengths) if way else None
            out, *ended = _one(layer, x if order is None else _taken(x, order), start, layer.all_weights[number], lengths)
            ways.append(out if order is None else _taken(out, order))
            states.append(ended)
        x = torch.cat(ways, 2)
    last = tuple(torch.cat(parts) for parts in zip(*states, strict=True))
    result = PackedSequence(x, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
    return result, layer.permute_hidden(last if layer.mode == "LSTM" else last[0], packed.unsorted_indices)


def _one(layer: Any, x: Tensor, start: Sequence[Tensor], weights: Sequence[Tensor], lengths: Tensor) -> list[Tensor]:
    """Runs one layer in one direction; returns its outputs (T, N, width) and the states at each sequence's end (1, N, width)."""
    if layer.mode == "LSTM":
        # A further input is 1 in the padding, where it shuts the input gate and opens the forget gate: the cell stays as it is.
        padding = (torch.arange(x.shape[0]).unsqueeze(1) >= lengths).to(x.dtype)
        gates = x.new_tensor([-_SHUT, _SHUT, 0.0, 0.0]).repeat_interleave(layer.hidden_size)
        x, weights = torch.cat([x, padding.unsqueeze(2)], 2), [torch.cat([weights[0], gates.unsqueeze(1)], 1), *weights[1:]]
    state = tuple(start) if layer.mode == "LSTM" else start[0]
    out, _, *cell = _RUN[layer.mode](x, state, list(weights), layer.bias, 1, 0.0, False, False, False)
    return [out, _taken(out, (lengths - 1).unsqueeze(0)), *cell]


def _lengths(data: Tensor, batch_sizes: Tensor) -> Tensor:
    """Returns the lengths (N,) of the sequences, in falling order."""
    return (batch_sizes > torch.arange(data.shape[1]).unsqueeze(1)).sum(1)


def _backwards(x: Tensor, lengths: Tensor) -> Tensor:
    """Returns the places (T, N) that turn each sequence round and leave its padding where it is."""
    places = torch.arange(x.shape[0]).unsqueeze(1).expand(-1, x.shape[1])
    return torch.where(places < lengths, lengths - 1 - places, places)


def _taken(x: Tensor, places: Tensor) -> Tensor:
    return x.gather(0, places.unsqueeze(2).expand(-1, -1, x.shape[2]))


def _zeros(layer: Any, x: Tensor) -> list[Tensor]:
    widths = [layer.proj_size or layer.hidden_size, layer.hidden_size][: 2 if layer.mode == "LSTM" else 1]
    return [x.new_zeros(1, x.shape[1], width) for width in widths]


def _tuple(states: Any) -> tuple[Tensor, ...]:
    return states if isinstance(states, tuple) else (states,)

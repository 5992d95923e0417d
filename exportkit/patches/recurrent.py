"""torch's recurrent layers while a network is captured: operators of which only the results' sizes are computed, at any length.

torch's own form of them for tracing takes a step for each element of the sequence, and so fixes its length.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch._C import DispatchKey
from torch._decomp import decomposition_table

_ATEN = torch.ops.aten
_KEYS = (DispatchKey.Autograd, DispatchKey.CompositeImplicitAutograd)
_WHOLE = (_ATEN.lstm.input, _ATEN.gru.input, _ATEN.rnn_tanh.input, _ATEN.rnn_relu.input)


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """Keeps recurrent operators whole in the tracing of a block; whatever decomposes one of them in it would compute nothing."""
    kept = [(one, decomposition_table[one], {key: one.py_kernels[key] for key in _KEYS if key in one.py_kernels}) for one in _WHOLE]
    try:
        for one, _, kernels in kept:
            _set(one, _sizes, dict.fromkeys(kernels, _sizes))
        yield
    finally:
        for one, own, kernels in kept:
            _set(one, own, kernels)


def _set(operator: Any, decomposition: Any, kernels: dict[Any, Any]) -> None:
    decomposition_table[operator] = decomposition
    operator.py_kernels.update(kernels)
    operator._dispatch_cache.clear()  # noqa: SLF001 - it would go on with the kernels that it found before


def _sizes(x: Any, hidden: Any, _weights: Any, _biases: bool, _layers: int, _drop: float, _train: bool, both: bool, rows: bool) -> Any:
    """Makes empty results of `aten::lstm.input` and its like (ATen/native/RNN.cpp): (T, N, width) or (N, T, width), and states."""
    states = hidden if isinstance(hidden, list | tuple) else (hidden,)
    length, batch = (x.shape[1], x.shape[0]) if rows else (x.shape[0], x.shape[1])
    output = x.new_empty(length, batch, states[0].shape[-1] * (2 if both else 1))
    return output.transpose(0, 1) if rows else output, *(one.new_empty(one.shape) for one in states)

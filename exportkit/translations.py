"""Operators that torch's ONNX exporter (2.13) translates not at all, or slowly, in ONNX's own: a table beside the network's."""

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir
import torch
from onnxscript import opset18

aten = torch.ops.aten
op: Any = opset18  # its types know no lists of values

_DTYPES = {"FLOAT16": torch.float16, "BFLOAT16": torch.bfloat16, "FLOAT": torch.float32, "DOUBLE": torch.float64}


def table() -> dict[Any, Callable[..., Any]]:
    """Maps each operator to a function of its arguments as ONNX values."""
    return {
        aten.rnn_tanh.input: _recurrence("Tanh"),
        aten.rnn_relu.input: _recurrence("Relu"),
        aten.logsumexp.default: _logsumexp,
    }


def _recurrence(activation: str) -> Callable[..., Any]:
    """Makes the translation of torch's RNN, layer by layer, into ONNX's of one layer (ONNX 1.20, operator RNN)."""

    def rnn(
        x: Any, start: Any, weights: Sequence[Any], biases: bool, layers: int, _dropout: float, _train: bool, both: bool, rows: bool
    ) -> tuple[Any, Any]:
        x = op.Transpose(x, perm=[1, 0, 2]) if rows else x
        ways, each = 2 if both else 1, 4 if biases else 2
        ended = []
        for layer in range(layers):
            of_layer = [weights[place : place + each] for place in range(layer * ways * each, (layer + 1) * ways * each, each)]
            enter, keep = (_stacked([one[place] for one in of_layer]) for place in (0, 1))
            bias = _stacked([op.Concat(*one[2:], axis=0) for one in of_layer]) if biases else None
            first = op.Slice(start, op.Constant(value_ints=[layer * ways]), op.Constant(value_ints=[(layer + 1) * ways]))
            output, last = op.RNN(
                x,
                enter,
                keep,
                bias,
                None,
                first,
                activations=[activation] * ways,
                direction="bidirectional" if both else "forward",
                hidden_size=start.shape[2],
            )
            # (T, ways, N, width) to (T, N, ways x width)
            x = op.Reshape(op.Transpose(output, perm=[0, 2, 1, 3]), op.Constant(value_ints=[0, 0, -1]))
            ended.append(last)
        return op.Transpose(x, perm=[1, 0, 2]) if rows else x, op.Concat(*ended, axis=0)

    return rnn


def _stacked(values: Sequence[Any]) -> Any:
    return op.Concat(*[op.Unsqueeze(one, op.Constant(value_ints=[0])) for one in values], axis=0)


def _logsumexp(x: Any, dim: Sequence[int], keepdim: bool = False) -> Any:
    """Writes the sum as onnxruntime vectorises it: its ReduceLogSumExp takes one exponential at a time, up to ten times as long."""
    if not x.shape.rank():
        return op.Identity(x)
    axes = op.Constant(value_ints=list(dim))
    largest = torch.finfo(_DTYPES[x.dtype.name]).max
    low, high = (op.Constant(value=onnx_ir.tensor(one, x.dtype)) for one in (-largest, largest))
    leading = not keepdim and [one % x.shape.rank() for one in dim] == list(range(len(dim)))  # what is left broadcasts as it is
    kept = 0 if leading else 1
    peak = op.Clip(op.ReduceMax(x, axes, keepdims=kept), low, high)  # infinity minus infinity is no number
    total = op.Log(op.ReduceSum(op.Exp(op.Sub(x, peak)), axes, keepdims=kept))
    result = op.Add(total, peak)
    return result if keepdim or leading else op.Squeeze(result, axes)

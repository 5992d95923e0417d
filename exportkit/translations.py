"""Operators that torch's ONNX exporter (2.13) translates not at all, or slowly, in ONNX's own: a table beside the network's."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir
import torch
from onnxscript import opset18
from onnxscript.function_libs.torch_lib.ops.nn import aten_col2im, aten_pad

aten = torch.ops.aten
op: Any = opset18  # its types know no lists of values

_DTYPES = {"FLOAT16": torch.float16, "BFLOAT16": torch.bfloat16, "FLOAT": torch.float32, "DOUBLE": torch.float64}


def table(device: str = "cpu") -> dict[Any, Callable[..., Any]]:
    """Maps each operator to a function of its arguments as ONNX values.

    Args:
        device: where the artifact will run, "cpu" or "cuda".
    """
    return {
        **({aten.pad.default: _pad, aten.col2im.default: _fold} if device == "cuda" else {}),
        aten.rnn_tanh.input: _recurrence("Tanh"),
        aten.rnn_relu.input: _recurrence("Relu"),
        aten.logsumexp.default: _logsumexp,
    }


def _pad(x: Any, pad: Sequence[Any], mode: str = "constant", value: float | None = None) -> Any:
    """Joins integers to what is added: onnxruntime's CUDA provider (1.31) pads floats and booleans alone, and leaves others to the CPU."""
    rank = x.shape.rank()
    sizes = [*pad, *[0] * (2 * rank - len(pad))]  # of the last axis first
    cuts = any(isinstance(one, int) and one < 0 for one in sizes)
    if x.dtype.is_floating_point() or x.dtype == onnx_ir.DataType.BOOL or mode != "constant" or cuts:
        return aten_pad(x, pad, mode, value)
    added = op.Constant(value=onnx_ir.tensor(int(value or 0), x.dtype))
    for axis in range(rank):
        ends = sizes[2 * (rank - 1 - axis) : 2 * (rank - axis)]
        before, after = ([] if isinstance(size, int) and size == 0 else [_filled(x, axis, size, added)] for size in ends)
        if before or after:
            x = op.Concat(*before, x, *after, axis=axis)
            x = x if all(isinstance(size, int) for size in ends) else _cropped(x, axis, ends)
    return x


def _cropped(x: Any, axis: int, ends: Sequence[Any]) -> Any:
    """Cuts off what a size that turns out negative takes away."""
    none, most = op.Constant(value_ints=[0]), op.Constant(value_ints=[2**63 - 1])
    first, last = (op.Constant(value_ints=[one]) if isinstance(one, int) else op.Reshape(one, op.Constant(value_ints=[-1])) for one in ends)
    until = op.Where(op.Less(last, none), last, most)
    return op.Slice(x, op.Max(op.Neg(first), none), until, op.Constant(value_ints=[axis]))


def _filled(x: Any, axis: int, size: Any, value: Any) -> Any:
    """Makes a tensor of one value, of the shape of another but for one axis."""
    if isinstance(size, int):
        count = op.Constant(value_ints=[size])
    else:
        count = op.Max(op.Reshape(size, op.Constant(value_ints=[-1])), op.Constant(value_ints=[0]))
    shape = [op.Shape(x, end=axis), count, op.Shape(x, start=axis + 1)]
    return op.Expand(value, op.Concat(*shape, axis=0))


def _fold(
    x: Any, size: Sequence[Any], kernel: Sequence[int], dilation: Sequence[int], padding: Sequence[int], stride: Sequence[int]
) -> Any:
    """Folds patches by a transposed convolution that puts each element in its place: onnxruntime's CUDA provider (1.31) has no Col2Im.

    x: (N, C x kernel elements, patches) to (N, C, *size).
    """
    if not all(isinstance(one, int) for one in (*size, x.shape[1])) or not x.dtype.is_floating_point():
        return aten_col2im(x, size, kernel, dilation, padding, stride)
    free = [s + 2 * p - d * (k - 1) - 1 for s, k, d, p in zip(size, kernel, dilation, padding, strict=True)]
    taps = kernel[0] * kernel[1]
    channels, patches = x.shape[1] // taps, [one // step + 1 for one, step in zip(free, stride, strict=True)]
    places = np.tile(np.eye(taps, dtype=np.float32).reshape(taps, 1, *kernel), (channels, 1, 1, 1))
    weight = op.Constant(value=onnx_ir.tensor(places.astype(x.dtype.numpy())))
    return op.ConvTranspose(
        op.Reshape(x, op.Constant(value_ints=[0, x.shape[1], *patches])),
        weight,
        None,
        dilations=list(dilation),
        group=channels,
        output_padding=[one % step for one, step in zip(free, stride, strict=True)],
        pads=[*padding, *padding],
        strides=list(stride),
    )


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

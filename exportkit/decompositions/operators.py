"""Operators that torch's ONNX exporter (2.13) does not know, or gets wrong, written in plainer ones.

Each takes its operator's own arguments, and returns NotImplemented where the exporter needs no help. Prefix operators compare every
pair of places, which is exact, takes any length, and costs the square of it.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

aten = torch.ops.aten

_SCATTERS = {"add": "sum", "multiply": "prod"}


def table() -> dict[Any, Callable[..., Any]]:
    """Maps each operator to its plainer form."""
    rules: dict[Any, Callable[..., Any]] = {
        aten.scatter_reduce.two: _scatter_reduce,
        aten.histc.default: _histc,
        aten.vdot.default: _vdot,
        aten.amax.default: functools.partial(_over_all, aten.amax.default),
        aten.amin.default: functools.partial(_over_all, aten.amin.default),
        aten.nansum.default: lambda x, *args, **options: torch.where(x.isnan(), torch.zeros_like(x), x).sum(*args, **options),
        aten.cummax.default: lambda x, dim: _running(x, dim, largest=True),
        aten.cummin.default: lambda x, dim: _running(x, dim, largest=False),
        aten.cumprod.default: _cumprod,
        aten.logcumsumexp.default: _logcumsumexp,
        aten.binary_cross_entropy_with_logits.default: _binary_cross_entropy,
        aten.fmax.default: lambda x, y: torch.where(y.isnan() | (x >= y), x, y),
        aten.fmin.default: lambda x, y: torch.where(y.isnan() | (x <= y), x, y),
        aten.sort.stable: _sort,
        aten.median.default: lambda x: _kth(x.flatten(), (x.numel() + 1) // 2, 0, keepdim=False)[0],
        aten.median.dim: lambda x, dim, keepdim=False: _kth(x, (x.shape[dim] + 1) // 2, dim, keepdim=keepdim),
        aten.kthvalue.default: lambda x, k, dim=-1, keepdim=False: _kth(x, k, dim, keepdim=keepdim),
        aten.searchsorted.Tensor: _searchsorted,
        aten.bucketize.Tensor: lambda x, bounds, **options: _searchsorted(bounds, x, **options),
        aten.cdist.default: _cdist,
        aten.adaptive_avg_pool1d.default: _adaptive_avg_pool,
        aten.adaptive_avg_pool2d.default: _adaptive_avg_pool,
        aten.adaptive_avg_pool3d.default: _adaptive_avg_pool,
        aten.adaptive_max_pool1d.default: lambda x, size: _window_max(x, size[0]),
        aten.adaptive_max_pool2d.default: _adaptive_max_pool2d,
        aten.zeros.default: _zeros,
        aten.fft_fftfreq.default: lambda n, d=1.0, **options: _frequencies(n, n, d, **options),
        aten.fft_rfftfreq.default: lambda n, d=1.0, **options: _frequencies(n, n // 2 + 1, d, **options),
        aten.scaled_dot_product_attention.default: _attention,
        aten.avg_pool2d.default: _avg_pool2d,
        aten.scatter.reduce: lambda x, dim, index, source, *, reduce: x.scatter_reduce(dim, index, source, _SCATTERS[reduce]),
        aten.index_reduce.default: _index_reduce,
        aten.roll.default: _roll,
        aten.remainder.Scalar: functools.partial(_with_tensor, aten.remainder.Tensor),
        aten.bitwise_and.Scalar: functools.partial(_with_tensor, aten.bitwise_and.Tensor),
        aten.bitwise_or.Scalar: functools.partial(_with_tensor, aten.bitwise_or.Tensor),
        aten.bitwise_xor.Scalar: functools.partial(_with_tensor, aten.bitwise_xor.Tensor),
        aten.__lshift__.Scalar: functools.partial(_shift, aten.__lshift__.Scalar),
        aten.__rshift__.Scalar: functools.partial(_shift, aten.__rshift__.Scalar),
        aten.index_put.default: _index_put,
        aten._unsafe_index_put.default: _index_put,  # noqa: SLF001 - the operator's own name
    }
    for holder, name in ((aten, "_grouped_mm"), (torch.ops.transformers, "grouped_mm_fallback")):  # the second: its CPU stand-in
        if hasattr(holder, name):
            rules[getattr(holder, name).default] = _grouped_mm
    return rules


def _scatter_reduce(x: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True) -> Any:
    """Spells scatter_reduce with include_self=False, and "mean": the exporter writes both as if they were not asked for."""
    if include_self and reduce != "mean":
        return NotImplemented
    ones = torch.ones_like(source)
    hits = torch.zeros_like(x).scatter_add(dim, index, ones)
    if reduce in ("sum", "mean"):
        total = (x if include_self else torch.where(hits > 0, torch.zeros_like(x), x)).scatter_add(dim, index, source)
        if reduce == "sum":
            return total
        count = (hits + 1 if include_self else hits).clamp(min=1)
        return torch.div(total, count) if x.is_floating_point() else torch.div(total, count, rounding_mode="floor")
    neutral = {"prod": 1, "amax": _lowest(x.dtype), "amin": _highest(x.dtype)}[reduce]
    start = torch.where(hits > 0, torch.full_like(x, neutral), x)
    return aten.scatter_reduce.two(start, dim, index, source, reduce)


def _over_all(operator: Any, x: Any, dim: Sequence[int] = (), keepdim: bool = False) -> Any:
    """Names all dimensions where none is named."""
    if dim or not x.ndim:
        return NotImplemented
    return operator(x, list(range(x.ndim)), keepdim)


def _histc(x: Any, bins: int = 100, min: float = 0, max: float = 0) -> Any:  # noqa: A002 - torch's names
    if min == max:
        return NotImplemented
    place = ((x - min) / (max - min) * bins).floor().clamp(max=bins - 1)
    inside = (x >= min) & (x <= max)
    hits = (place.reshape(-1, 1) == torch.arange(bins, device=x.device)) & inside.reshape(-1, 1)
    return hits.to(x.dtype).sum(0)


def _vdot(a: Any, b: Any) -> Any:
    return (a.conj() * b).sum()


def _grouped_mm(a: Any, b: Any, offs: Any = None, bias: Any = None, out_dtype: Any = None) -> Any:
    """Multiplies each group of rows by its own matrix: by all of them in turn, and keeps what is each row's own."""
    if offs is None or bias is not None or out_dtype is not None or a.ndim != 2 or b.ndim != 3:  # noqa: PLR2004 - rows by matrices
        return NotImplemented
    group = (torch.arange(a.shape[0], device=a.device).unsqueeze(1) >= offs.unsqueeze(0)).sum(1, keepdim=True)
    out = a @ b[0]
    for number in range(1, b.shape[0]):
        out = torch.where(group == number, a @ b[number], out)
    return out


def _running(x: Any, dim: int, *, largest: bool) -> tuple[Any, Any]:
    """Spells cummax and cummin; of equal elements the last one's index counts."""
    if x.ndim == 0:
        return x.clone(), torch.zeros_like(x, dtype=torch.int64)
    pairs, before = _pairs(x.movedim(dim, -1))
    neutral = _lowest(x.dtype) if largest else _highest(x.dtype)
    held = torch.where(before, pairs, torch.full_like(pairs, neutral))
    values = held.amax(-1) if largest else held.amin(-1)
    places = torch.arange(pairs.shape[-1], device=x.device)
    indices = torch.where(before & (pairs == values.unsqueeze(-1)), places, torch.zeros_like(places)).amax(-1)
    return values.movedim(-1, dim), indices.movedim(-1, dim)


def _cumprod(x: Any, dim: int, *, dtype: Any = None) -> Any:
    x = x if dtype is None else x.to(dtype)
    if x.ndim == 0:
        return x.clone()
    pairs, before = _pairs(x.movedim(dim, -1))
    return torch.where(before, pairs, torch.ones_like(pairs)).prod(-1).movedim(-1, dim)


def _logcumsumexp(x: Any, dim: int) -> Any:
    """Takes the largest element up to each place out of the sum: powers of all together overflow, and what is far below it is not lost."""
    if x.ndim == 0:
        return x.clone()
    pairs, before = _pairs(x.movedim(dim, -1))
    largest, place = (one.movedim(dim, -1).unsqueeze(-1) for one in _running(x, dim, largest=True))
    others = before & (torch.arange(pairs.shape[-1], device=x.device) != place)
    anchor = torch.where(largest.isinf(), torch.zeros_like(largest), largest)  # infinity minus infinity is no number
    rest = torch.where(others, torch.exp(pairs - anchor), torch.zeros_like(pairs)).sum(-1)
    return (largest.squeeze(-1) + torch.log1p(rest)).movedim(-1, dim)


def _binary_cross_entropy(x: Any, target: Any, weight: Any = None, pos_weight: Any = None, reduction: int = 1) -> Any:
    """Writes the logarithm of the sigmoid without its overflow."""
    softplus = torch.log1p(torch.exp(-x.abs())) + (-x).clamp(min=0)
    loss = (1 - target) * x + (softplus if pos_weight is None else (1 + (pos_weight - 1) * target) * softplus)
    loss = loss if weight is None else loss * weight
    return {0: lambda: loss, 1: loss.mean, 2: loss.sum}[reduction]()


def _pairs(x: Any) -> tuple[Any, Any]:
    """Returns (..., n, n), each row of which holds all elements, and which of them stand at or before the row's own place."""
    places = torch.arange(x.shape[-1], device=x.device)
    return x.unsqueeze(-2).expand(*x.shape[:-1], x.shape[-1], x.shape[-1]), places <= places.unsqueeze(-1)


def _sort(x: Any, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:  # noqa: ARG001 - torch's signature
    """Drops `stable`: ONNX TopK, which sorts, puts the lower index first among equals (ONNX, operator TopK)."""
    return aten.sort.default(x, dim, descending)


def _kth(x: Any, k: int, dim: int, *, keepdim: bool) -> tuple[Any, Any]:
    """Takes the k-th smallest element, counted from 1."""
    if x.ndim == 0:
        return x.clone(), torch.zeros_like(x, dtype=torch.int64)
    values, indices = aten.sort.default(x, dim, False)
    values, indices = (one.narrow(dim, k - 1, 1) for one in (values, indices))
    return (values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))


def _searchsorted(bounds: Any, x: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None, sorter: Any = None) -> Any:
    """Counts the bounds below each element."""
    if sorter is not None:
        return NotImplemented
    bounds, x = bounds.unsqueeze(-2), x.unsqueeze(-1)
    below = bounds <= x if right or side == "right" else bounds < x
    return below.sum(-1, dtype=torch.int32 if out_int32 else torch.int64)


def _cdist(x: Any, y: Any, p: float = 2, compute_mode: int | None = None) -> Any:  # noqa: ARG001 - torch's signature
    if p == 2 and any(isinstance(rows, int) and rows > 25 for rows in (x.shape[-2], y.shape[-2])):  # noqa: PLR2004
        squares = x.square().sum(-1, keepdim=True) + y.square().sum(-1).unsqueeze(-2)  # as torch has it from 26 rows on
        return (squares - 2 * (x @ y.mT)).clamp(min=0).sqrt()
    gaps = (x.unsqueeze(-2) - y.unsqueeze(-3)).abs()
    if p == 0:
        return (gaps != 0).to(x.dtype).sum(-1)
    if p == 1:
        return gaps.sum(-1)
    if p == 2:  # noqa: PLR2004 - the Euclidean norm
        return gaps.square().sum(-1).sqrt()
    return gaps.amax(-1) if p == math.inf else gaps.pow(p).sum(-1).pow(1 / p)


def _adaptive_avg_pool(x: Any, sizes: Any) -> Any:
    """Averages windows by one matrix product for each axis: the windows follow the input's size, whatever it is."""
    for axis, size in zip(range(-len(sizes), 0), sizes, strict=True):
        window = _windows(x.shape[axis], size, x.device).to(x.dtype)
        x = (x.movedim(axis, -1) @ (window / window.sum(1, keepdim=True)).T).movedim(-1, axis)
    return x


def _adaptive_max_pool2d(x: Any, sizes: Any) -> tuple[Any, Any]:
    """Takes the maximum of windows, columns first; indices count the elements of a plane in rows."""
    by_column, column = _window_max(x, sizes[1])
    values, row = _window_max(by_column.movedim(-2, -1), sizes[0])
    values, row = values.movedim(-1, -2), row.movedim(-1, -2)
    return values, row * x.shape[-1] + column.gather(-2, row)


def _window_max(x: Any, size: Any) -> tuple[Any, Any]:
    window = _windows(x.shape[-1], size, x.device)
    inside = torch.where(window, x.unsqueeze(-2), torch.full_like(x.unsqueeze(-2), _lowest(x.dtype)))
    return inside.amax(-1), inside.argmax(-1)


def _windows(size: Any, out: int, device: Any) -> Any:
    """Marks in (out, size) which elements each window of an adaptive pool takes: floor(i size / out) to ceil((i + 1) size / out)."""
    row, place = torch.arange(out, device=device).unsqueeze(1), torch.arange(size, device=device)
    return (place >= row * size // out) & (place < ((row + 1) * size + out - 1) // out)


def _zeros(size: Any, *, dtype: Any = None, device: Any = None, **rest: Any) -> Any:  # noqa: ARG001 - torch's signature
    """Builds complex zeros of two real parts: the exporter writes them as real."""
    if dtype is None or not dtype.is_complex:
        return NotImplemented
    part = torch.zeros(size, dtype=dtype.to_real(), device=device)
    return torch.complex(part, part)


def _frequencies(size: Any, count: Any, spacing: float, *, dtype: Any = None, device: Any = None, **rest: Any) -> Any:  # noqa: ARG001
    """Lists the first `count` sample frequencies of a transform; those from the middle on are negative, as torch.fft has them."""
    places = torch.arange(count, device=device)
    if count is size:  # a whole spectrum; half a one has no negative frequency
        places = torch.where(places >= (size + 1) // 2, places - size, places)
    return places.to(dtype or torch.get_default_dtype()) / (size * spacing)


def _attention(q: Any, k: Any, v: Any, mask: Any = None, *args: Any, **options: Any) -> Any:
    """Gives inputs without an axis of heads one: the exporter writes four axes only."""
    if q.ndim != 3:  # noqa: PLR2004 - batch, place, feature
        return NotImplemented
    mask = mask.unsqueeze(1) if mask is not None and mask.ndim == 3 else mask  # noqa: PLR2004
    return aten.scaled_dot_product_attention.default(*(one.unsqueeze(1) for one in (q, k, v)), mask, *args, **options).squeeze(1)


def _avg_pool2d(x: Any, size: Any, *args: Any) -> Any:
    """Divides by another number than the window's size: the exporter drops `divisor_override`."""
    if len(args) < 5 or args[4] is None:  # noqa: PLR2004 - stride, padding, ceil_mode, count_include_pad, divisor_override
        return NotImplemented
    if args[2]:
        return NotImplemented
    area = size[0] * size[-1] if len(size) > 1 else size[0] ** 2
    return aten.avg_pool2d.default(x, size, args[0], args[1], False, True) * (area / args[4])


def _index_reduce(x: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True) -> Any:
    shape = [1] * source.ndim
    shape[dim] = -1
    return x.scatter_reduce(dim, index.view(shape).expand(source.shape), source, reduce, include_self=include_self)


def _roll(x: Any, shifts: Any, dims: Any = ()) -> Any:
    """Picks each element's place where a shift is a size: the exporter takes numbers that it can read."""
    if not any(isinstance(shift, torch.SymInt) for shift in shifts) or not dims:
        return NotImplemented
    for shift, dim in zip(shifts, dims, strict=True):
        places = torch.arange(x.shape[dim], device=x.device) - shift
        x = x.index_select(dim, torch.remainder(places, torch.scalar_tensor(x.shape[dim], dtype=torch.int64)))
    return x


def _with_tensor(operator: Any, x: Any, number: Any) -> Any:
    """Makes a tensor of a size: the exporter takes numbers that it can read."""
    if not isinstance(number, torch.SymInt):
        return NotImplemented
    size: Any = number  # scalar_tensor's annotation knows plain numbers only
    return operator(x, torch.scalar_tensor(size, dtype=x.dtype, device=x.device))


def _shift(operator: Any, x: Any, bits: Any) -> Any:
    """Shifts bytes as wider integers: the exporter hands them on as signed ones."""
    return operator(x.to(torch.int32), bits).to(torch.uint8) if x.dtype == torch.uint8 else NotImplemented


def _index_put(x: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    """Widens int32 indices: ONNX ScatterND takes int64 only, and the exporter hands them on as they are."""
    if all(one is None or one.dtype != torch.int32 for one in indices):
        return NotImplemented
    return aten.index_put.default(x, [one if one is None else one.long() for one in indices], values, accumulate)


def _lowest(dtype: torch.dtype) -> float | int:
    return -math.inf if dtype.is_floating_point else torch.iinfo(dtype).min


def _highest(dtype: torch.dtype) -> float | int:
    return math.inf if dtype.is_floating_point else torch.iinfo(dtype).max

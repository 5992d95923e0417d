"""Operators that torch's ONNX exporter (2.13) does not know, or gets wrong, written in plainer ones.

Each takes its operator's own arguments, and returns NotImplemented where the exporter needs no help. Prefix operators compare every
pair of places, which is exact, takes any length, and costs the square of it.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

aten = torch.ops.aten

_GILES_MIDDLE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 2.1858087e-04,
    -1.25372503e-03, -4.17768164e-03, 0.246640727, 1.50140941,
)  # fmt: skip
_GILES_TAIL = (
    -2.00214257e-04, 1.00950558e-04, 1.34934322e-03, -3.67342844e-03, 5.73950773e-03,
    -7.6224613e-03, 9.43887047e-03, 1.00167406, 2.83297682,
)  # fmt: skip


def table() -> dict[Any, Callable[..., Any]]:
    """Maps each operator to its plainer form."""
    rules: dict[Any, Callable[..., Any]] = {
        aten.scatter_reduce.two: _scatter_reduce,
        aten.histc.default: _histc,
        aten.vdot.default: _vdot,
        aten.cummax.default: lambda x, dim: _running(x, dim, largest=True),
        aten.cummin.default: lambda x, dim: _running(x, dim, largest=False),
        aten.cumprod.default: _cumprod,
        aten.sort.stable: _sort,
        aten.median.default: lambda x: _kth(x.flatten(), (x.numel() + 1) // 2, 0, keepdim=False)[0],
        aten.median.dim: lambda x, dim, keepdim=False: _kth(x, (x.shape[dim] + 1) // 2, dim, keepdim=keepdim),
        aten.kthvalue.default: lambda x, k, dim=-1, keepdim=False: _kth(x, k, dim, keepdim=keepdim),
        aten.searchsorted.Tensor: _searchsorted,
        aten.bucketize.Tensor: lambda x, bounds, **options: _searchsorted(bounds, x, **options),
        aten.erfinv.default: _erfinv,
        aten.cdist.default: _cdist,
        aten.adaptive_avg_pool1d.default: _adaptive_avg_pool,
        aten.adaptive_avg_pool2d.default: _adaptive_avg_pool,
        aten.adaptive_avg_pool3d.default: _adaptive_avg_pool,
        aten.adaptive_max_pool1d.default: lambda x, size: _window_max(x, size[0]),
        aten.adaptive_max_pool2d.default: _adaptive_max_pool2d,
        aten.zeros.default: _zeros,
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


def _erfinv(x: Any) -> Any:
    """Evaluates the single-precision polynomials of Giles, "Approximating the erfinv function" (2010), and mends the middle.

    One step of Newton's method gains the last digits up to 0.9; beyond, erf itself has lost them.
    """
    w = -torch.log((1 - x) * (1 + x))
    y = x * torch.where(w < 5, _polynomial(_GILES_MIDDLE, w - 2.5), _polynomial(_GILES_TAIL, torch.sqrt(w.clamp(min=0)) - 3))  # noqa: PLR2004
    better = y - (torch.erf(y) - x) * (math.sqrt(math.pi) / 2) * torch.exp(y * y)
    y = torch.where(x.abs() < 0.9, better, y)  # noqa: PLR2004 - as above
    return torch.where(x.abs() == 1, x * torch.inf, y)


def _polynomial(coefficients: Any, x: Any) -> Any:
    """Evaluates a polynomial by Horner's rule, the highest power's coefficient first."""
    value = torch.full_like(x, coefficients[0])
    for one in coefficients[1:]:
        value = value * x + one
    return value


def _cdist(x: Any, y: Any, p: float = 2, compute_mode: int | None = None) -> Any:  # noqa: ARG001 - torch's signature
    if p == 2:  # noqa: PLR2004 - the Euclidean norm, which the exporter knows
        return NotImplemented
    gaps = (x.unsqueeze(-2) - y.unsqueeze(-3)).abs()
    if p == 0:
        return (gaps != 0).to(x.dtype).sum(-1)
    if p == 1:
        return gaps.sum(-1)
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


def _index_put(x: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    """Widens int32 indices: ONNX ScatterND takes int64 only, and the exporter hands them on as they are."""
    if all(one is None or one.dtype != torch.int32 for one in indices):
        return NotImplemented
    return aten.index_put.default(x, [one if one is None else one.long() for one in indices], values, accumulate)


def _lowest(dtype: torch.dtype) -> float | int:
    return -math.inf if dtype.is_floating_point else torch.iinfo(dtype).min


def _highest(dtype: torch.dtype) -> float | int:
    return math.inf if dtype.is_floating_point else torch.iinfo(dtype).max

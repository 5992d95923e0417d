"""Values like an example's, by its dtype, range and form: floats, integers, masks. numpy alone; a generator gives the same again.

`kind` is the case's: "like" the example, "small" (close together; masks with one on), "large" (far apart), "edges" (the ends of the range;
masks all on), "ties" (many alike), "grown" (indices reach the last row of a table that grew), "resampled" (the example's own values).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exportkit.spec import Case, Symbol

Array = NDArray[Any]

SPREADS = {"small": 0.03, "large": 3.0}
_FEW = 3  # a float input of at most so many distinct values is a mask or a flag


def floats(example: Array, shape: tuple[int, ...], rng: np.random.Generator, kind: str) -> Array:
    finite = example[np.isfinite(example)]
    distinct = np.unique(example)
    if finite.size == 0 and distinct.size == 0:
        return rng.standard_normal(shape)
    if distinct.size <= _FEW and (distinct.size > 1 or not np.isfinite(distinct).all()) and example.size > distinct.size:
        marked = example == distinct[-1]  # a mask in float: 0 and 1, or -inf and 0
        return np.where(mask(marked, shape, rng, kind), distinct[-1], rng.choice(distinct[:-1], shape))
    if kind == "resampled":
        return rng.choice(example.ravel(), shape)
    if distinct.size == 1 and example.size > 1:
        return np.asarray(rng.standard_normal(shape) if distinct[0] == 0 else distinct[0] * np.exp(rng.standard_normal(shape) / 2))
    if _is_simplex(example):
        raised = np.exp(rng.standard_normal(shape) * SPREADS.get(kind, 1.0))
        return np.asarray(raised / raised.sum(-1, keepdims=True))
    signed = finite.min() < 0 < finite.max() or finite.size == 1
    values = (_around if signed else _between)(finite, shape, rng, kind)
    if finite.size > 1 and bool((finite == finite.round()).all()):  # counts, grades, pixels
        values = values.round()
    return values if signed or not _is_sorted(example) else np.sort(values, -1)


def _around(finite: Array, shape: tuple[int, ...], rng: np.random.Generator, kind: str) -> Array:
    """Draws values of either sign: normal, with the example's mean and deviation."""
    if kind == "edges" and finite.size > 1:
        return np.asarray(rng.choice([finite.min(), finite.max()], shape))
    spread = float(finite.std()) or max(abs(float(finite.mean())), 1.0) / 2
    values: Array = finite.mean() + spread * SPREADS.get(kind, 1.0) * rng.standard_normal(shape)
    if kind == "ties" and finite.size > 1:
        step = 2.0 ** np.round(np.log2(spread))
        values = np.round(values / step) * step
    return np.abs(values) if finite.size == 1 and finite[0] > 0 else values


def _between(finite: Array, shape: tuple[int, ...], rng: np.random.Generator, kind: str) -> Array:
    """Draws values of one sign: from the example's range, thick where the example is."""
    if kind in ("edges", "ties"):
        return rng.choice([finite.min(), finite.max()] if kind == "edges" else rng.choice(finite, _FEW), shape)
    one, two, share = rng.choice(finite, shape), rng.choice(finite, shape), rng.random(shape)
    if kind == "small":
        one, share = np.asarray(rng.choice(finite)), share * SPREADS[kind]
    values: Array = one + share * (two - one)
    return values


def _is_simplex(example: Array) -> bool:
    return example.ndim > 0 and example.shape[-1] > 1 and bool((example >= 0).all()) and np.allclose(example.sum(-1), 1, atol=1e-4)


def _is_sorted(example: Array) -> bool:
    return example.ndim > 0 and example.shape[-1] > 2 and bool((np.diff(example, axis=-1) >= 0).all())  # noqa: PLR2004 - two may be by chance


def mask(example: Array, shape: tuple[int, ...], rng: np.random.Generator, kind: str) -> Array:
    """Draws a mask of the example's form: all on, causal, prefixes of rows, or its share of on; "small": one on, "edges": all on."""
    if example.size == 0 or example.ndim == 0 or example.size == 1 == int(np.prod(shape)):
        return np.asarray(rng.random(shape) < 0.5)  # noqa: PLR2004 - a coin
    if example.ndim == 1 and (example.all() or not example.any()):
        return np.full(shape, bool(example.all()))
    if (causal := _causal(example, shape)) is not None:
        return causal
    for values, flip in ((example, False), (~example, True)):
        if bool((values[..., :-1] >= values[..., 1:]).all()) and bool(values[..., 0].all()):
            prefix = np.arange(shape[-1]) < _lengths(values, shape, rng, kind)[..., None]
            return ~prefix if flip else prefix
    if kind == "small" and shape[-1]:
        return np.asarray(np.arange(shape[-1]) == rng.integers(0, shape[-1], (*shape[:-1], 1)))
    drawn: Array = rng.random(shape) < (1.0 if kind == "edges" else example.mean())
    if example.any(-1).all() and shape[-1]:
        drawn[..., 0] |= ~drawn.any(-1)
    return drawn


def _causal(example: Array, shape: tuple[int, ...]) -> Array | None:
    """Returns a triangle where the example is one."""
    if example.ndim > 1 and example.shape[-2] > 1 and not example.all() and example.any():
        for triangle in (np.tril, np.triu):
            for shift in (0, -1, 1):
                if np.array_equal(example, np.broadcast_to(triangle(np.ones(example.shape[-2:], bool), shift), example.shape)):
                    return np.ascontiguousarray(np.broadcast_to(triangle(np.ones(shape[-2:], bool), shift), shape))
    return None


def _lengths(example: Array, shape: tuple[int, ...], rng: np.random.Generator, kind: str) -> Array:
    """Draws how many are on in each row of a mask of prefixes."""
    if kind in ("small", "edges"):
        return np.full(shape[:-1], 1 if kind == "small" else shape[-1])
    lengths = np.asarray(rng.integers(1, max(shape[-1], 1) + 1, shape[:-1]))
    if lengths.size > 1 and example.all(-1).any():
        lengths.reshape(-1)[0] = shape[-1]
    if lengths.size and shape[-1] > 1:  # a mask all on would hide what it is for, and which sizes it goes with
        lengths.reshape(-1)[-1] = rng.integers(1, shape[-1])
    return lengths


def integers(example: Array, shape: tuple[int, ...], rng: np.random.Generator, symbols: Sequence[Symbol], case: Case) -> Array:
    if example.size == 0:
        return np.zeros(shape, example.dtype)
    low, high = int(example.min()), int(example.max())
    if ((low, high) == (0, 1) and example.ndim) or (low == high == 1 and example.ndim > 1):  # the second: an attention mask, all on
        return mask(example == 1, shape, rng, case.kind).astype(example.dtype)
    if example.ndim and example.shape[-1] > 1 and np.array_equal(example, np.broadcast_to(np.arange(example.shape[-1]), example.shape)):
        return np.ascontiguousarray(np.broadcast_to(np.arange(shape[-1], dtype=example.dtype), shape))
    if case.kind == "resampled":  # not a mask: one that is all on would hide which sizes it goes with
        return rng.choice(example.ravel(), shape)
    if low == high == 0 and example.size > 1:  # a dummy: the values that it stands for are not all zero
        high = 1
    low, high, full = _bounds(example, low, high, symbols, case)
    values = _whole(low, high, shape, rng, case.kind).astype(example.dtype)
    if full and values.size:
        values.reshape(-1)[0] = high
    if example.ndim == 1 and low < high:
        steps = np.diff(example.astype(np.float64))
        if example.size > 1 and (steps <= 0).all() and steps.any():
            values = np.sort(values)[::-1]
        elif example.size > 2 and (steps >= 0).all() and steps.any():  # noqa: PLR2004 - two may be by chance
            values = np.sort(values)
    return np.ascontiguousarray(values)


def _whole(low: int, high: int, shape: tuple[int, ...], rng: np.random.Generator, kind: str) -> Array:
    if kind in ("small", "edges", "ties") and shape:
        few = {"small": 1, "ties": _FEW}.get(kind, 2)
        return np.asarray(rng.choice([low, high] if kind == "edges" else rng.integers(low, high, few, endpoint=True), shape))
    return np.asarray(rng.integers(low, high, shape, endpoint=True))


def _bounds(example: Array, low: int, high: int, symbols: Sequence[Symbol], case: Case) -> tuple[int, int, bool]:
    """Keeps relations to sizes: a length is at most its size, an index below its row count."""
    full = False
    for symbol in symbols:
        size = case.sizes.get(symbol.name, symbol.size)
        is_length = example.ndim == 1 and high == symbol.size and example.shape[0] != symbol.size
        if is_length:
            high, full = size, True
        elif high < symbol.size and low < size < symbol.size:
            high = min(high, size - 1)
    grown = [case.sizes[symbol.name] for symbol in symbols if case.kind == "grown" and int(example.max()) == symbol.size - 1]
    high = max(high, min(grown) - 1) if grown else high
    return min(low, high), high, full

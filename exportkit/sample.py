"""Cases: which sizes to try, and values like the example's. Bit for bit reproducible from a case alone."""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from exportkit.spec import Case, Network, Symbol

Array = NDArray[Any]
_PRIMES = (
    2,
    3,
    5,
    7,
    11,
    13,
    17,
    19,
    23,
    29,
    31,
    37,
    41,
    43,
    47,
    53,
    59,
    61,
    67,
    71,
    73,
    79,
    83,
    89,
    97,
    101,
    103,
    107,
    109,
    113,
    127,
    131,
)
_FEW = 3  # a float input of at most so many distinct values is a mask or a flag
_GROWTH = 6  # a case holds at most so many times the example's elements
_SAME_SIZE_DRAWS = 2
# Besides draws like the example: values close together, far apart, at the ends of the example's range, and many alike. What an epsilon,
# a clamp, a comparison or an order of equal values does shows there alone.
_VARIANTS = ("small", "large", "edges", "ties")
_SPREADS = {"small": 0.03, "large": 3.0}
_ALONE = 3  # so many dimensions also vary one at a time
_FAR, _MOST_ELEMENTS = 131, 1 << 17  # a size far beyond the example's, where a branch on sizes may hide; inputs of at most so many elements


def plan(network: Network, checks: int) -> tuple[Case, ...]:
    """Plans the cases: the example, the user's checks, draws at its sizes, at unseen sizes, and outside the domain.

    Args:
        network: with its symbols.
        checks: the number of the user's `check_inputs`.
    """
    example = {symbol.name: symbol.size for symbol in network.symbols}
    cases = [Case("example", example, "example", "inside", 0)]
    cases += [Case(f"check-{number}", {}, "check", "inside", number) for number in range(checks)]
    if not network.inputs:
        return tuple(cases)
    same = _SAME_SIZE_DRAWS if network.symbols else 2 * _SAME_SIZE_DRAWS
    cases += [Case(f"like-{number}", example, "like", "inside", 1 + number) for number in range(same)]
    cases += [Case(kind, example, kind, "inside", 50 + place) for place, kind in enumerate(_VARIANTS)]
    for number, sizes in enumerate(_unseen(network)):
        cases.append(Case(f"sizes-{number}", sizes, "like", "inside", 100 + number))
    for number, sizes in enumerate(_far(network)):
        cases.append(Case(f"far-{number}", sizes, "like", "inside", 150 + number))
    cases += [Case(kind, example, kind, "outside", 200 + place) for place, kind in enumerate(_outside(network))]
    return tuple(cases)


def sizes_for_capture(symbols: Sequence[Symbol]) -> dict[str, int]:
    """Chooses sizes to export with: the example's, but not 0 or 1 and no two alike, which an exporter would take for a law."""
    chosen: dict[str, int] = {}
    for symbol in symbols:
        size = symbol.size
        while size < 2 or size in chosen.values():  # noqa: PLR2004 - exporters take 0 and 1 for constants
            size += symbol.step
        chosen[symbol.name] = size if symbol.high is None or size <= symbol.high else symbol.size
    return chosen


def draw(live: Any, symbols: Sequence[Symbol], case: Case) -> dict[str, torch.Tensor]:
    """Draws a case's inputs (`live` is a `load.Live`): the example itself, a check's, or values like the example's at the case's sizes."""
    if case.kind == "example":
        return {name: value.clone() for name, value in live.example.items()}
    if case.kind == "check":
        return {name: value.clone() for name, value in live.check_inputs[case.seed].items()}
    return {name: draw_one(name, value, symbols, case) for name, value in live.example.items()}


def draw_one(name: str, example: torch.Tensor, symbols: Sequence[Symbol], case: Case) -> torch.Tensor:
    """Draws one input of a case."""
    shape = list(example.shape)
    for symbol in symbols:
        for place, axis, offset in symbol.places:
            if place == name:
                shape[axis] = case.sizes.get(symbol.name, symbol.size) + offset
    rng = np.random.default_rng([case.seed, zlib.crc32(name.encode())])
    if case.kind == "resampled" and example.numel() and example.dtype != torch.bool:
        return example.flatten()[torch.from_numpy(rng.integers(0, example.numel(), shape))].reshape(shape)
    if example.dtype == torch.bool:
        values = _mask(example.numpy(), tuple(shape), rng, case.kind)
    elif example.dtype.is_complex:
        values = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) * _SPREADS.get(case.kind, 1.0)
    elif example.dtype.is_floating_point:
        values = _floats(example.double().numpy(), tuple(shape), rng, case.kind)
    else:
        values = _integers(example.numpy(), tuple(shape), rng, symbols, case)
    tensor = torch.from_numpy(np.array(values, order="C")).reshape(shape)  # a copy: a reversed view of one element counts as contiguous
    return _outside_value(tensor, example, case.kind).to(example.dtype)


def _unseen(network: Network) -> Iterator[dict[str, int]]:
    """Yields sizes that the export never saw: 1, a prime, larger than the example, alone and together."""
    symbols = network.symbols
    seen: list[dict[str, int]] = [{symbol.name: symbol.size for symbol in symbols}, sizes_for_capture(symbols)]
    choices: list[Callable[[Symbol, int], int]] = [
        lambda symbol, _: _allowed(symbol, 1),
        lambda symbol, place: _allowed(symbol, _prime(symbol.size + 1 + 2 * place)),
        lambda symbol, place: _allowed(symbol, 2 * symbol.size + 1 + place),
        lambda symbol, place: _allowed(symbol, 1 if place % 2 else symbol.size + 3),
        lambda symbol, place: _allowed(symbol, symbol.size + 4 if place % 2 else 1),
        lambda symbol, place: _allowed(symbol, _prime(max(2, symbol.size // 2) + place)),
        lambda symbol, place: _allowed(symbol, symbol.size + 2 + place),
    ]
    together = [{symbol.name: choose(symbol, place) for place, symbol in enumerate(symbols)} for choose in choices]
    # Each alone, too: an artifact that keeps one dimension and loses another is judged at the other's own size.
    alone = [{**seen[0], one.name: size} for one in symbols[:_ALONE] for size in {choices[1](one, 0), choices[2](one, 0)}]
    for sizes in [*together, *(alone if len(symbols) > 1 else [])]:
        if sizes not in seen and _elements(network, sizes) <= max(_GROWTH * _elements(network, seen[0]), 4096):
            seen.append(sizes)
            yield sizes


def _far(network: Network) -> Iterator[dict[str, int]]:
    """Yields sizes far beyond the example's, one symbol at a time: the largest that was asked for, or one that an exporter never saw."""
    example = {symbol.name: symbol.size for symbol in network.symbols}
    for symbol in network.symbols[:_ALONE]:
        one = _elements(network, {**example, symbol.name: symbol.size + symbol.step}) - _elements(network, example)
        most = symbol.size + max(0, _MOST_ELEMENTS - _elements(network, example)) // max(one, 1) * symbol.step
        for size in {_allowed(symbol, min(_FAR, most)), _allowed(symbol, min(symbol.high or 0, most))}:
            if size > 4 * symbol.size:
                yield {**example, symbol.name: size}


def _allowed(symbol: Symbol, size: int) -> int:
    """Moves a size to the nearest one that the symbol may have, its example's excepted where another is near."""
    size = symbol.size + -(-(size - symbol.size) // symbol.step) * symbol.step
    lowest = symbol.size - (symbol.size - max(symbol.low, 1)) // symbol.step * symbol.step
    size = max(size, lowest)
    if symbol.high is not None:
        size = min(size, symbol.high - (symbol.high - symbol.size) % symbol.step)
    return size


def _prime(at_least: int) -> int:
    return next((prime for prime in _PRIMES if prime >= at_least), at_least | 1)


def _elements(network: Network, sizes: Mapping[str, int]) -> int:
    total = 0
    for spec in network.inputs:
        shape = [int(size) for size in spec.shape]
        for symbol in network.symbols:
            for name, axis, offset in symbol.places:
                if name == spec.name:
                    shape[axis] = sizes[symbol.name] + offset
        total += int(np.prod(shape, dtype=np.int64))
    return total


def _outside(network: Network) -> list[str]:
    kinds = []
    if any(spec.dtype.startswith(("float", "bfloat")) for spec in network.inputs):
        kinds += ["zeros", "huge", "nan"]
    if any(spec.dtype == "bool" for spec in network.inputs):
        kinds.append("masked")
    if any(spec.dtype.startswith("int") for spec in network.inputs):
        kinds += ["negative-index", "large-index"]
    return kinds


def _outside_value(drawn: torch.Tensor, example: torch.Tensor, kind: str) -> torch.Tensor:
    floating = example.dtype.is_floating_point
    if kind == "zeros" and floating:
        return torch.zeros_like(drawn)
    if kind == "huge" and floating:
        return drawn * 1e4
    if kind == "nan" and floating and drawn.numel():
        drawn.view(-1)[0] = float("nan")
    if kind == "masked" and example.dtype == torch.bool:
        return torch.zeros_like(drawn)
    if kind in ("negative-index", "large-index") and drawn.numel() and example.dtype in (torch.int32, torch.int64):
        drawn.view(-1)[0] = -1 if kind == "negative-index" else int(example.max()) + 1009  # not huge: it may be a size
    return drawn


def _floats(example: Array, shape: tuple[int, ...], rng: np.random.Generator, kind: str) -> Array:
    finite = example[np.isfinite(example)]
    distinct = np.unique(example)
    if finite.size == 0 and distinct.size == 0:
        return rng.standard_normal(shape)
    if distinct.size <= _FEW and (distinct.size > 1 or not np.isfinite(distinct).all()) and example.size > distinct.size:
        marked = example == distinct[-1]  # a mask in float: 0 and 1, or -inf and 0
        return np.where(_mask(marked, shape, rng, kind), distinct[-1], rng.choice(distinct[:-1], shape))
    if distinct.size == 1 and example.size > 1:
        return np.asarray(rng.standard_normal(shape) if distinct[0] == 0 else distinct[0] * np.exp(rng.standard_normal(shape) / 2))
    if _is_simplex(example):
        raised = np.exp(rng.standard_normal(shape) * _SPREADS.get(kind, 1.0))
        return np.asarray(raised / raised.sum(-1, keepdims=True))
    signed = finite.min() < 0 < finite.max() or finite.size == 1
    values = (_around if signed else _between)(finite, shape, rng, kind)
    if finite.size > 1 and np.array_equal(finite, np.round(finite)):  # counts, grades, pixels
        values = np.round(values)
    return values if signed else np.sort(values, -1) if _is_sorted(example) else values


def _around(finite: Array, shape: tuple[int, ...], rng: np.random.Generator, kind: str) -> Array:
    """Draws values of either sign: normal, with the example's mean and deviation."""
    if kind == "edges" and finite.size > 1:
        return np.asarray(rng.choice([finite.min(), finite.max()], shape))
    spread = float(finite.std()) or max(abs(float(finite.mean())), 1.0) / 2
    values: Array = finite.mean() + spread * _SPREADS.get(kind, 1.0) * rng.standard_normal(shape)
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
        one, share = np.asarray(rng.choice(finite)), share * _SPREADS[kind]
    return np.asarray(one + share * (two - one))


def _is_simplex(example: Array) -> bool:
    return example.ndim > 0 and example.shape[-1] > 1 and bool((example >= 0).all()) and np.allclose(example.sum(-1), 1, atol=1e-4)


def _is_sorted(example: Array) -> bool:
    return example.ndim > 0 and example.shape[-1] > 2 and bool((np.diff(example, axis=-1) >= 0).all())  # noqa: PLR2004 - two may be by chance


def _mask(example: Array, shape: tuple[int, ...], rng: np.random.Generator, kind: str) -> Array:
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


def _integers(example: Array, shape: tuple[int, ...], rng: np.random.Generator, symbols: Sequence[Symbol], case: Case) -> Array:
    if example.size == 0:
        return np.zeros(shape, example.dtype)
    low, high = int(example.min()), int(example.max())
    if ((low, high) == (0, 1) and example.ndim) or (low == high == 1 and example.ndim > 1):  # the second: an attention mask, all on
        return _mask(example == 1, shape, rng, case.kind).astype(example.dtype)
    if example.ndim and example.shape[-1] > 1 and np.array_equal(example, np.broadcast_to(np.arange(example.shape[-1]), example.shape)):
        return np.ascontiguousarray(np.broadcast_to(np.arange(shape[-1], dtype=example.dtype), shape))
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
    return low, high, full

"""Cases: which sizes to try, and values like the example's. Bit for bit reproducible from a case alone."""

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from exportkit import draws
from exportkit.spec import Case, Network, Symbol

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
_GROWTH = 6  # a case holds at most so many times the example's elements
_SAME_SIZE_DRAWS = 2
# Besides draws like the example: values close together, far apart, at the ends of the example's range, and many alike. What an epsilon,
# a clamp, a comparison or an order of equal values does shows there alone.
_VARIANTS = ("small", "large", "edges", "ties")
_ROWS = 31
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
    cases += [Case("grown", sizes, "grown", "inside", 60) for sizes in _grown(network)]
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
    if example.dtype == torch.bool:
        values = draws.mask(example.numpy(), tuple(shape), rng, case.kind)
    elif example.dtype.is_complex:
        values = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) * draws.SPREADS.get(case.kind, 1.0)
    elif example.dtype.is_floating_point:
        values = draws.floats(example.double().numpy(), tuple(shape), rng, case.kind)
    else:
        values = draws.integers(example.numpy(), tuple(shape), rng, symbols, case)
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
    # Each alone, too: an artifact that keeps one dimension and loses another is judged at the other's own size, and one that
    # takes a single row of a long sequence is not thought to refuse single rows because of short sequences.
    alone = [{**seen[0], one.name: size} for one in symbols[:_ALONE] for size in sorted({choose(one, 0) for choose in choices[:3]})]
    for sizes in [*together, *(alone if len(symbols) > 1 else []), *_many(network)]:
        if sizes not in seen and _affordable(network, sizes, seen[0]):
            seen.append(sizes)
            yield sizes


def _far(network: Network) -> Iterator[dict[str, int]]:
    """Yields sizes far beyond the example's, one symbol at a time: the largest that was asked for, or one that an exporter never saw."""
    example = {symbol.name: symbol.size for symbol in network.symbols}
    usual = elements(network, network.symbols, example)
    for symbol in network.symbols[:_ALONE]:
        one = elements(network, network.symbols, {**example, symbol.name: symbol.size + symbol.step}) - usual
        most = symbol.size + max(0, _MOST_ELEMENTS - usual) // max(one, 1) * symbol.step
        for size in {_allowed(symbol, min(_FAR, most)), _allowed(symbol, min(symbol.high or 0, most))}:
            if size > 4 * symbol.size:
                yield {**example, symbol.name: size}


def _many(network: Network) -> Iterator[dict[str, int]]:
    """Yields a batch of many rows: what shows in one row of twenty, a near tie decided otherwise, hardly shows in the few of the others."""
    example = {symbol.name: symbol.size for symbol in network.symbols}
    for symbol in network.symbols:
        if all(axis == 0 for _, axis, _ in symbol.places):
            sizes = [{**example, symbol.name: _allowed(symbol, size)} for size in (_ROWS, _GROWTH * symbol.size)]
            yield from [one for one in sizes if one[symbol.name] > symbol.size and _affordable(network, one, example)][:1]
            return


def _grown(network: Network) -> Iterator[dict[str, int]]:
    """Yields larger sizes at which indices reach as far as they did: to the last row."""
    sizes = {symbol.name: _allowed(symbol, 2 * symbol.size + 1 + place) for place, symbol in enumerate(network.symbols)}
    example = {symbol.name: symbol.size for symbol in network.symbols}
    if any(spec.dtype in ("int32", "int64") and spec.shape for spec in network.inputs) and _affordable(network, sizes, example):
        yield sizes


def _affordable(network: Network, sizes: Mapping[str, int], example: Mapping[str, int]) -> bool:
    most = max(_GROWTH * elements(network, network.symbols, example), 4096)
    return sizes != example and elements(network, network.symbols, sizes) <= most


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


def elements(network: Network, symbols: Sequence[Symbol], sizes: Mapping[str, int]) -> int:
    """Counts the elements of all inputs at these sizes."""
    places = {(name, axis): sizes[symbol.name] + offset for symbol in symbols for name, axis, offset in symbol.places}
    return sum(math.prod(places.get((spec.name, axis), int(size)) for axis, size in enumerate(spec.shape)) for spec in network.inputs)


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

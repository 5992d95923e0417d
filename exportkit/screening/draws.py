"""Inputs drawn from a signature alone: nobody tells which values a network takes, so that a few kinds are tried."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from exportkit.errors import RejectedError
from exportkit.spec import Dimension, TensorSpec

COUNTING = -1
_MOST_ELEMENTS = 1 << 26
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23)
_RANK = 2  # where the signature tells none
_SUM = re.compile(r"(\w+) ?([+*-]) ?(\d{1,6})")
_SEQUENCE = 2  # elements
_TOP = 100  # no index is counted up to more, and every integer type holds it


@dataclass(frozen=True, slots=True)
class Draw:
    """One way to draw.

    Attributes:
        named: the size of every named symbol; 0 gives each its own.
        unnamed: the size of every dimension that has no name; 0 gives each its own.
        integer: the value of every integer: 1 is an index, a size and a step, 0 an index where 1 is too many; `COUNTING` counts up from
            0, as axes do.
        floating: the value of every float: 1 is a scale, 1/2 a probability; None draws from the normal distribution.
    """

    named: int
    unnamed: int
    integer: int
    floating: float | None = None
    sizes: dict[str, int] = field(default_factory=dict)


def draws() -> Iterator[Draw]:
    """Yields the ways to draw, the most telling one first."""
    for named, unnamed in ((0, 0), (0, 1), (1, 1), (2, 2), (8, 8), (64, 64), (224, 224)):
        for integer in (1, 0, COUNTING):
            yield Draw(named, unnamed, integer)
    for floating in (1.0, 0.5):
        for integer in (1, 0, COUNTING):
            yield Draw(2, 2, integer, floating)


def draw(specs: Sequence[TensorSpec], way: Draw) -> dict[str, Any]:
    """Draws a value for each input; the same for the same signature.

    Raises:
        RejectedError: an input is larger than any check can afford, or of a kind that nothing can draw.
    """
    random = np.random.default_rng(0)
    return {spec.name: _value(spec, way, random) for spec in specs}


def _value(spec: TensorSpec, way: Draw, random: np.random.Generator) -> Any:
    dtype = spec.dtype
    for prefix in ("optional_", "sequence_"):
        if dtype.startswith(prefix):
            inner = TensorSpec(spec.name, dtype.removeprefix(prefix), spec.shape)
            count = _SEQUENCE if prefix == "sequence_" else 1
            values = [_value(inner, way, random) for _ in range(count)]
            return values if prefix == "sequence_" else values[0]
    shape = tuple(_size(size, way) for size in (spec.shape if spec.shape != ("...",) else ("?",) * _RANK))
    if math.prod(shape) > _MOST_ELEMENTS:
        raise RejectedError(f"input {spec.name} has {math.prod(shape):,} elements by its signature: more than a check can afford")
    return _fill(dtype, shape, way, random)


def _fill(dtype: str, shape: tuple[int, ...], way: Draw, random: np.random.Generator) -> Any:
    if dtype == "str":
        return np.full(shape, "1", object)
    if dtype == "bool":
        return random.random(shape) < 0.5 if way.floating is None else np.full(shape, way.integer > 0)  # noqa: PLR2004 - even odds
    if dtype.startswith(("int", "uint")):
        values = np.arange(math.prod(shape)).reshape(shape) % _TOP if way.integer == COUNTING else np.full(shape, way.integer)
        return values.astype(_type(dtype))
    values = random.standard_normal(shape) if way.floating is None else np.full(shape, way.floating)
    return values.astype(_type(dtype))


def _type(dtype: str) -> Any:
    try:
        return np.dtype(dtype)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, dtype))


def _size(size: Dimension, way: Draw) -> int:
    """Gives a dimension its size; "past + 1", as exporters write it, follows the symbol."""
    if isinstance(size, int):
        return size
    if size == "?":
        return way.unnamed or _PRIMES[len(way.sizes) % len(_PRIMES)]
    if found := _SUM.fullmatch(size):
        base, sign, number = _size(found[1], way) if not found[1].isdigit() else int(found[1]), found[2], int(found[3])
        return max({"+": base + number, "-": base - number, "*": base * number}[sign], 0)
    return way.sizes.setdefault(size, way.named or _PRIMES[len(way.sizes) % len(_PRIMES)])

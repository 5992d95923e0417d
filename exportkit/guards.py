"""The guards of an exported program: the side of each branch on a size that torch.export took, and asks about no more.

torch.export records the conditions on symbolic sizes that decided its way through forward (`ShapeEnv.guards` in
torch/fx/experimental/symbolic_shapes.py). Bounds of one size become the program's ranges. The others, `n != 700` say, it drops, and the
program answers where they do not hold.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import sympy
import torch
from torch.export import ExportedProgram
from torch.utils._sympy.printers import PythonPrinter

from exportkit import diagnosis
from exportkit.spec import Symbol

_ASSUMED = 2  # torch.export reasons as if no size were 0 or 1, and its programs take both
_TRIED = 4  # sizes of each guard
_SMALL = range(1, 131)
_LARGEST = 13  # as a power of two: attention over more takes gigabytes


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition that a program holds to.

    Attributes:
        text: in the symbols' names: "time != 700".
        where: "net.py:12", the user's line that asked; "" where none is known.
        alone: sizes by symbol within the program's ranges that break it, the smallest first: one of them is not the usual one.
        together: the same size of every dimension but the rows, for conditions of which the first of two is noted (`h % 32 or w % 32`).
    """

    text: str
    where: str
    alone: tuple[dict[str, int], ...]
    together: tuple[dict[str, int], ...]


@dataclass(frozen=True, slots=True)
class _Varying:
    """One of our symbols, and torch's own, of which the size of an axis is computed.

    Attributes:
        value: torch's symbol, computed from ours.
        low: the least and the most that torch's symbol may be.
    """

    symbol: Symbol
    value: sympy.Expr
    low: int
    high: float

    def at(self, size: int) -> sympy.Expr | None:
        """Returns what torch's symbol is at a size of ours; None where either may not be so."""
        symbol = self.symbol
        if size < symbol.low or (symbol.high is not None and size > symbol.high) or (size - symbol.size) % symbol.step:
            return None
        value = self.value.xreplace({_named(symbol): sympy.Integer(size)})
        return value if value.is_integer and self.low <= value <= self.high else None


def breakable(
    program: ExportedProgram, tensors: Mapping[str, torch.Tensor], symbols: Sequence[Symbol], usual: dict[str, int]
) -> Iterator[Guard]:
    """Yields the guards that sizes within the ranges of a program and of the symbols break.

    What takes two unusual sizes that are not the same to break is not found, nor what takes a size above 8,192.

    Args:
        program: as torch.export returned it; a loaded one has lost its guards.
        tensors: the program's stand-ins, by input name.
        symbols: the sizes that vary.
        usual: a size of each, by symbol, that the program was captured with.
    """
    varying = dict(_varying(program, tensors, symbols))
    told = set()
    for environment in _environments(tensors):
        for recorded in environment.guards:
            condition = environment.replace(recorded.expr)
            if condition in told or not condition.free_symbols or not condition.free_symbols <= varying.keys():
                continue
            told.add(condition)
            alone = [(one,) for one in sorted(condition.free_symbols, key=str)]
            wide = tuple(own for own, one in varying.items() if any(axis for _, axis, _ in one.symbol.places))
            together = [wide] if len(wide) > 1 else []
            found = [tuple(islice(_breaking(condition, varying, usual, groups), _TRIED)) for groups in (alone, together)]
            if any(found):
                text = PythonPrinter().doprint(condition.subs({name: one.value for name, one in varying.items()}))
                yield Guard(text, _line(recorded), *found)


def _environments(tensors: Mapping[str, torch.Tensor]) -> list[Any]:
    """Lists where torch keeps what it assumed of these sizes: one `ShapeEnv`, or none where no size varies."""
    sizes: list[Any] = [size for value in tensors.values() for size in value.shape if isinstance(size, torch.SymInt)]
    return list({id(size.node.shape_env): size.node.shape_env for size in sizes}.values())


def _varying(
    program: ExportedProgram, tensors: Mapping[str, torch.Tensor], symbols: Sequence[Symbol]
) -> Iterator[tuple[sympy.Symbol, _Varying]]:
    for symbol in symbols:
        name, axis, offset = symbol.places[0]
        shape: Sequence[Any] = tensors[name].shape
        size = shape[axis]
        if isinstance(size, int) or len(size.node.expr.free_symbols) != 1:
            continue  # fixed, or of two symbols at once
        (own,) = size.node.expr.free_symbols
        values = sympy.solve(size.node.expr - offset - _named(symbol), own)
        bounds = program.range_constraints.get(own)
        if len(values) == 1 and bounds is not None:
            low = 0 if bounds.lower <= _ASSUMED else bounds.lower
            yield own, _Varying(symbol, values[0], low, bounds.upper)


def _named(symbol: Symbol) -> sympy.Symbol:
    return sympy.Symbol(symbol.name, integer=True, positive=True)


def _breaking(
    condition: Any, varying: Mapping[Any, _Varying], usual: dict[str, int], groups: Sequence[Sequence[Any]]
) -> Iterator[dict[str, int]]:
    """Yields sizes at which a condition is false, the smallest first: those of one group are the same, the others as usual."""
    values = {own: at for own, one in varying.items() if (at := one.at(usual[one.symbol.name])) is not None}
    for size in _candidates(condition, usual):
        for group in groups:
            moved = {own: at for own in group if (at := varying[own].at(size)) is not None}
            if moved and condition.xreplace(values | moved) == sympy.false:
                yield usual | {varying[own].symbol.name: size for own in moved}


def _candidates(condition: Any, usual: Mapping[str, int]) -> list[int]:
    """Lists sizes on both sides of what a condition may ask: small ones, powers of two, its own numbers, their roots, what two make."""
    numbers = {abs(float(number)) for number in condition.atoms(sympy.Number)} | set(map(float, usual.values()))
    made = {operation for one in numbers for other in numbers for operation in (one * other, one + other, one / other if other else 0.0)}
    made |= {number**0.5 for number in numbers} | {2.0**power for power in range(_LARGEST + 1)}
    near = {int(number) + more for number in numbers | made if number <= 1 << _LARGEST for more in (-1, 0, 1, 2)}
    return sorted(size for size in near | {*_SMALL} if size > 0)


def _line(recorded: Any) -> str:
    frame = recorded.sloc.framework_loc  # a text where torch itself asked
    return "" if frame is None or isinstance(frame, str) else diagnosis.innermost([(frame.filename, frame.lineno)], [])

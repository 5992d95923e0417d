"""A loop whose number of steps is known when it starts, as torch's `scan`."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import sympy
import torch

from exportkit.control_flow import lists, scalars
from exportkit.control_flow.carries import (
    GAINED,
    KEPT,
    Carried,
    Loop,
    check_lasting,
    ended,
    entered,
    gains_of,
    has_room,
    is_single,
    left,
    settled,
)
from exportkit.control_flow.lists import Buffer, Rows
from exportkit.control_flow.scalars import as_tensor, is_tensor
from exportkit.control_flow.structure import Operands, fresh, take_apart

_scan = torch.ops.higher_order.scan
_cond = torch.ops.higher_order.cond


def scanned(count: Any, loop: Loop, start: tuple[Any, ...]) -> tuple[Any, ...]:
    """Calls `scan`; where there may be no step at all, inside of a `cond`, since neither torch nor onnxruntime scans nothing.

    A list that gets nobody knows how many elements is counted by a first run of the loop.
    """
    grows = [place for place, one in enumerate(loop.carried) if one.mode == "grown" and not has_room(start[place])]
    if loop.appends is not None or not grows:
        return _scanned(count, loop, start, count)
    tallies = _scanned(count, loop, start, None)
    most = functools.reduce(scalars.largest_of, [lists.length(tallies[place]) for place in grows])
    return _scanned(count, replace(loop, appends=1), start, most)


def _scanned(count: Any, loop: Loop, start: tuple[Any, ...], most: Any) -> tuple[Any, ...]:
    before = start
    start, gains = settled(loop, start, most)
    kept = [place for place, one in enumerate(loop.carried) if one.mode in KEPT]
    leaves, build = take_apart([start[place] for place in kept])
    operands = Operands(*loop.captured)
    leaves = leaves or [torch.zeros((), dtype=torch.int64)]  # scan wants to carry something
    appended: dict[int, Any] = {}
    single: set[int] = set()

    def step(*given: Any) -> tuple[Any, ...]:
        carry, at, rest = given[: len(leaves)], given[len(leaves)], given[len(leaves) + 1 :]
        rows, captured = rest[: len(rest) - len(operands.values)], operands.build(rest[len(rest) - len(operands.values) :])
        values = [[] if one.mode in GAINED else value for value, one in zip(start, loop.carried, strict=True)]
        held = dict(zip(kept, build(iter(carry)) if kept else (), strict=True))
        for place in kept:
            values[place] = entered(held[place], loop.carried[place])
        out = loop.step(at, rows, values, captured)
        single.update(place for place, one in enumerate(loop.carried) if one.mode in GAINED and is_single(out[place]))
        appended.update({place: out[place].gained for place in kept if isinstance(out[place], Buffer)})
        new = take_apart([left(held[place], out[place], loop.carried[place]) for place in kept])[0] if kept else list(carry)
        check_lasting(new, leaves)
        return (*(fresh(one.to(old.dtype)) for one, old in zip(new, leaves, strict=True)), *map(fresh, gains_of(loop, out)))

    def run(size: Any, carry: Sequence[Any], given: Sequence[Any]) -> tuple[Any, ...]:
        steps = torch.arange(size)
        rows = loop.rows_at(steps, operands.build(given))
        return tuple(_scan(step, [fresh(one) for one in carry], [steps, *rows], tuple(given)))

    if count > 0 if isinstance(count, int) else scalars.is_positive(count):
        results = run(count, leaves, operands.values)
    else:
        results = _guarded(count, run, leaves, operands.values, gains)
    last = build(iter(results[: len(leaves)])) if kept else []
    values = dict(zip(kept, last, strict=True))
    for place, each in appended.items():
        if loop.carried[place].mode == "grown" and isinstance(each, int) and not has_room(before[place]):
            values[place] = _counted(values[place], before[place], count, each)
    return _finished(loop, before, start, values, list(results[len(leaves) :]), single)


def _counted(grown: Buffer, before: Any, count: Any, each: int) -> Any:
    """Returns a list to which each step appended so many elements: its length is known."""
    held = lists.length(before)
    if is_tensor(held):
        return grown
    size = scalars.add(held, scalars.mul(scalars.largest([count, 0]), each))
    return Rows((grown.room.narrow(0, 0, size),))


def _guarded(count: Any, run: Callable[..., tuple[Any, ...]], leaves: list[Any], operands: list[Any], gains: list[Any]) -> tuple[Any, ...]:
    """Runs a loop only where it has a step; else gives what it starts from, and no rows."""
    both = Operands(count, leaves, operands, [list(one.shape) for one in gains])

    def some(*given: Any) -> tuple[Any, ...]:
        size, carry, rest, _ = both.build(given)
        return tuple(fresh(one) for one in run(size, carry, rest))

    def none(*given: Any) -> tuple[Any, ...]:
        size, carry, _, shapes = both.build(given)
        rows = [_no_rows(size, shape, one.dtype) for shape, one in zip(shapes, gains, strict=True)]
        return tuple(fresh(one) for one in [*carry, *rows])

    return tuple(_cond(as_tensor(count) > 0, some, none, tuple(both.values)))


def _no_rows(count: Any, shape: list[Any], dtype: torch.dtype) -> torch.Tensor:
    """Makes `count` rows, where that is 0, or below it as `range(2, 1)` counts: cut from a tensor that is never of negative size."""
    low = 0
    if isinstance(count, torch.SymInt):
        constant = count.node.expr.as_coeff_Add()[0]
        low = max(0, -int(constant)) if isinstance(constant, sympy.Integer) else 0
    whole = torch.zeros([count + low, *shape], dtype=dtype)
    return whole[low:] if low else whole


def _finished(
    loop: Loop, before: Sequence[Any], start: Sequence[Any], last: dict[int, Any], gains: list[Any], single: set[int]
) -> tuple[Any, ...]:
    values: list[Any] = []
    for place, one in enumerate(loop.carried):
        if one.mode in GAINED:
            rows = gains.pop(0) if one.mode == "appended" else gains.pop(0).flip(0)
            gained = Rows((rows if place in single else rows.flatten(0, 1),))
            values.append(lists.extend(start[place], gained) if one.mode == "appended" else lists.extend(gained, start[place]))
        elif one.mode == "written":
            index, rows = gains.pop(0), gains.pop(0)
            values.append(_write_rows(start[place], one, index, rows))
        else:
            values.append(ended(last[place], before[place], one, full=True))
    return tuple(values)


def _write_rows(table: torch.Tensor, carried: Carried, index: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    dim = carried.dim
    size = table.shape[dim]
    shape = [rows.shape[0], *table.movedim(dim, 0).shape[1:]]
    missing = [1] * (len(shape) - rows.ndim)  # a row that broadcasts
    rows = rows.to(table.dtype).reshape([rows.shape[0], *missing, *rows.shape[1:]]).expand(shape).movedim(0, dim)
    if carried.every and scalars.same_sizes([size], shape[:1]):
        return rows.clone(memory_format=torch.contiguous_format)
    return table.index_copy(dim, torch.where(index < 0, index + size, index), rows)

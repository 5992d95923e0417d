"""Loops: torch's `scan` where the number of steps is known when the loop starts, else torch's `while_loop`.

A body takes the step, the rows of this step, the carried values and what it captures, and returns the carried values.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from exportkit.control_flow import lists, scalars
from exportkit.control_flow.carries import GAINED, Carried, Loop, check_lasting, ended, entered, has_room, left, settled
from exportkit.control_flow.scalars import as_tensor, is_tensor
from exportkit.control_flow.scanning import scanned
from exportkit.control_flow.structure import Operands, ShapeError, as_carried, exporting, fresh, take_apart

__all__ = ["Carried", "appended", "iterate", "repeat"]

UNROLLED = 16  # a loop of at most so many steps, known while exporting, is written out
_MOST_UNROLLED = 512

_while = torch.ops.higher_order.while_loop


def repeat(
    count: Any,
    body: Callable[..., tuple[Any, ...]],
    start: tuple[Any, ...],
    carried: tuple[Carried, ...],
    captured: tuple[Any, ...] = (),
    rows: Callable[..., tuple[torch.Tensor, ...]] | None = None,
    appends: Any = 1,
) -> tuple[Any, ...]:
    """Runs a body `count` times.

    Raises:
        ExportError: a carried value has no fixed shape.
    """
    loop = Loop(body, carried, captured, rows, appends)
    if not exporting() or (isinstance(count, int) and count <= UNROLLED):
        return _unrolled(int(count), loop, start)
    if is_tensor(count):
        return _counted(count, loop, start)
    missing = any(value is None and one.mode == "carried" for value, one in zip(start, carried, strict=True))
    if missing:  # it gets its value in the first step, which stands before the loop
        first = tuple(loop.plain_step(0, start))
        shifted = replace(loop.only_carried(), body=lambda at, *given: loop.only_carried().body(at + 1, *given))
        return scanned(count - 1, shifted, first)
    try:
        return scanned(count, loop, start)
    except ShapeError:
        if isinstance(count, int) and count <= _MOST_UNROLLED:
            return _unrolled(count, loop, start)
        raise


def appended(*chains: tuple[Any, ...]) -> Any:
    """Counts how often at most a step appends: for each append the product of the trip counts of the loops inside which it stands."""
    total: Any = 0
    for chain in chains:
        times: Any = 1
        for count in chain:
            times = scalars.mul(times, scalars.largest([count, 0]))
        total = scalars.add(total, times)
    return total


def iterate(
    going: Any,
    body: Callable[..., tuple[Any, ...]],
    start: tuple[Any, ...],
    carried: tuple[Carried, ...],
    captured: tuple[Any, ...] = (),
    bound: Any = None,
    appends: Any = 1,
) -> tuple[Any, ...]:
    """Runs a body as long as it says so: it returns whether to go on, before the carried values.

    Args:
        bound: the most steps that it may take, where that is known.
    """
    if not exporting():
        at, values = 0, list(start)
        while going:
            going, *out = body(at, *values, *captured)
            values = [
                torch.cat([old, new], one.dim) if one.mode == "lengthened" else new
                for old, new, one in zip(values, out, carried, strict=True)
            ]
            at += 1
        return tuple(values)
    if going is False:
        return start
    loop = Loop(body, carried, captured, None, appends)
    return _looped(going, loop, start, bound)


def _unrolled(count: int, loop: Loop, start: Sequence[Any]) -> tuple[Any, ...]:
    values = list(start)
    for at in range(count):
        values = loop.plain_step(at, values)
    return tuple(values)


def _counted(count: torch.Tensor, loop: Loop, start: tuple[Any, ...]) -> tuple[Any, ...]:
    """Runs a number of steps that a tensor tells."""
    plain = loop.only_carried()

    def body(at: Any, *given: Any) -> tuple[Any, ...]:
        return (scalars.lt(at + 1, given[-1]), *plain.body(at, *given[:-1]))

    whole = replace(plain, body=body, captured=(*loop.captured, count))
    return _looped(scalars.gt(count, 0), whole, start, count)


def _looped(going: Any, loop: Loop, start: tuple[Any, ...], bound: Any) -> tuple[Any, ...]:
    """Calls `while_loop`. A list without a known bound is counted first, by the same loop without it."""
    lengthens = any(one.mode in ("grown", "lengthened", *GAINED) for one in loop.carried)
    loop = replace(loop, carried=tuple(replace(one, mode="grown") if one.mode in GAINED else one for one in loop.carried))
    grows = [place for place, one in enumerate(loop.carried) if one.mode == "grown" and not has_room(start[place])]
    if lengthens and (bound is None or (grows and loop.appends is None)):
        bound, ends = _run_while(going, loop, start, None)
        if grows and loop.appends is None:
            bound = functools.reduce(scalars.largest_of, [lists.length(ends[place]) for place in grows])
            loop = replace(loop, appends=1)
    return _run_while(going, loop, start, bound)[1]


def _run_while(going: Any, loop: Loop, start: tuple[Any, ...], bound: Any) -> tuple[torch.Tensor, tuple[Any, ...]]:
    """Returns the number of steps, and the values after the last."""
    before, stripped = start, replace(loop, body=lambda *given: loop.body(*given)[1:])
    start, _ = settled(stripped, start, bound)
    leaves, build = take_apart([as_carried(value) for value in start])
    operands = Operands(*loop.captured)

    def test(_at: Any, flag: Any, *_given: Any) -> Any:
        return flag.clone()

    def body(at: Any, _flag: Any, *given: Any) -> tuple[Any, ...]:
        held, captured = build(iter(given[: len(leaves)])), operands.build(given[len(leaves) :])
        values = [entered(value, one) for value, one in zip(held, loop.carried, strict=True)]
        flag, *out = loop.step(at, (), values, captured)
        new = take_apart([left(old, value, one) for old, value, one in zip(held, out, loop.carried, strict=True)])[0]
        check_lasting(new, leaves)
        return (at + 1, as_tensor(flag).reshape(()).clone(), *(fresh(one.to(old.dtype)) for one, old in zip(new, leaves, strict=True)))

    begin = (torch.zeros((), dtype=torch.int64), as_tensor(going).reshape(()).clone(), *map(fresh, leaves))
    steps, _, *results = _while(test, body, begin, tuple(operands.values))
    last = zip(build(iter(results)), before, loop.carried, strict=True)
    return steps, tuple(ended(value, old, one, full=False) for value, old, one in last)

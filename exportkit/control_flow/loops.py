"""Loops: torch's `scan` where the number of steps is known when the loop starts, else torch's `while_loop`.

A body takes the step, the rows of this step, the carried values and what it captures, and returns the carried values.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from exportkit.control_flow import scalars
from exportkit.control_flow.carries import Carried, Loop, check_lasting, ended, entered, left, settled
from exportkit.control_flow.scalars import as_tensor, is_tensor
from exportkit.control_flow.scanning import scanned
from exportkit.control_flow.structure import Operands, ShapeError, as_carried, exporting, fresh, take_apart

__all__ = ["Carried", "iterate", "repeat"]

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
    appends: int = 1,
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


def iterate(
    going: Any,
    body: Callable[..., tuple[Any, ...]],
    start: tuple[Any, ...],
    carried: tuple[Carried, ...],
    captured: tuple[Any, ...] = (),
    bound: Any = None,
    appends: int = 1,
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
    lengthens = any(one.mode in ("grown", "appended", "lengthened") for one in loop.carried)
    loop = replace(loop, carried=tuple(replace(one, mode="grown") if one.mode == "appended" else one for one in loop.carried))
    if lengthens and bound is None:
        bound = _run_while(going, loop, start, None)[0]
    return _run_while(going, loop, start, bound)[1]


def _run_while(going: Any, loop: Loop, start: tuple[Any, ...], bound: Any) -> tuple[torch.Tensor, tuple[Any, ...]]:
    """Returns the number of steps, and the values after the last."""
    stripped = replace(loop, body=lambda *given: loop.body(*given)[1:])
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
    return steps, tuple(ended(value, one, full=False) for value, one in zip(build(iter(results)), loop.carried, strict=True))

"""Loops: torch's `scan` where the number of steps is known when the loop starts, else torch's `while_loop`.

A body takes the step, the rows of this step, the carried values and what it captures, and returns the carried values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sympy
import torch

from exportkit.control_flow import lists, scalars
from exportkit.control_flow.indexing import put
from exportkit.control_flow.lists import Buffer, Probe, Rows, Tally
from exportkit.control_flow.scalars import as_size, as_tensor, is_tensor
from exportkit.control_flow.structure import Operands, ShapeError, as_carried, exporting, fresh, match, take_apart, unrecorded
from exportkit.errors import ExportError

UNROLLED = 16  # a loop of at most so many steps, known while exporting, is written out
_MOST_UNROLLED = 512

_scan = torch.ops.higher_order.scan
_while = torch.ops.higher_order.while_loop
_cond = torch.ops.higher_order.cond


@dataclass(frozen=True, slots=True)
class Carried:
    """How a loop treats one of its values.

    Attributes:
        name: the user's name of it.
        mode: "carried" from step to step; "grown": a list that the body reads and appends to; "appended": a list that it only appends to;
            "written": a tensor of which each step writes one row, and reads none.
        dim: of "written", the axis of the row.
    """

    name: str
    mode: str = "carried"
    dim: int = 0


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop as it stands in the user's source.

    Attributes:
        rows: takes the steps, (N,), and what is captured; returns tensors, each of which holds one row a step.
        appends: how often at most a step appends to one list.
    """

    body: Callable[..., tuple[Any, ...]]
    carried: tuple[Carried, ...]
    captured: tuple[Any, ...]
    rows: Callable[..., tuple[torch.Tensor, ...]] | None = None
    appends: int = 1

    def step(self, at: Any, rows: Sequence[Any], values: Sequence[Any], captured: Sequence[Any]) -> list[Any]:
        return list(self.body(at, *rows, *values, *captured))

    def rows_at(self, steps: torch.Tensor, captured: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        return self.rows(steps, *captured) if self.rows else ()

    def row_at(self, at: Any, captured: Sequence[Any]) -> list[torch.Tensor]:
        return [row.squeeze(0) for row in self.rows_at(as_tensor(at).reshape(1), captured)]

    def plain_step(self, at: Any, values: Sequence[Any]) -> list[Any]:
        """Runs one step as Python would: what the body gives for a written tensor is written at once."""
        out = self.step(at, self.row_at(at, self.captured), values, self.captured)
        for place, one in enumerate(self.carried):
            if one.mode == "written":
                index, row = out[place]
                out[place] = put(values[place], (("select", one.dim, index),), row)
        return out

    def only_carried(self) -> "Loop":
        """Returns the loop with every value carried, and every list grown."""
        modes = {"appended": "grown", "written": "carried"}
        plain = tuple(replace(one, mode=modes.get(one.mode, one.mode)) for one in self.carried)
        return Loop(lambda at, *given: tuple(self._carry(at, given)), plain, self.captured, None, self.appends)

    def _carry(self, at: Any, given: tuple[Any, ...]) -> list[Any]:
        size = len(self.carried)
        return replace(self, captured=given[size:]).plain_step(at, given[:size])


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
        return _scanned(count - 1, shifted, first)
    try:
        return _scanned(count, loop, start)
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
            going, *values = body(at, *values, *captured)
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


def _scanned(count: Any, loop: Loop, start: tuple[Any, ...]) -> tuple[Any, ...]:
    """Calls `scan`; where there may be no step at all, inside of a `cond`, since neither torch nor onnxruntime scans nothing."""
    start, gains = _settled(loop, start, count)
    kept = [place for place, one in enumerate(loop.carried) if one.mode in ("carried", "grown")]
    leaves, build = take_apart([start[place] for place in kept])
    operands = Operands(*loop.captured)
    leaves = leaves or [torch.zeros((), dtype=torch.int64)]  # scan wants to carry something

    def step(*given: Any) -> tuple[Any, ...]:
        carry, at, rest = given[: len(leaves)], given[len(leaves)], given[len(leaves) + 1 :]
        rows, captured = rest[: len(rest) - len(operands.values)], operands.build(rest[len(rest) - len(operands.values) :])
        values = [[] if one.mode == "appended" else value for value, one in zip(start, loop.carried, strict=True)]
        for place, value in zip(kept, build(iter(carry)) if kept else (), strict=True):
            values[place] = value
        out = loop.step(at, rows, values, captured)
        new = take_apart([as_carried(out[place]) for place in kept])[0] if kept else list(carry)
        _check_lasting(new, leaves)
        return (*(fresh(one.to(old.dtype)) for one, old in zip(new, leaves, strict=True)), *map(fresh, _gains(loop, out)))

    def run(size: Any, carry: Sequence[Any], given: Sequence[Any]) -> tuple[Any, ...]:
        steps = torch.arange(size)
        rows = loop.rows_at(steps, operands.build(given))
        return tuple(_scan(step, [fresh(one) for one in carry], [steps, *rows], tuple(given)))

    if count > 0 if isinstance(count, int) else scalars.is_positive(count):
        results = run(count, leaves, operands.values)
    else:
        results = _guarded(count, run, leaves, operands.values, gains)
    ended = build(iter(results[: len(leaves)])) if kept else []
    return _finished(loop, start, dict(zip(kept, ended, strict=True)), list(results[len(leaves) :]))


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


def _gains(loop: Loop, out: Sequence[Any]) -> list[Any]:
    """Lists what each step adds to the lists and tensors that are not carried."""
    gained: list[Any] = []
    for value, one in zip(out, loop.carried, strict=True):
        if one.mode == "appended":
            gained.append(lists.stack(value))
        elif one.mode == "written":
            gained += [as_tensor(value[0]), as_tensor(value[1])]
    return gained


def _finished(loop: Loop, start: Sequence[Any], ended: dict[int, Any], gains: list[Any]) -> tuple[Any, ...]:
    values: list[Any] = []
    for place, one in enumerate(loop.carried):
        if one.mode == "appended":
            before = start[place]
            parts = before.parts if isinstance(before, Rows) else lists._parts(before)  # noqa: SLF001 - of the same idea
            values.append(Rows((*parts, gains.pop(0).flatten(0, 1))))
        elif one.mode == "written":
            index, rows = gains.pop(0), gains.pop(0)
            values.append(_write_rows(start[place], one.dim, index, rows))
        else:
            values.append(ended[place])
    return tuple(values)


def _write_rows(table: torch.Tensor, dim: int, index: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    size = table.shape[dim]
    index = torch.where(index < 0, index + size, index)
    shape = [rows.shape[0], *table.movedim(dim, 0).shape[1:]]
    return table.index_copy(dim, index, rows.to(table.dtype).expand(shape).movedim(0, dim))


def _settled(loop: Loop, start: tuple[Any, ...], most: Any) -> tuple[tuple[Any, ...], list[Any]]:
    """Gives what a loop starts from its lasting shape, and lists their room; also returns what one step gives.

    Raises:
        ShapeError: a carried value changes its shape from step to step.
    """
    at = torch.zeros((), dtype=torch.int64)
    grown = [one.mode == "grown" for one in loop.carried]
    start = tuple(_with_room(value, most, loop.appends) if grows else value for value, grows in zip(start, grown, strict=True))
    for _ in range(2):  # the second time shows whether the shapes last
        tried = [_entry(value, one) for value, one in zip(start, loop.carried, strict=True)]
        with unrecorded():
            out = loop.step(at, loop.row_at(at, loop.captured), tried, loop.captured)
            gains = _gains(loop, out)
        start = tuple(
            _start(value, entry, new, one, most, loop.appends)
            for value, entry, new, one in zip(start, tried, out, loop.carried, strict=True)
        )
    return start, gains


def _entry(value: Any, one: Carried) -> Any:
    """Returns a value as the body gets it in the first step."""
    if one.mode == "appended":
        return []
    if one.mode == "grown" and isinstance(value, list) and not value:
        return Probe()
    return as_carried(value) if one.mode == "carried" else value


def _start(value: Any, entry: Any, new: Any, one: Carried, most: Any, appends: int) -> Any:
    if one.mode in ("appended", "written") or isinstance(value, Buffer | Tally):
        return value
    if isinstance(entry, Probe):
        return _room_for(entry.element, most, appends)
    return match(as_carried(value), as_carried(new), one.name)


def _with_room(value: Any, most: Any, appends: int) -> Any:
    """Makes a buffer of a list that a loop carries; of an empty one later, when its elements are known."""
    if most is None:
        return Tally(as_tensor(lists.length(value)))
    if isinstance(value, Tally) or (isinstance(value, list) and not value):
        return value
    whole = value.whole() if isinstance(value, Rows | Buffer) else torch.stack([as_tensor(element) for element in value])
    room = torch.zeros([as_size(most) * appends, *whole.shape[1:]], dtype=whole.dtype)
    return Buffer(torch.cat([whole, room]), as_tensor(whole.shape[0]))


def _room_for(element: Any, most: Any, appends: int) -> Buffer:
    if element is None:
        raise ExportError("a list that a loop carries gets no element in its first step", todo="Append to it in every step.")
    return Buffer(torch.zeros([as_size(most) * appends, *element.shape], dtype=element.dtype), torch.zeros((), dtype=torch.int64))


def _looped(going: Any, loop: Loop, start: tuple[Any, ...], bound: Any) -> tuple[Any, ...]:
    """Calls `while_loop`. A list without a known bound is counted first, by the same loop without it."""
    lengthens = any(one.mode in ("grown", "appended") for one in loop.carried)
    loop = replace(loop, carried=tuple(replace(one, mode="grown") if one.mode == "appended" else one for one in loop.carried))
    if lengthens and bound is None:
        bound = _run_while(going, loop, start, None)[0]
    return _run_while(going, loop, start, bound)[1]


def _run_while(going: Any, loop: Loop, start: tuple[Any, ...], bound: Any) -> tuple[torch.Tensor, tuple[Any, ...]]:
    """Returns the number of steps, and the values after the last."""
    stripped = replace(loop, body=lambda *given: loop.body(*given)[1:])
    start, _ = _settled(stripped, start, bound)
    leaves, build = take_apart([as_carried(value) for value in start])
    operands = Operands(*loop.captured)

    def test(_at: Any, flag: Any, *_given: Any) -> Any:
        return flag.clone()

    def body(at: Any, _flag: Any, *given: Any) -> tuple[Any, ...]:
        values, captured = build(iter(given[: len(leaves)])), operands.build(given[len(leaves) :])
        flag, *out = loop.step(at, (), values, captured)
        new = take_apart([as_carried(value) for value in out])[0]
        _check_lasting(new, leaves)
        return (at + 1, as_tensor(flag).reshape(()).clone(), *(fresh(one.to(old.dtype)) for one, old in zip(new, leaves, strict=True)))

    begin = (torch.zeros((), dtype=torch.int64), as_tensor(going).reshape(()).clone(), *map(fresh, leaves))
    steps, _, *results = _while(test, body, begin, tuple(operands.values))
    return steps, tuple(build(iter(results)))


def _check_lasting(new: list[Any], old: list[Any]) -> None:
    if len(new) != len(old):
        raise ExportError("a value that the loop carries changes its structure", todo="Carry the same number of tensors in every step.")
    if not all(scalars.same_shape(a, b) for a, b in zip(new, old, strict=True)):
        raise ExportError(
            "a list or a tensor that the loop carries changes its size in each step",
            todo="Append to a list once or several times in each step, and not in a loop inside whose length varies.",
        )

"""What a loop carries: each value brought into the form that it keeps from step to step, and back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from exportkit.control_flow import lists, scalars
from exportkit.control_flow.indexing import put
from exportkit.control_flow.lists import Buffer, Probe, Rows, Tally
from exportkit.control_flow.places import Place, as_matched
from exportkit.control_flow.scalars import as_size, as_tensor
from exportkit.control_flow.structure import ShapeError, as_carried, match, unrecorded
from exportkit.errors import ExportError

KEPT = ("carried", "grown", "lengthened")  # the modes of what goes from step to step
GAINED = ("appended", "prepended")  # the modes of lists to which each step gives what it has, and reads nothing


@dataclass(frozen=True, slots=True)
class Carried:
    """How a loop treats one of its values.

    Attributes:
        name: the user's name of it.
        mode: "carried" from step to step; "grown": a list that the body reads and appends to; "appended": a list that it only appends to;
            "prepended": a list that it only inserts in front of;
            "written": a tensor of which each step writes one row, and reads none; "lengthened": a tensor that `cat` makes longer.
        dim: of "written" the axis of the row, of "lengthened" the axis that grows.
        every: of "written", the rows are written in order from the first, so that as many steps as there are rows write all.
    """

    name: str
    mode: str = "carried"
    dim: int = 0
    every: bool = False


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop as it stands in the user's source.

    Attributes:
        rows: takes the steps, (N,), and what is captured; returns tensors, each of one row a step. Of a step that is a number, the row.
        appends: how often at most a step appends to one list; None where only a run of the loop tells.
    """

    body: Callable[..., tuple[Any, ...]]
    carried: tuple[Carried, ...]
    captured: tuple[Any, ...]
    rows: Callable[..., tuple[torch.Tensor, ...]] | None = None
    appends: Any = 1

    def step(self, at: Any, rows: Sequence[Any], values: Sequence[Any], captured: Sequence[Any]) -> list[Any]:
        return list(self.body(at, *rows, *values, *captured))

    def rows_at(self, steps: Any, captured: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        return self.rows(steps, *captured) if self.rows else ()

    def plain_step(self, at: Any, values: Sequence[Any]) -> list[Any]:
        """Runs one step as Python would."""
        out = self.written_step(at, values)
        for place, one in enumerate(self.carried):
            if one.mode == "lengthened":
                out[place] = torch.cat([values[place], out[place]], one.dim)
        return out

    def written_step(self, at: Any, values: Sequence[Any]) -> list[Any]:
        """Runs one step; what the body gives for a written tensor is written at once."""
        out = self.step(at, self.rows_at(at, self.captured), values, self.captured)
        for place, one in enumerate(self.carried):
            if one.mode == "written":
                index, row = out[place]
                out[place] = put(values[place], (("select", one.dim, index),), row)
        return out

    def only_carried(self) -> "Loop":
        """Returns the loop with every value carried, and every list grown."""
        modes = {"appended": "grown", "prepended": "grown", "written": "carried"}
        plain = tuple(replace(one, mode=modes.get(one.mode, one.mode)) for one in self.carried)
        return Loop(lambda at, *given: tuple(self._carry(at, given)), plain, self.captured, None, self.appends)

    def _carry(self, at: Any, given: tuple[Any, ...]) -> list[Any]:
        size = len(self.carried)
        return replace(self, captured=given[size:]).written_step(at, given[:size])


def settled(loop: Loop, start: tuple[Any, ...], most: Any) -> tuple[tuple[Any, ...], list[Any]]:
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
            out = loop.step(at, loop.rows_at(at, loop.captured), tried, loop.captured)
            gains = gains_of(loop, out)
        start = tuple(
            _start(value, entry, new, one, most, loop.appends)
            for value, entry, new, one in zip(start, tried, out, loop.carried, strict=True)
        )
    return start, gains


def _entry(value: Any, one: Carried) -> Any:
    """Returns a value as the body gets it in the first step."""
    if one.mode in GAINED:
        return []
    if one.mode == "grown" and isinstance(value, list) and not value:
        return Probe()
    return as_carried(value) if one.mode == "carried" else entered(value, one)


def entered(value: Any, one: Carried) -> Any:
    """Returns a carried value as the body takes it."""
    if one.mode == "grown" and isinstance(value, Buffer):
        return replace(value, gained=0)
    return value.whole().movedim(0, one.dim) if one.mode == "lengthened" and isinstance(value, Buffer) else value


def left(old: Any, new: Any, one: Carried) -> Any:
    """Returns what the body gives for a value as the loop carries it."""
    if isinstance(old, Place):
        return as_matched(new, old)
    if one.mode != "lengthened":
        return as_carried(new)
    added = new.movedim(one.dim, 0).to(old.room.dtype)
    if added.shape[0] is not old.step:  # it hangs on the value's own size: another number than the first step's fails here, and loudly
        added = added.reshape([old.step, *added.shape[1:]])
    room = old.room.index_copy(0, old.count + torch.arange(old.step), added)
    return Buffer(room, old.count + old.step, old.step)


def ended(value: Any, before: Any, one: Carried, *, full: bool) -> Any:
    """Returns a carried value as it stands after the loop.

    Args:
        before: what the loop started from.
        full: every step was taken, so that a buffer is full.
    """
    if one.mode != "lengthened":
        return replace(value, spare=isinstance(before, Buffer) and before.spare) if isinstance(value, Buffer) else value
    return (value.room if full else value.whole()).movedim(0, one.dim)


def _start(value: Any, entry: Any, new: Any, one: Carried, most: Any, appends: Any) -> Any:
    if one.mode in (*GAINED, "written") or isinstance(value, Buffer | Tally | Probe):
        return value
    if one.mode == "lengthened":
        return _with_length(value, new, one, most)
    if isinstance(entry, Probe):
        return _room_for(entry.element, most, appends)
    with unrecorded():  # a size that only the step knows
        new = as_carried(new)
    return match(as_carried(value), new, one.name)


def has_room(value: Any) -> bool:
    """Says whether a loop around left room for what a loop appends to a list, or only counts it."""
    return isinstance(value, Tally | Probe) or (isinstance(value, Buffer) and value.spare)


def _with_room(value: Any, most: Any, appends: Any) -> Any:
    """Makes a buffer of a list that a loop carries; of an empty one later, when its elements are known."""
    if has_room(value):
        return value
    if most is None:
        return Tally(as_tensor(lists.length(value)))
    if isinstance(value, list) and not value:
        return value
    whole = value.whole() if isinstance(value, Rows | Buffer) else torch.stack([as_tensor(element) for element in value])
    room = torch.zeros([as_size(most) * as_size(appends), *whole.shape[1:]], dtype=whole.dtype)
    return Buffer(torch.cat([whole, room]), as_tensor(whole.shape[0]), spare=True)


def _with_length(value: torch.Tensor, added: torch.Tensor, one: Carried, most: Any) -> Buffer:
    """Makes a buffer of a tensor that a loop lengthens."""
    if most is None:
        raise ExportError(
            f"{one.name} grows in a `while` without a bound", todo="Count the steps, and stop at a number: `while k < n and ...`."
        )
    step = added.shape[one.dim]
    if not isinstance(step, int):
        raise ShapeError(f"{one.name} grows by a length that is not fixed", todo="Add one row, or a fixed number of them, in each step.")
    whole = value.movedim(one.dim, 0)
    room = torch.zeros([as_size(most) * step, *whole.shape[1:]], dtype=whole.dtype)
    return Buffer(torch.cat([whole, room]), as_tensor(whole.shape[0]), step)


def _room_for(element: Any, most: Any, appends: Any) -> Buffer:
    if element is None:
        raise ExportError("a list that a loop carries gets no element in its first step", todo="Append to it in every step.")
    room = torch.zeros([as_size(most) * as_size(appends), *element.shape], dtype=element.dtype)
    return Buffer(room, torch.zeros((), dtype=torch.int64), spare=True)


def gains_of(loop: Loop, out: Sequence[Any]) -> list[Any]:
    """Lists what each step adds to the lists and tensors that are not carried."""
    gained: list[Any] = []
    for value, one in zip(out, loop.carried, strict=True):
        if one.mode in GAINED:
            gained.append(as_tensor(value[0]) if is_single(value) else lists.stack(value))
        elif one.mode == "written":
            gained += [as_tensor(value[0]), as_tensor(value[1])]
    return gained


def is_single(appended: Any) -> bool:
    """Says whether a step appended one element, which is a row as it stands: each node of a step counts."""
    return isinstance(appended, list) and len(appended) == 1


def check_lasting(new: list[Any], old: list[Any]) -> None:
    if len(new) != len(old):
        raise ExportError("a value that the loop carries changes its structure", todo="Carry the same number of tensors in every step.")
    if not all(scalars.same_shape(a, b) for a, b in zip(new, old, strict=True)):
        raise ExportError(
            "a list or a tensor that the loop carries changes its size in each step",
            todo="Append to a list once or several times in each step, and not in a loop inside whose length varies.",
        )

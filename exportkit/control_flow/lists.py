"""Lists that a loop lengthens: their elements lie stacked in tensors, since no artifact holds a list of unknown length.

Elements are tensors of one shape, or numbers. A plain Python list stays one as long as no loop of unknown length appends to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from exportkit.control_flow import indexing, scalars
from exportkit.control_flow.indexing import cut, select
from exportkit.control_flow.scalars import as_size, as_tensor, is_tensor
from exportkit.errors import ExportError

_INSTEAD = "Append tensors of one shape, and stack, concatenate or index the list; or keep what the loop needs in a tensor of its own."


@dataclass(frozen=True, slots=True)
class Rows:
    """A list that is complete: parts of shape (K, ...), one after the other."""

    parts: tuple[torch.Tensor, ...]

    def whole(self) -> torch.Tensor:
        return self.parts[0] if len(self.parts) == 1 else torch.cat(self.parts, 0)


@dataclass(frozen=True, slots=True)
class Buffer:
    """A list that a loop carries: room for all elements it may get, (M, ...), and how many there are, a 0-d tensor.

    Attributes:
        step: how many each step adds, where that is fixed.
        spare: the loop around left room for all that it will append; else each append makes its own.
        gained: how many were appended since the loop's step began, where that is the same number in every step.
    """

    room: torch.Tensor
    count: torch.Tensor
    step: int = 0
    spare: bool = False
    gained: int | None = None

    def whole(self) -> torch.Tensor:
        # Not narrowed: of a slice torch's decompositions make the size a minimum of the two, which then is no other size that is the count.
        return self.room.index_select(0, torch.arange(as_size(self.count)))


@dataclass(frozen=True, slots=True)
class Tally:
    """A list of which only the length counts: stands in where a loop runs ahead to find out how long it is."""

    count: torch.Tensor


@dataclass(slots=True)
class Probe:
    """An empty list of which the first element shall be seen."""

    element: Any = None

    def seen(self, what: str) -> torch.Tensor:
        """Returns an element like those to come."""
        if self.element is None:
            raise UnseenError(f"a list that a loop lengthens does not take {what} before an element was appended", todo=_INSTEAD)
        return self.element  # type: ignore[no-any-return]


class UnseenError(ExportError):
    """An element is read before there is one: the side of a branch that does so is not taken in the first step."""


def is_stacked(value: Any) -> bool:
    return isinstance(value, Rows | Buffer | Tally | Probe)


def append(items: Any, value: Any) -> Any:
    if isinstance(items, Probe):
        items.element = as_tensor(value)
        return items
    if isinstance(items, Tally):
        return Tally(items.count + 1)
    if isinstance(items, Buffer):
        value = as_tensor(value).to(items.room.dtype).unsqueeze(0)
        room = items.room if items.spare else torch.cat([items.room, torch.zeros_like(value)])
        gained = None if items.gained is None else items.gained + 1
        return replace(items, room=room.index_copy(0, items.count.reshape(1), value), count=items.count + 1, gained=gained)
    if isinstance(items, Rows):
        return Rows((*items.parts, as_tensor(value).unsqueeze(0)))
    return [*items, value]


def insert(items: Any, place: Any, value: Any) -> Any:
    if not is_stacked(items):
        return [*items[:place], value, *items[place:]]
    if place != 0 or not isinstance(items, Rows):
        raise _not_taken("insert")
    return Rows((as_tensor(value).unsqueeze(0), *items.parts))


def extend(items: Any, more: Any) -> Any:
    if isinstance(items, Tally):
        return Tally(items.count + length(more))
    if (isinstance(items, Buffer) and items.spare and is_stacked(more)) or isinstance(items, Probe):
        rows = _whole(more, "extend") if is_stacked(more) or is_tensor(more) else stack(more)
        return _with_rows(items, rows)
    if isinstance(items, Rows) or isinstance(more, Rows | Buffer):
        return Rows((*_parts(items), *_parts(more)))
    if is_stacked(more):
        raise _not_taken("extend")
    for value in more:
        items = append(items, value)
    return items


def _with_rows(items: Any, rows: torch.Tensor) -> Any:
    """Puts elements at the end of a list for which a loop around left room."""
    if isinstance(items, Probe):
        items.element = rows.new_zeros(rows.shape[1:])
        return items
    places, more = items.count + torch.arange(rows.shape[0]), rows.shape[0]
    gained = items.gained + more if isinstance(items.gained, int) and isinstance(more, int) else None
    return replace(items, room=items.room.index_copy(0, places, rows.to(items.room.dtype)), count=items.count + more, gained=gained)


def concat(items: Any, more: Any) -> Any:
    return extend(items if is_stacked(items) else list(items), more)


def reverse(items: Any) -> Any:
    if not is_stacked(items):
        return items[::-1]
    return Rows((_whole(items, "reverse").flip(0),))


def clear(_items: Any) -> Any:
    return []


def pop(items: Any, place: Any = -1) -> tuple[Any, Any]:
    if isinstance(items, Buffer) and place == -1:
        return replace(items, count=items.count - 1, gained=None), getitem(items, -1)
    if is_stacked(items) or not isinstance(place, int):
        raise _not_taken("pop")
    return [*items[:place], *items[place:][1:]], items[place]


def set_item(items: Any, place: Any, value: Any) -> Any:
    if not is_stacked(items) and isinstance(place, int):
        changed = list(items)
        changed[place] = value
        return changed
    if isinstance(items, Buffer | Rows):
        room = items.room if isinstance(items, Buffer) else items.whole()
        size = items.count if isinstance(items, Buffer) else room.shape[0]
        at = as_tensor(place)
        at = torch.where(at < 0, at + size, at).reshape(1)
        room = room.index_copy(0, at, as_tensor(value).to(room.dtype).unsqueeze(0))
        return replace(items, room=room) if isinstance(items, Buffer) else Rows((room,))
    raise _not_taken("an element to be set")


def length(items: Any) -> Any:
    if isinstance(items, Buffer | Tally):
        return items.count
    if isinstance(items, Probe):
        return torch.zeros((), dtype=torch.int64)
    if isinstance(items, Rows):
        return sum(part.shape[0] for part in items.parts)
    return items.shape[0] if is_tensor(items) else len(items)


def getitem(items: Any, place: Any) -> Any:
    if isinstance(items, Buffer):
        at = as_tensor(place)
        at = torch.where(at < 0, at + items.count, at) if is_tensor(place) else at + items.count if place < 0 else at
        return select(items.room, 0, at, nonnegative=True)
    if isinstance(items, Rows):
        if isinstance(place, int) and place == -1:
            return items.parts[-1].select(0, -1)
        return select(items.whole(), 0, place)
    if isinstance(items, Tally):
        raise _not_taken("an element to be read in a loop that appends nobody knows how many")
    if isinstance(items, Probe):
        return items.seen("an element to be read")
    if is_tensor(place):
        return select(torch.stack([as_tensor(one) for one in items]), 0, place)
    return items[place]


def rows(items: Any, index: Any) -> Any:
    """Takes the elements at `index[k]` for each k, stacked; of an index that is a number, that element alone."""
    if not is_tensor(index) or not index.dim():
        return getitem(items, index)
    if isinstance(items, Probe):
        element = items.seen("an element to be read")
        return element.expand(index.shape[0], *element.shape)
    if isinstance(items, Tally):
        raise _not_taken("an element to be read in a loop that appends nobody knows how many")
    if isinstance(items, Buffer):
        return items.room.index_select(0, torch.where(index < 0, index + items.count, index))
    whole = items.whole() if isinstance(items, Rows) else torch.stack([as_tensor(one) for one in items])
    return indexing.rows(whole, 0, index, nonnegative=False)


def part(items: Any, start: Any, end: Any, step: int) -> Any:
    if not is_stacked(items):
        return items[slice(start, end, step)]
    if start is None and end is None and step == -1:
        return reverse(items)
    return Rows((cut(_whole(items, "a slice"), 0, start, end, step),))


def stack(items: Any, dim: int = 0) -> torch.Tensor:
    if not is_stacked(items):
        return torch.stack([as_tensor(one) for one in items], dim)
    return _whole(items, "stack").movedim(0, dim)


def cat(items: Any, dim: int = 0) -> torch.Tensor:
    if not is_stacked(items):
        return torch.cat(list(items), dim)
    whole = _whole(items, "cat")
    if dim < 0:
        dim += whole.dim() - 1
    return whole.movedim(0, dim).flatten(dim, dim + 1)


def to_tensor(items: Any, dtype: Any = None) -> torch.Tensor:
    if not is_stacked(items):
        return scalars.to_tensor(items, dtype)
    whole = _whole(items, "torch.tensor")
    usual = torch.get_default_dtype() if whole.dtype.is_floating_point else whole.dtype
    return whole.to(dtype or usual)


def unstacked(items: Any) -> Any:
    """Gives an operator the list that it takes: a list of unknown length is none."""
    if is_stacked(items):
        raise _not_taken("this operator")
    return items


def _whole(items: Any, what: str) -> torch.Tensor:
    if isinstance(items, Probe):
        return items.seen(what).unsqueeze(0)
    if not isinstance(items, Rows | Buffer):
        raise _not_taken(what)
    return items.whole()


def as_rows(items: Any, like: torch.Tensor | None = None) -> Rows:
    """Returns a list as stacked elements; an empty one takes their shape and type from another list's, (K, ...)."""
    parts = tuple(_parts(items))
    if not parts:
        assert like is not None
        return Rows((torch.zeros([0, *like.shape[1:]], dtype=like.dtype),))  # not cut from `like`, which may be of another branch
    return Rows((torch.cat(parts) if len(parts) > 1 else parts[0],))


def _parts(items: Any) -> Sequence[torch.Tensor]:
    if isinstance(items, Rows):
        return items.parts
    if isinstance(items, Buffer):
        return (items.whole(),)
    return (torch.stack([as_tensor(one) for one in items]),) if len(items) else ()


def _not_taken(what: str) -> ExportError:
    return ExportError(f"a list that a loop lengthens does not take {what}", todo=_INSTEAD)

"""Strided parts of a tensor as numbers: for each axis where it starts, how far apart its elements lie and how many they are.

A loop that halves a view of one tensor, `a = a[:, 1::2]`, and writes into it, carries such a part and the tensor itself: a part changes its
size from step to step, numbers do not. Reads gather the part, writes put it back.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.utils._sympy.functions import FloorDiv

from exportkit.control_flow.scalars import as_size, as_tensor, beside, is_tensor, same_sizes
from exportkit.errors import ExportError

_ENDLESS = 2**63 - 1
_NOWHERE = -(2**40)  # an index that torch and onnxruntime refuse
_INSTEAD = "Write into slices and elements of it (`a[:, 1::2]`), or split one axis (`a.view(B, T // 2, 2, C)`)."


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a part.

    Attributes:
        dim: the axis of the base along which it lies; several axes may lie along one.
        step: how far apart its elements are there: an int, or a 0-d tensor.
        count: how many they are: an int, a size, or a 0-d tensor; None for all that the base has.
    """

    dim: int
    step: Any = 1
    count: Any = None


@dataclass(frozen=True, slots=True)
class Place:
    """A part of a tensor. Its axes lie in the order of the base's.

    Attributes:
        starts: the index of the first element, for each axis of the base.
        shape: the base's sizes where the part was made.
    """

    axes: tuple[Axis, ...]
    starts: tuple[Any, ...]
    shape: tuple[Any, ...]
    _sizes: dict[int, Any] = field(default_factory=dict)  # each count is read from its tensor once: it is one size wherever it stands

    def sizes(self, base: torch.Tensor) -> list[Any]:
        for at, axis in enumerate(self.axes):
            if at not in self._sizes:
                self._sizes[at] = base.shape[axis.dim] if axis.count is None else as_size(axis.count)
        return [self._sizes[at] for at in range(len(self.axes))]

    def numbers(self) -> list[Any]:
        """Lists what may change from step to step."""
        return [*self.starts, *(number for axis in self.axes for number in (axis.step, axis.count))]

    def of_numbers(self, numbers: Sequence[Any]) -> "Place":
        """Returns the place with other numbers."""
        given = iter(numbers)
        starts = tuple(next(given) for _ in self.starts)
        return Place(tuple(Axis(axis.dim, next(given), next(given)) for axis in self.axes), starts, self.shape)


def whole(base: torch.Tensor) -> Place:
    return Place(tuple(map(Axis, range(base.dim()))), (0,) * base.dim(), tuple(base.shape))


def through(base: torch.Tensor, place: Place, view: str, *arguments: Any) -> Place:
    """Returns the part of a part that a view shows: "select", "slice", "narrow" or "view", with its arguments.

    Raises:
        ExportError: "view" does more than to split axes.
    """
    if view == "view":
        return _split(base, place, arguments[0])
    dim = arguments[0] % len(place.axes)
    axis, size = place.axes[dim], place.sizes(base)[dim]
    axes: tuple[Axis, ...] = ()
    if view == "select":
        first = _inside(_from_start(arguments[1], size), size)
    else:
        start, end, step = (arguments[1], arguments[1] + arguments[2], 1) if view == "narrow" else arguments[1:]
        first, count = _range(start, end, step, size)
        axes = (Axis(axis.dim, step * axis.step, count),)
    starts = tuple(start + first * axis.step if at == axis.dim else start for at, start in enumerate(place.starts))
    known = _known(base, place)
    return Place((*known[:dim], *axes, *known[dim + 1 :]), starts, tuple(base.shape))


def at(base: torch.Tensor, place: Place) -> torch.Tensor:
    """Reads a part of a tensor."""
    sizes, part = place.sizes(base), base
    for dim in _touched(place):
        part = part.index_select(dim, _index(base, place, dim))
    lengths = [sum(axis.dim == dim for axis in place.axes) for dim in range(base.dim())]
    return part if all(length == 1 for length in lengths) else part.reshape(sizes)


def put(base: torch.Tensor, place: Place, value: Any) -> torch.Tensor:
    """Returns a tensor with a part of it replaced by a value, which may broadcast."""
    filled: torch.Tensor = torch.as_tensor(beside(base, as_tensor(value))).to(base.dtype).expand(place.sizes(base))
    touched = _touched(place)
    if not touched:
        return filled
    shape = [_length(base, place, dim) for dim in range(base.dim())]
    return _copied(base, place, touched, filled.reshape(shape))


def _copied(base: torch.Tensor, place: Place, dims: Sequence[int], value: torch.Tensor) -> torch.Tensor:
    dim, *rest = dims
    index = _index(base, place, dim)
    new = _copied(base.index_select(dim, index), place, rest, value) if rest else value
    copied: torch.Tensor = base.index_copy(dim, index, new)
    return copied


def matched(old: Place, new: Place) -> Place | None:
    """Returns a loop's first place with tensors for the numbers that a step changes; None where it changes more than numbers."""
    if [axis.dim for axis in old.axes] != [axis.dim for axis in new.axes]:
        return None
    numbers = zip(_firsts(old), old.numbers(), new.numbers(), strict=True)
    return old.of_numbers([a if _is_same(a, b) else as_tensor(first) for first, a, b in numbers])


def as_matched(new: Place, old: Place) -> Place:
    """Gives a step's place tensors for the numbers that are tensors in the one that it started from."""
    last = [as_tensor(number) if is_tensor(a) else a for a, number in zip(old.numbers(), new.numbers(), strict=True)]
    if not all(is_tensor(a) or _is_same(a, b) for a, b in zip(old.numbers(), new.numbers(), strict=True)):
        raise ExportError("a view that the loop carries lies along another axis in each step", todo=_INSTEAD)
    return old.of_numbers(last)


def _firsts(place: Place) -> Iterator[Any]:
    """Yields a place's numbers, those that are not written out too."""
    yield from place.starts
    for axis in place.axes:
        yield axis.step
        yield place.shape[axis.dim] if axis.count is None else axis.count


def _is_same(a: Any, b: Any) -> bool:
    return (a is None and b is None) or (isinstance(a, int) and isinstance(b, int) and a == b)


def _known(base: torch.Tensor, place: Place) -> list[Axis]:
    """Lists the axes with the sizes that their counts were read as."""
    sizes = place.sizes(base)
    return [axis if axis.count is None else replace(axis, count=size) for axis, size in zip(place.axes, sizes, strict=True)]


def _touched(place: Place) -> list[int]:
    """Lists the axes of the base of which a place is not all."""
    plain = {axis.dim for axis in place.axes if axis.count is None}
    return [dim for dim in range(len(place.starts)) if dim not in plain]


def _index(base: torch.Tensor, place: Place, dim: int) -> torch.Tensor:
    """Computes where the elements of a place lie along an axis of the base, (N,)."""
    index = as_tensor(place.starts[dim]).reshape(1)
    for axis, size in zip(place.axes, place.sizes(base), strict=True):
        if axis.dim == dim:
            index = (index.unsqueeze(-1) + torch.arange(size) * axis.step).reshape(-1)
    return index


def _length(base: torch.Tensor, place: Place, dim: int) -> Any:
    length: Any = 1
    for axis, size in zip(place.axes, place.sizes(base), strict=True):
        length = length * size if axis.dim == dim else length
    return length


def _from_start(index: Any, size: Any) -> Any:
    if is_tensor(index):
        return torch.where(index < 0, index + size, index)
    return index + size if isinstance(index, int) and index < 0 else index


def _inside(index: Any, size: Any) -> Any:
    """Returns an index, or nowhere if it lies outside: the base may well go on there."""
    if isinstance(index, int) and isinstance(size, int):
        if not 0 <= index < size:
            raise IndexError(f"index {index} is out of range for a part of {size}")
        return index
    within = (as_tensor(index) >= 0) & (as_tensor(index) < as_tensor(size))
    return torch.where(within, as_tensor(index), _NOWHERE)


def _range(start: Any, end: Any, step: Any, size: Any) -> tuple[Any, Any]:
    """Returns where a slice begins and how many elements it has, as Python counts: its bounds are moved into the axis."""
    endless = end is None or (isinstance(end, int) and end >= _ENDLESS)
    first = 0 if start is None else start
    if isinstance(first, int) and isinstance(step, int) and 0 <= first < step and endless:
        return first, (size - first + step - 1) // step
    if all(isinstance(one, int) for one in (first, step, size)) and (endless or isinstance(end, int)):
        found = range(size)[first : None if endless else end : step]
        return (found.start, len(found))
    low = _bound(first, size)
    high = as_tensor(size) if endless else _bound(end, size)
    by = torch.clamp(as_tensor(step), min=1)  # Python takes no less; onnxruntime would end with the division
    count = torch.div(high - low + by - 1, by, rounding_mode="floor")
    return low if isinstance(step, int) else torch.where(step > 0, low, _NOWHERE), as_size(torch.clamp(count, min=0))


def _bound(index: Any, size: Any) -> torch.Tensor:
    return torch.clamp(torch.minimum(as_tensor(_from_start(as_tensor(index), size)), as_tensor(size)), min=0)


def _split(base: torch.Tensor, place: Place, wanted: Sequence[Any]) -> Place:
    """Splits an axis in two: (.., T, ..) seen as (.., T // c, c, ..) or (.., c, T // c, ..).

    What is not known to hold of the sizes is computed. Where it does not hold, eager raises, or sees other axes where one is -1: the place
    is then nowhere, and reading it fails.
    """
    sizes = place.sizes(base)
    found = [dim for dim in range(len(sizes)) if any(isinstance(one, int) and one > 0 for one in wanted[dim : dim + 2])]
    if len(wanted) != len(sizes) + 1 or not found:
        raise ExportError("a view of a part of a tensor does more than to split an axis", todo=_INSTEAD)

    def claims(dim: int) -> list[tuple[Any, Any]]:
        """Lists what must be equal if this is the axis that is split."""
        kept = zip([*sizes[:dim], *sizes[dim + 1 :]], [*wanted[:dim], *wanted[dim + 2 :]], strict=True)
        outer, inner = _parts(sizes[dim], wanted[dim : dim + 2])
        return [(sizes[dim], outer * inner), *zip(wanted[dim : dim + 2], (outer, inner), strict=True), *kept]

    def unknown(dim: int) -> list[tuple[Any, Any]]:
        return [(a, b) for a, b in claims(dim) if not _is_open(a) and not _is_open(b) and not same_sizes([a], [b])]

    dim = min(found, key=lambda one: (not _is_quotient(*wanted[one : one + 2]), len(unknown(one))))
    axes, starts = _known(base, place), list(place.starts)
    axis, (outer, inner) = axes[dim], _parts(sizes[dim], wanted[dim : dim + 2])
    for a, b in unknown(dim):
        starts[axis.dim] = torch.where(as_tensor(a) == as_tensor(b), as_tensor(starts[axis.dim]), _NOWHERE)
    new = (Axis(axis.dim, axis.step * inner, outer), Axis(axis.dim, axis.step, inner))
    return Place((*axes[:dim], *new, *axes[dim + 1 :]), tuple(starts), tuple(base.shape))


def _parts(size: Any, wanted: Sequence[Any]) -> tuple[Any, Any]:
    """Reads the two sizes into which one is split: one of them is an int."""
    if isinstance(wanted[1], int) and wanted[1] > 0:
        return size // wanted[1], wanted[1]
    return wanted[0], size // wanted[0]


def _is_quotient(a: Any, b: Any) -> bool:
    """Says whether one of two sizes is something divided by the other, as it was written."""
    for one, other in ((a, b), (b, a)):
        if isinstance(one, torch.SymInt) and isinstance(one.node.expr, FloorDiv) and one.node.expr.args[1] == other:
            return True
    return False


def _is_open(size: Any) -> bool:
    return isinstance(size, int) and size == -1

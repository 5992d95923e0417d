"""Reads and writes of tensors at places that a loop computes: gathers, narrowed views, and copies with one part replaced."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from exportkit.control_flow import places
from exportkit.control_flow.scalars import as_size, as_tensor, beside, is_tensor, same_shape, same_sizes
from exportkit.errors import ExportError

_ENDLESS = 2**63 - 1
Step = tuple[Any, ...]


def size(x: torch.Tensor | None, dim: int) -> Any:
    """Takes the size of an axis; 0 where there is none, or no tensor, for a branch that is not taken then."""
    return x.shape[dim] if x is not None and -x.dim() <= dim < x.dim() else 0


def select(x: torch.Tensor, dim: int, index: Any, nonnegative: bool = False) -> torch.Tensor:
    """Takes `x[..., index, ...]`.

    Args:
        nonnegative: the index is known to be no less than 0, so that it need not count from the end.
    """
    if not is_tensor(index):
        return x.select(dim, index)
    place = index if nonnegative else _from_start(index, x.shape[dim])
    return x.index_select(dim, place.reshape(1)).squeeze(dim)


def rows(x: torch.Tensor, dim: int, index: Any, nonnegative: bool, every: bool = False) -> torch.Tensor:
    """Takes `x[..., index[k], ...]` for each k, stacked along a new first axis; of an index that is a number, that row alone.

    Args:
        every: the indices count up from 0, so that as many of them as the axis is long take it whole.
    """
    if not is_tensor(index) or not index.dim():
        return select(x, dim, index, nonnegative)
    if every and same_sizes([x.shape[dim]], [index.shape[0]]):
        return x.movedim(dim, 0).clone(memory_format=torch.contiguous_format)
    place = index if nonnegative else _from_start(index, x.shape[dim])
    return x.index_select(dim, place).movedim(dim, 0)


def projected(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Applies a linear layer to all rows, in one product of two matrices.

    Of more axes, or of what is not contiguous, torch.export notes that there is an element at all.
    """
    shape = rows.shape[:-1]
    flat = rows.clone(memory_format=torch.contiguous_format).reshape(math.prod(shape), rows.shape[-1])
    return torch.ops.aten.linear(flat, weight, bias).reshape(*shape, weight.shape[0])  # type: ignore[no-any-return]


def element(x: torch.Tensor, indices: Sequence[Any], nonnegative: bool = False) -> torch.Tensor:
    """Takes `x[i, j, ...]` with one gather."""
    if not any(map(is_tensor, indices)):
        for index in indices:
            x = x.select(0, index)
        return x
    places = [as_tensor(index) if nonnegative else _from_start(index, x.shape[axis]) for axis, index in enumerate(indices)]
    return torch.ops.aten.index.Tensor(x, places)  # type: ignore[no-any-return]


def window(x: torch.Tensor, dim: int, start: Any, width: int, nonnegative: bool = False) -> torch.Tensor:
    """Takes `x[..., start:start + width, ...]`, all of which must be there."""
    if not is_tensor(start):
        return x.narrow(dim, start, width)
    first = start if nonnegative else _from_start(start, x.shape[dim])
    return x.index_select(dim, first.reshape(1) + torch.arange(width))


def cut(x: torch.Tensor, dim: int, start: Any, end: Any, step: int) -> torch.Tensor:
    """Takes `x[..., start:end:step, ...]`, with bounds that may be computed from tensors."""
    if not is_tensor(start) and not is_tensor(end):
        return torch.ops.aten.slice.Tensor(x, dim, start, None if _is_endless(end) else end, step)  # type: ignore[no-any-return]
    size = x.shape[dim]
    first = 0 if start is None else as_size(_bound(start, size))
    last = size if end is None or _is_endless(end) else as_size(_bound(end, size))
    torch._check(last <= size)  # noqa: SLF001 - torch's own way to tell the exporter
    torch._check(first <= last)  # noqa: SLF001
    part = x.narrow(dim, first, last - first)
    return part if step == 1 else torch.ops.aten.slice.Tensor(part, dim, 0, None, step)


def put(base: torch.Tensor, steps: Sequence[Step], value: Any) -> torch.Tensor:  # noqa: PLR0911 - one for each kind of view
    """Returns `base` with the part that `steps` lead to replaced by `value`.

    Args:
        steps: views from the base on, each an operator's name and its arguments: (("select", 0, i), ("slice", 1, 2, 5, 1)).

    Raises:
        ExportError: a step is a view that cannot be written through.
    """
    steps = [step for step in steps if not _takes_all(step)]
    if not steps:
        return _filled(base, value)
    if len(steps) > 1 and all(step[0] == "select" and step[1] == 0 for step in steps):
        return _put_element(base, steps, value)
    step, rest = steps[0], steps[1:]
    name, arguments = step[0], step[1:]
    if name == "at":
        place = arguments[0]
        for view, *others in rest:
            place = places.through(base, place, view, *others)
        return places.put(base, place, value)
    if name == "select":
        return _put_row(base, arguments, rest, value)
    if name == "window":
        index = _place(base, *arguments[:2]) + torch.arange(arguments[2])
        return base.index_copy(arguments[0], index, put(base.index_select(arguments[0], index), rest, value))
    if name == "slice" and (is_tensor(arguments[1]) or is_tensor(arguments[2])):
        return _put_cut(base, arguments, rest, value)
    if name in ("slice", "narrow"):
        return _put_slice(base, arguments if name == "slice" else (arguments[0], arguments[1], arguments[1] + arguments[2], 1), rest, value)
    if name not in _BACK:
        raise ExportError(f"writes in place through a view made by {name}", todo="Write into the tensor itself, by index.")
    back: Callable[..., torch.Tensor] = _BACK[name]
    return back(put(getattr(base, name)(*arguments), rest, value), base, arguments)


def _filled(base: torch.Tensor, value: Any) -> torch.Tensor:
    """Gives a value the shape and the element type of what it replaces as a whole."""
    filled = value if is_tensor(value) and value.dim() else torch.as_tensor(beside(base, as_tensor(value)))
    if filled.dim() > base.dim():  # a write drops axes of size 1 in front, and refuses others
        filled = filled.reshape(filled.shape[filled.dim() - base.dim() :])
    filled = filled.to(base.dtype)
    return filled if same_shape(filled, base) else filled.expand(base.shape)


_BACK: dict[str, Any] = {
    "unsqueeze": lambda x, _, a: x.squeeze(a[0]),
    "squeeze": lambda x, base, _: x.reshape(base.shape),
    "transpose": lambda x, _, a: x.transpose(*a),
    "t": lambda x, _base, _a: x.t(),
    "view": lambda x, base, _: x.reshape(base.shape),
    "reshape": lambda x, base, _: x.reshape(base.shape),
    "flatten": lambda x, base, _: x.reshape(base.shape),
    "permute": lambda x, _, a: x.permute([list(a[0]).index(axis) for axis in range(len(a[0]))]),
    "movedim": lambda x, _, a: x.movedim(a[1], a[0]),
    "detach": lambda x, _base, _a: x,
    "alias": lambda x, _base, _a: x,
}


def _put_element(base: torch.Tensor, steps: Sequence[Step], value: Any) -> torch.Tensor:
    places = tuple(_place(base, axis, step[2:]) for axis, step in enumerate(steps))
    part = put(base[(0,) * len(steps)] if not is_tensor(value) else _shaped(base, len(steps)), (), value)
    return base.index_put(places, part.unsqueeze(0))


def _shaped(base: torch.Tensor, axes: int) -> torch.Tensor:
    return base.new_empty(base.shape[axes:])


def _dense(x: torch.Tensor) -> torch.Tensor:
    """Copies a part of a tensor: writing into it as it lies would note how its strides compare."""
    return x.clone(memory_format=torch.contiguous_format)


def _put_row(base: torch.Tensor, arguments: Step, rest: Sequence[Step], value: Any) -> torch.Tensor:
    dim = arguments[0]
    old = _dense(select(base, dim, *arguments[1:])) if rest else _shaped(base.movedim(dim, 0), 1)
    new = put(old, rest, value)
    if not is_tensor(arguments[1]) and not isinstance(arguments[1], torch.SymInt):
        return base.select_scatter(new, dim, arguments[1])
    return base.index_copy(dim, _place(base, dim, arguments[1:]), new.unsqueeze(dim))


def _put_slice(base: torch.Tensor, arguments: Step, rest: Sequence[Step], value: Any) -> torch.Tensor:
    dim, start, end, step = arguments
    new = put(_dense(cut(base, dim, start, end, step)), rest, value)
    return base.slice_scatter(new, dim, start, None if _is_endless(end) else end, step)


def _put_cut(base: torch.Tensor, arguments: Step, rest: Sequence[Step], value: Any) -> torch.Tensor:
    """Writes into a slice whose bounds are tensors, and never makes a tensor of its size where the value has none."""
    dim, start, end, step = arguments
    dim %= base.dim()
    if rest and rest[0][0] == "select" and rest[0][1] % (base.dim()) != dim:  # x[a:b, i]: the row first
        other = rest[0][1] % base.dim()
        inner = ("slice", dim - (other < dim), start, end, step)
        return put(base, (("select", other, *rest[0][2:]), inner, *rest[1:]), value)
    if rest:
        raise ExportError("writes in place into a part of a slice whose bounds are computed", todo="Write into the whole slice.")
    size = base.shape[dim]
    first = _bound(0 if start is None else start, size)
    value = torch.as_tensor(beside(base, as_tensor(value))).to(base.dtype)
    after = base.dim() - dim  # axes from this one on
    if value.dim() < after or (isinstance(value.shape[-after], int) and value.shape[-after] == 1):
        places = torch.arange(size)
        chosen = (places >= first) & ((places - first) % step == 0)
        if end is not None and not _is_endless(end):
            chosen &= places < _bound(end, size)
        return torch.where(chosen.reshape([-1, *[1] * (after - 1)]), value, base)
    shape = list(base.shape)
    shape[dim] = value.shape[-after]
    return base.index_copy(dim, torch.arange(shape[dim]) * step + first, value.expand(shape))


def _place(base: torch.Tensor, dim: int, index: Step) -> torch.Tensor:
    known = len(index) > 1 and index[1]
    return (as_tensor(index[0]) if known else _from_start(index[0], base.shape[dim])).reshape(1)


def _from_start(index: Any, size: Any) -> torch.Tensor:
    """Counts a negative index from the end."""
    if not is_tensor(index):
        return as_tensor(index if not isinstance(index, int) or index >= 0 else index + size)
    return torch.where(index < 0, index + size, index)


def _bound(index: Any, size: Any) -> Any:
    """Moves a slice's bound into the tensor, as Python does."""
    if not is_tensor(index):
        return index if not isinstance(index, int) or index >= 0 else size + index
    return torch.clamp(torch.minimum(_from_start(index, size), as_tensor(size)), min=0)


def _is_endless(end: Any) -> bool:
    return isinstance(end, int) and end >= _ENDLESS


def _is_zero(index: Any) -> bool:
    return isinstance(index, int) and index == 0


def _takes_all(step: Step) -> bool:
    return step[0] == "slice" and (step[2] is None or _is_zero(step[2])) and (step[3] is None or _is_endless(step[3])) and step[4] == 1


def masked_put(base: torch.Tensor, indices: Sequence[Any], value: torch.Tensor, accumulate: bool = False) -> torch.Tensor:
    """Does `x[mask] = v` with a select where it can: a mask over the first axes, and a value of one element."""
    if len(indices) == 1 and indices[0] is not None and indices[0].dtype == torch.bool and value.dim() == 0 and not accumulate:
        mask = indices[0]
        for _ in range(base.dim() - mask.dim()):
            mask = mask.unsqueeze(-1)
        return torch.where(mask, value.to(base.dtype), base)
    return torch.ops.aten.index_put.default(base, indices, value, accumulate)  # type: ignore[no-any-return]

"""`if` on what is known at run time only: both sides and a select where that is cheap, else torch's `cond`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from exportkit.control_flow.lists import Buffer, Probe, Rows, Tally, UnseenError, as_rows
from exportkit.control_flow.scalars import as_tensor, is_number, is_tensor, same_shape
from exportkit.control_flow.structure import UNSET, ImpossibleError, Operands, Unset, exporting, fresh, take_apart, unrecorded
from exportkit.errors import ExportError

Branch = Callable[..., tuple[Any, ...]]
_cond = torch.ops.higher_order.cond


def choose(flag: Any, then: Branch, otherwise: Branch, captured: Sequence[Any] = (), cheap: bool = False) -> tuple[Any, ...]:
    """Runs one of two branches.

    Args:
        captured: what both branches take: torch's `cond` sees no variable from outside.
        cheap: both may run, and each result is selected.

    Raises:
        ExportError: the branches give what no runtime can choose between.
    """
    if not is_tensor(flag) or not exporting():
        return then(*captured) if flag else otherwise(*captured)
    flag = flag.reshape(())
    try:
        ours = _tried(then, captured, recorded=cheap)
    except (ImpossibleError, UnseenError):
        return otherwise(*captured)
    try:
        theirs = _tried(otherwise, captured, recorded=cheap)
    except (ImpossibleError, UnseenError):
        return then(*captured)
    if cheap:
        return tuple(select(flag, a, b) for a, b in zip(ours, theirs, strict=True))
    with unrecorded():
        form = tuple(_common(a, b) for a, b in zip(ours, theirs, strict=True))
    return _recorded(flag, (then, otherwise), captured, form)


def _tried(branch: Branch, captured: Sequence[Any], *, recorded: bool) -> tuple[Any, ...]:
    if recorded:
        return branch(*captured)
    with unrecorded():
        return branch(*captured)


def _recorded(flag: torch.Tensor, branches: tuple[Branch, Branch], captured: Sequence[Any], form: tuple[Any, ...]) -> tuple[Any, ...]:
    """Calls `cond`, with operands and results taken apart into tensors."""
    wanted, build = take_apart(form)
    if not wanted:
        return form
    operands = Operands(*captured)

    def wrapped(branch: Branch) -> Callable[..., tuple[Any, ...]]:
        def run(*given: Any) -> tuple[Any, ...]:
            results = branch(*operands.build(given))
            leaves = take_apart(tuple(_fit(result, one) for result, one in zip(results, form, strict=True)))[0]
            return tuple(fresh(as_tensor(leaf).to(one.dtype)) for leaf, one in zip(leaves, wanted, strict=True))

        return run

    results = _cond(flag, wrapped(branches[0]), wrapped(branches[1]), tuple(operands.values))
    return build(iter(results))  # type: ignore[no-any-return]


def _common(a: Any, b: Any) -> Any:  # noqa: PLR0911 - one for each kind of value
    """Finds the form that two branches' results share: tensors where they differ, else the value itself."""
    if isinstance(a, Unset) or isinstance(b, Unset):
        return _tensors(b if isinstance(a, Unset) else a)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        if isinstance(a, list) and len(a) != len(b) and all(is_number(one) or is_tensor(one) for one in [*a, *b]):
            return _common_rows(a, b)
        if len(a) != len(b):
            raise _unlike("lists of different length")
        return type(a)([_common(x, y) for x, y in zip(a, b, strict=True)])
    if _is_constant(a, b):
        return a
    if a is None or b is None:
        raise _unlike("a tensor in one and None in the other")
    if isinstance(a, Tally | Probe) or (isinstance(a, Buffer) and isinstance(b, Buffer) and same_shape(a.room, b.room)):
        return a
    if isinstance(a, Rows | Buffer) or isinstance(b, Rows | Buffer):
        return _common_rows(a, b)
    a, b = as_tensor(a), as_tensor(b)
    if a.dim() != b.dim():
        raise _unlike(f"tensors of rank {a.dim()} and {b.dim()}")
    return a.to(torch.promote_types(a.dtype, b.dtype)) if a.dtype != b.dtype else a


def _common_rows(a: Any, b: Any) -> Rows:
    """Stacks a list of which the branches give more or fewer elements."""
    filled = a if not isinstance(a, list) or a else b
    return as_rows(filled)


def _fit(result: Any, form: Any) -> Any:
    """Brings a branch's result into the common form."""
    if isinstance(result, Unset):
        return _empty(form)
    if isinstance(form, Rows):
        return as_rows(result, form.parts[0])
    if isinstance(form, tuple | list):
        return type(form)([_fit(one, part) for one, part in zip(result, form, strict=True)])
    return as_tensor(result) if is_tensor(form) else result


def _empty(form: Any) -> Any:
    if isinstance(form, tuple | list):
        return type(form)([_empty(one) for one in form])
    return torch.zeros(form.shape, dtype=form.dtype) if is_tensor(form) else form


def _tensors(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)([_tensors(one) for one in value])
    return as_tensor(value) if is_number(value) else value


def _is_constant(a: Any, b: Any) -> bool:
    if is_tensor(a) or is_tensor(b) or isinstance(a, torch.SymInt) or isinstance(b, torch.SymInt):
        return a is b
    return type(a) is type(b) and not isinstance(a, Buffer | Rows | Tally | Probe) and bool(a == b)


def select(flag: torch.Tensor, a: Any, b: Any) -> Any:  # noqa: PLR0911 - one for each kind of value
    """Chooses between two values that are both there."""
    if isinstance(a, Unset):
        return b
    if isinstance(b, Unset) or a is b:
        return a
    if isinstance(a, tuple | list) and isinstance(b, tuple | list) and len(a) == len(b):
        return type(a)([select(flag, x, y) for x, y in zip(a, b, strict=True)])
    if isinstance(a, Buffer) and isinstance(b, Buffer):
        gained = a.gained if a.gained == b.gained else None
        return replace(a, room=select(flag, a.room, b.room), count=select(flag, a.count, b.count), gained=gained)
    if isinstance(a, Tally) and isinstance(b, Tally):
        return Tally(select(flag, a.count, b.count))
    if isinstance(a, Probe) and isinstance(b, Probe):
        return a if a.element is not None else b
    if _is_constant(a, b):
        return a
    if not (is_number(a) or is_tensor(a)) or not (is_number(b) or is_tensor(b)):
        raise _unlike(f"{type(a).__name__} and {type(b).__name__}")
    a, b = as_tensor(a), as_tensor(b)
    if a.dtype == torch.bool and b.dtype == torch.bool:
        return (flag & a) | (~flag & b)  # onnxruntime has no Where for bool
    return torch.where(flag, a, b)


def _unlike(what: str) -> ExportError:
    return ExportError(
        f"the branches of an `if` on a tensor give {what}",
        todo="Give a tensor of the same shape in both, for instance zeros where there is nothing.",
    )


__all__ = ["UNSET", "choose", "select"]

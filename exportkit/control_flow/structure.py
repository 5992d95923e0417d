"""Values of the user's source taken apart into what torch's control flow operators pass on (tensors and sizes), and put together again."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._guards import detect_fake_mode
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

from exportkit.control_flow.lists import Buffer, Rows, Tally
from exportkit.control_flow.places import Place, matched
from exportkit.control_flow.scalars import as_tensor, is_number, is_tensor, same_sizes
from exportkit.errors import ExportError

Leaves = list[Any]
Build = Callable[[Iterator[Any]], Any]


@dataclass(frozen=True, slots=True)
class Unset:
    """A variable that has no value yet, and that nothing reads before it has one."""


UNSET = Unset()


class ImpossibleError(RuntimeError):
    """What a `raise` of the user's source raises: where it hangs on a tensor, that branch is never taken by what is exported."""


def fail(message: str = "") -> None:
    """Raises what the user's source raises."""
    raise ImpossibleError(message)


def exporting() -> bool:
    """Says whether torch.export runs the code; else it is plain eager Python."""
    return torch.compiler.is_exporting()


def take_apart(value: Any) -> tuple[Leaves, Build]:  # noqa: PLR0911 - one for each kind of value
    """Lists the tensors and symbolic sizes in a value; the function returned builds it from others."""
    if is_tensor(value) or isinstance(value, torch.SymInt):
        return [value], next
    if isinstance(value, torch.SymFloat | torch.SymBool):
        return [as_tensor(value)], next
    if isinstance(value, Rows):
        leaves, build = take_apart(value.parts)
        return leaves, lambda given: Rows(build(given))
    if isinstance(value, Buffer):
        return [value.room, value.count], lambda given: Buffer(next(given), next(given), value.step, value.spare)
    if isinstance(value, Place):
        numbers = value.numbers()
        varying = [place for place, one in enumerate(numbers) if is_tensor(one) or isinstance(one, torch.SymInt)]
        return [numbers[place] for place in varying], lambda given: value.of_numbers(
            [next(given) if place in varying else one for place, one in enumerate(numbers)]
        )
    if isinstance(value, Tally):
        return [value.count], lambda given: Tally(next(given))
    if isinstance(value, tuple | list):
        parts = [take_apart(one) for one in value]
        kind = type(value)
        return [leaf for leaves, _ in parts for leaf in leaves], lambda given: kind([build(given) for _, build in parts])
    if isinstance(value, dict):
        leaves, build = take_apart(list(value.values()))
        keys = list(value)
        return leaves, lambda given: dict(zip(keys, build(given), strict=True))
    return [], lambda _: value


def as_carried(value: Any) -> Any:
    """Turns the numbers in a value into tensors: a loop carries nothing else that changes."""
    if is_number(value):
        return as_tensor(value)
    if isinstance(value, tuple | list):
        return type(value)([as_carried(one) for one in value])
    if isinstance(value, Rows):
        return Buffer(value.whole(), as_tensor(value.whole().shape[0]))
    return value


def fresh(value: Any) -> Any:
    """Copies a tensor: what a loop's body or a branch gives must be no view of what it got."""
    return value.clone(memory_format=torch.contiguous_format) if is_tensor(value) else value


@contextlib.contextmanager
def unrecorded() -> Iterator[None]:
    """Runs code for the shapes of its results; nothing of it comes into the exported program."""
    mode = detect_fake_mode()
    shapes = mode.shape_env if mode is not None else None
    with disable_proxy_modes_tracing(), shapes.ignore_fresh_unbacked_symbols() if shapes is not None else contextlib.nullcontext():
        yield


class Operands:
    """What a body captures, as the operands of one of torch's control flow operators: each tensor and each size once.

    A second view of one tensor is copied: torch refuses operands that share memory.
    """

    def __init__(self, *values: Any) -> None:
        leaves, self._build = take_apart(values)
        self.values: list[Any] = []
        places: dict[Any, int] = {}
        memories: set[Any] = set()
        self._places = []
        for leaf in leaves:
            key = str(leaf) if isinstance(leaf, torch.SymInt) else id(leaf)
            if key not in places:
                places[key] = len(self.values)
                memory = leaf.untyped_storage()._cdata if is_tensor(leaf) else None  # noqa: SLF001 - torch has no public way
                self.values.append(fresh(leaf) if memory in memories else leaf)
                memories |= {memory} - {None}
            self._places.append(places[key])

    def build(self, given: Sequence[Any]) -> Any:
        """Builds the values from other operands."""
        return self._build(iter([given[place] for place in self._places]))


def match(old: Any, new: Any, what: str) -> Any:
    """Gives a carried value the shape and type that the loop's body gives it.

    Args:
        old: what the loop starts from.
        new: what one step makes of it.
        what: the value's name, for the error.

    Raises:
        ExportError: the value changes its shape from step to step.
    """
    if isinstance(old, Unset):
        return _zeros(new)
    if isinstance(old, tuple | list) and isinstance(new, tuple | list):
        if len(old) != len(new):
            raise ExportError(
                f"the list {what} changes its length in the loop", todo="Append one element in each step, or keep its length as it is."
            )
        return type(old)([match(a, b, what) for a, b in zip(old, new, strict=True)])
    if isinstance(old, Place) and isinstance(new, Place):
        place = matched(old, new)
        if place is None:
            raise ShapeError(f"{what} changes its rank in the loop", todo="Carry a part with as many axes in each step.")
        return place
    if not is_tensor(old) or not is_tensor(new):
        return old
    if old.dtype != new.dtype:
        old = old.to(torch.promote_types(old.dtype, new.dtype))
    return old if same_sizes(old.shape, new.shape) else _widened(old, new, what)


def _widened(old: torch.Tensor, new: torch.Tensor, what: str) -> torch.Tensor:
    """Broadcasts a start value to the shape that it has from the first step on."""
    lengths = [1] * (new.dim() - old.dim()) + list(old.shape)
    fits = len(lengths) == new.dim() and all(same_sizes([a], [b]) or a == 1 for a, b in zip(lengths, new.shape, strict=True))
    if not fits:
        text = f"{what} changes its shape in the loop, from {_words(old.shape)} to {_words(new.shape)}"
        raise ShapeError(text, todo="Give it its last shape before the loop, and write into parts of it; or append to a list.")
    return old.expand(new.shape)


class ShapeError(ExportError):
    """A carried value changes its shape; a loop of known length is unrolled then."""


def _words(shape: Sequence[Any]) -> str:
    return f"({', '.join(map(str, shape))})"


def _zeros(like: Any) -> Any:
    if isinstance(like, tuple | list):
        return type(like)([_zeros(one) for one in like])
    like = as_tensor(like) if is_number(like) else like
    try:
        return torch.zeros(like.shape, dtype=like.dtype) if is_tensor(like) else like
    except RuntimeError as error:
        if "not tracked with proxy" not in str(error):
            raise
        text = "a value that the loop makes, such as what is returned from inside of it, has a size that only the loop knows"
        raise ShapeError(text, todo="Keep what it is made of, and make it after the loop.") from error

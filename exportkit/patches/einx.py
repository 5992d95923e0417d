"""einx's element-wise functions in torch's own terms: einx compiles each call for plain integer sizes, which a capture would bake."""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": torch.add,
    "subtract": torch.sub,
    "multiply": torch.mul,
    "divide": torch.div,
    "true_divide": torch.div,
    "where": torch.where,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "less": torch.lt,
    "less_equal": torch.le,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
}
_AXIS = re.compile(r"[A-Za-z_]\w*|\.\.\.")


@contextlib.contextmanager
def symbolic() -> Iterator[None]:
    """Lets captures of a block follow sizes through einx, where the network's packages have loaded it."""
    einx = sys.modules.get("einx")
    with contextlib.ExitStack() as stack:
        for name, function in _FUNCTIONS.items() if einx else ():
            if own := getattr(einx, name, None):
                stack.enter_context(mock.patch.object(einx, name, _aligned(own, function)))
        yield


def _aligned(own: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps torch's function as einx has it: `"i, j -> i j"` names the axes of operands and result. What is more than that, einx does."""

    def call(description: str, *operands: Any, **options: Any) -> Any:
        before, arrow, after = description.partition("->")
        inputs, output = [one.split() for one in before.split(",")], after.split()
        simple = all(_AXIS.fullmatch(axis) for axes in inputs for axis in axes) and all(
            _AXIS.fullmatch(axis) or axis == "1" for axis in output
        )
        unique = all(len(axes) == len(set(axes)) and set(axes) <= set(output) for axes in inputs)
        fits = len(inputs) == len(operands) and all(
            isinstance(one, torch.Tensor) or not axes for one, axes in zip(operands, inputs, strict=True)
        )
        if options or not arrow or not simple or not unique or not fits:
            return own(description, *operands, **options)
        widths = [one.ndim - len(axes) + 1 for one, axes in zip(operands, inputs, strict=True) if "..." in axes]
        placed = (_placed(one, _spelled(axes, widths), _spelled(output, widths)) for one, axes in zip(operands, inputs, strict=True))
        return function(*placed)

    return call


def _spelled(axes: list[str], widths: list[int]) -> list[str]:
    """Names each axis that an ellipsis stands for."""
    return [name for axis in axes for name in ([f"...{place}" for place in range(max(widths))] if axis == "..." else [axis])]


def _placed(operand: Any, axes: list[str], output: list[str]) -> Any:
    """Brings an operand's axes into the order of the result, with one of size 1 where it has none."""
    if not isinstance(operand, torch.Tensor):
        return operand
    operand = operand.permute([axes.index(axis) for axis in output if axis in axes])
    for place, axis in enumerate(output):
        if axis not in axes:
            operand = operand.unsqueeze(place)
    return operand

"""Equal values that forward orders: torch leaves open which of them topk and sort name first, and every runtime may name another."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


class InOrder(TorchDispatchMode):
    """Takes equal values in their order, as ONNX's TopK does ("the lower index appears first"), wherever torch does not say.

    The documentation of torch.topk, torch.sort(stable=False) and torch.kthvalue leaves it open; that of max, min, argmax and argmin does
    not. torch.median's does, and takes them in their order.

    Attributes:
        used: whether such an operator ran.
    """

    def __init__(self) -> None:
        super().__init__()
        self.used = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        stand_in = _STAND_INS.get(func)
        if stand_in is None:
            return func(*args, **(kwargs or {}))
        self.used = True
        return stand_in(*args, **(kwargs or {}))


def _topk(x: torch.Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:  # noqa: A002, ARG001 - aten's own signature
    return tuple(one.narrow(dim, 0, k).contiguous() for one in _sort(x, dim, largest))


def _sort(x: torch.Tensor, dim: int = -1, descending: bool = False, **_: Any) -> Any:
    return aten.sort.stable(x, stable=True, dim=dim, descending=descending)


def _kth(x: torch.Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    found = [one.narrow(dim, k - 1, 1) if x.dim() else one for one in _sort(x, dim)]
    return tuple((one if keepdim or not x.dim() else one.squeeze(dim)).contiguous() for one in found)


_STAND_INS: dict[Any, Callable[..., Any]] = {
    aten.topk.default: _topk,
    aten.sort.default: _sort,
    aten.sort.stable: _sort,
    aten.kthvalue.default: _kth,
}

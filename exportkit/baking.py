"""Sizes that Python takes for numbers while torch.export captures, as `range(x.shape[1])` does: their dimension is fixed from then on."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


class Baked:
    """Whether a size was taken for a number."""

    found = False


@contextlib.contextmanager
def stopped() -> Iterator[Baked]:
    """Stops a capture where a size becomes a number: a loop over it would be written out step by step, for nothing."""
    baked = Baked()
    originals = {name: getattr(torch.SymInt, name) for name in ("__index__", "__int__")}

    def stop(size: Any) -> int:
        if size.node.expr.free_symbols:
            baked.found = True
            raise RuntimeError("forward takes a size for a number, as a loop over it does, which fixes that dimension")
        return int(originals["__int__"](size))

    try:
        for name in originals:
            setattr(torch.SymInt, name, stop)
        yield baked
    finally:
        for name, original in originals.items():
            setattr(torch.SymInt, name, original)

"""torch.export (2.11 to 2.13) without guards on sizes that nobody asked for: a loop of no step, or of one, is a loop like any other."""

import contextlib
import functools
import importlib
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from torch.fx.experimental import _config
from torch.fx.experimental.symbolic_shapes import guard_or_false, has_free_unbacked_symbols


@contextlib.contextmanager
def guardless() -> Iterator[None]:
    """Lets sizes be 0 and 1 while torch.export traces.

    - Sizes count as other than 1 only where that is known; torch.export would note "s - 1 >= 2" to know whether `x[1:]` is contiguous.
    - `scan` looks at the first row to learn its shape, and notes that there is one.
    - `cond` sorts the strides of its results, and notes each comparison; ours are contiguous.
    - A graph is not parted where the gradient is switched off (`torch.no_grad` in a layer): no artifact has one, and torch loses the bodies
      of loops on the way.
    - Operands of `cond` that decompositions turn into numbers (the width of an LSTM) go into its branches: torch names operands.
    - `cond` finds no row length in a stride of `Max(1, s + Min(2, s) - 2)`, that of a contiguous tensor whose size may be 0.
    - torch 2.11 does not know the size of `x[:2]` where that of x may be smaller, nor whether it is 0, as `logsumexp` asks.
    """
    scan = importlib.import_module("torch._higher_order_ops.scan")  # the package holds a function of that name
    order = importlib.import_module("torch._inductor.ir")
    cond = importlib.import_module("torch._higher_order_ops.cond")
    naming = importlib.import_module("torch._export.utils")
    modes = importlib.import_module("torch._export.passes.replace_set_grad_with_hop_pass")
    fakes = importlib.import_module("torch._subclasses.fake_impls")

    with (
        _config.patch(backed_size_oblivious=True),  # type: ignore[attr-defined]
        mock.patch.object(scan, "first_slice_copy", _row_like),
        mock.patch.object(order, "get_stride_order", _contiguous_order),
        mock.patch.object(naming, "_name_hoo_subgraph_placeholders", functools.partial(_named, naming._name_hoo_subgraph_placeholders)),  # noqa: SLF001
        mock.patch.object(modes, "replace_set_grad_with_hop_pass", _without_gradient_modes),
        mock.patch.object(cond, "_merge_output", functools.partial(_merged, cond._merge_output)),  # noqa: SLF001 - what `cond` calls
        mock.patch.object(fakes, "_compute_slice_index", functools.partial(_within, fakes._compute_slice_index)),  # noqa: SLF001
    ):
        yield


def _named(name: Any, graph: torch.fx.GraphModule) -> None:
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.higher_order.cond):
        predicate, *branches, operands = node.args
        numbers = {place: one for place, one in enumerate(operands) if not isinstance(one, torch.fx.Node)}
        for branch in branches if numbers else ():
            part = getattr(graph, branch.target).graph
            inputs = part.find_nodes(op="placeholder")
            for place, number in numbers.items():
                _write_out(inputs[place], number)
        node.args = (predicate, *branches, tuple(one for place, one in enumerate(operands) if place not in numbers))
    name(graph)


def _write_out(node: torch.fx.Node, number: Any) -> None:
    def swapped(one: torch.fx.Node) -> Any:
        return number if one is node else one

    for user in list(node.users):
        given: Any = torch.fx.node.map_arg((user.args, user.kwargs), swapped)
        user.args, user.kwargs = given
    node.graph.erase_node(node)


def _without_gradient_modes(graph: torch.fx.GraphModule, signature: Any) -> tuple[torch.fx.GraphModule, Any]:
    for part in graph.modules():
        if isinstance(part, torch.fx.GraphModule):
            for node in part.graph.find_nodes(op="call_function", target=torch._C._set_grad_enabled):  # noqa: SLF001 - what is traced
                part.graph.erase_node(node)
            part.recompile()
    return graph, signature


def _row_like(rows: torch.Tensor, dim: int = 0) -> torch.Tensor:
    shape = list(rows.shape)
    del shape[dim]
    return rows.new_empty(shape)


def _merged(merge: Any, a: Any, b: Any, mode: Any) -> Any:
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor) or (a.dtype, a.dim()) != (b.dtype, b.dim()):
        return merge(a, b, mode)
    sizes = [x if _is_same(x, y) else _any_size(mode.shape_env) for x, y in zip(a.shape, b.shape, strict=True)]
    with mode:
        return torch.empty(sizes, dtype=a.dtype, device=a.device)


def _any_size(shapes: Any) -> Any:
    size = shapes.create_unbacked_symint()
    torch._check(size >= 0)  # noqa: SLF001 - torch's own way to tell the exporter
    return size


def _is_same(x: Any, y: Any) -> bool:
    if not isinstance(x, torch.SymInt) or not isinstance(y, torch.SymInt):
        return x is y or (type(x) is type(y) and bool(x == y))
    return x.node.expr == y.node.expr and not has_free_unbacked_symbols(x)


def _within(own: Any, size: Any, index: Any) -> Any:
    """Computes a bound of a slice as torch 2.13 does: cut to a size that may be smaller."""
    bound = own(size, index)
    if bound is None and guard_or_false(index >= 0):
        return torch.sym_min(index, size)
    if bound is None and guard_or_false(index < 0):
        return torch.sym_max(index + size, 0)
    return bound


def _contiguous_order(strides: Sequence[Any], *_: Any, **__: Any) -> list[int]:
    return list(reversed(range(len(strides))))

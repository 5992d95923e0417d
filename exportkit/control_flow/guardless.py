"""torch.export without guards on sizes that nobody asked for (torch 2.13): a loop of no step, or of one, is a loop like any other."""

import contextlib
import functools
import importlib
import operator
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from torch.export import ExportedProgram
from torch.fx.experimental import _config


@contextlib.contextmanager
def guardless() -> Iterator[None]:
    """Lets sizes be 0 and 1 while torch.export traces.

    - Sizes count as other than 1 only where that is known; torch.export would note "s - 1 >= 2" to know whether `x[1:]` is contiguous.
    - `scan` looks at the first row to learn its shape, and notes that there is one.
    - `cond` sorts the strides of its results, and notes each comparison; ours are contiguous.
    """
    scan = importlib.import_module("torch._higher_order_ops.scan")  # the package holds a function of that name
    order = importlib.import_module("torch._inductor.ir")

    with (
        _config.patch(backed_size_oblivious=True),  # type: ignore[attr-defined]
        mock.patch.object(scan, "first_slice_copy", _row_like),
        mock.patch.object(order, "get_stride_order", _contiguous_order),
    ):
        yield


def savable(program: ExportedProgram) -> ExportedProgram:
    """Writes sums of sizes as additions: torch traces `sym_sum`, and its archive does not know it."""
    for part in program.graph_module.modules():
        if not isinstance(part, torch.fx.GraphModule):
            continue
        for node in part.graph.find_nodes(op="call_function", target=torch.sym_sum):
            with part.graph.inserting_before(node):
                total = functools.reduce(lambda a, b: _added(part.graph, a, b), node.args[0])
            node.replace_all_uses_with(total)
            part.graph.erase_node(node)
        part.recompile()
    return program


def _added(graph: torch.fx.Graph, a: Any, b: Any) -> torch.fx.Node:
    node = graph.call_function(operator.add, (a, b))
    values = [one.meta["val"] if isinstance(one, torch.fx.Node) else one for one in (a, b)]
    node.meta["val"] = values[0] + values[1]
    return node


def _row_like(rows: torch.Tensor, dim: int = 0) -> torch.Tensor:
    shape = list(rows.shape)
    del shape[dim]
    return rows.new_empty(shape)


def _contiguous_order(strides: Sequence[Any], *_: Any, **__: Any) -> list[int]:
    return list(reversed(range(len(strides))))

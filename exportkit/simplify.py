"""An exported program in fewer and plainer operators: what depends on weights alone is computed, what ONNX lacks is spelled out."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._library.custom_ops import OPDEFS
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

aten = torch.ops.aten


def simplified(program: ExportedProgram, args: tuple[Any, ...], kwargs: Mapping[str, Any], shapes: Any) -> ExportedProgram:
    """Folds what depends on weights alone into constants, spells operators out, and exports the result again.

    Args:
        args: forward's positional arguments, as for the first export; `kwargs` and `shapes` (dynamic_shapes) likewise.
    """
    module: Any = program.module(check_guards=False)
    _fold(module)
    again = torch.export.export(module, args, dict(kwargs), dynamic_shapes=shapes)
    plain: ExportedProgram = again.run_decompositions(_table(again))
    return plain


def _fold(module: Any) -> None:
    """Replaces each node that depends on weights alone, and that something else reads, by a buffer of its value."""
    values: dict[Any, Any] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            value = operator.attrgetter(node.target)(module)
            if isinstance(value, torch.Tensor):
                values[node] = value.detach()
        elif (
            node.op == "call_function"
            and node.all_input_nodes
            and all(one in values for one in node.all_input_nodes)
            and _is_pure(node.target)
        ):
            args, kwargs = pytree.tree_map_only(torch.fx.Node, values.__getitem__, (node.args, node.kwargs))
            values[node] = node.target(*args, **kwargs)
    for number, (node, value) in enumerate(values.items()):
        readers = [user for user in node.users if user not in values]
        if node.op == "get_attr" or not readers or not isinstance(value, torch.Tensor):
            continue
        name = f"_folded_{number}"
        module.register_buffer(name, value.detach().clone())
        with module.graph.inserting_before(node):
            constant = module.graph.get_attr(name)
        node.replace_all_uses_with(constant)
    module.graph.eliminate_dead_code()
    module.recompile()


def _is_pure(target: Any) -> bool:
    if target is operator.getitem:
        return True
    if not isinstance(target, torch._ops.OpOverload):  # noqa: SLF001 - torch's own class of operators
        return False
    return not target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in target.tags  # noqa: SLF001


def _table(program: ExportedProgram) -> dict[Any, Callable[..., Any]]:
    """Lists the operators that torch's ONNX exporter does not know, or gets wrong (2.13), in plain ones.

    A custom operator that was written in Python (`torch.library.custom_op`) is traced through.
    """
    targets = {node.target for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)}  # noqa: SLF001
    table: dict[Any, Callable[..., Any]] = {}
    for target in targets:
        if definition := OPDEFS.get(target._schema.name):  # noqa: SLF001
            table[target] = definition._init_fn  # noqa: SLF001 - torch has no public way to the function
    table |= {aten.scatter_reduce.two: _scatter_reduce, aten.histc.default: _histc, aten.vdot.default: _vdot}
    for holder, name in ((aten, "_grouped_mm"), (torch.ops.transformers, "grouped_mm_fallback")):  # the second: its CPU stand-in
        if hasattr(holder, name):
            table[getattr(holder, name).default] = _grouped_mm
    return table


def _scatter_reduce(x: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True) -> Any:
    """Spells scatter_reduce with include_self=False, and "mean": the exporter writes both as if they were not asked for."""
    if include_self and reduce != "mean":
        return NotImplemented
    ones = torch.ones_like(source)
    hits = torch.zeros_like(x).scatter_add(dim, index, ones)
    if reduce in ("sum", "mean"):
        total = (x if include_self else torch.where(hits > 0, torch.zeros_like(x), x)).scatter_add(dim, index, source)
        if reduce == "sum":
            return total
        count = (hits + 1 if include_self else hits).clamp(min=1)
        return torch.div(total, count) if x.is_floating_point() else torch.div(total, count, rounding_mode="floor")
    neutral = {"prod": 1, "amax": -torch.inf, "amin": torch.inf}[reduce]
    if reduce != "prod" and not x.is_floating_point():
        bounds = torch.iinfo(x.dtype)
        neutral = bounds.min if reduce == "amax" else bounds.max
    start = torch.where(hits > 0, torch.full_like(x, neutral), x)
    return aten.scatter_reduce.two(start, dim, index, source, reduce)


def _histc(x: Any, bins: int = 100, min: float = 0, max: float = 0) -> Any:  # noqa: A002 - torch's names
    if min == max:
        return NotImplemented
    place = ((x - min) / (max - min) * bins).floor().clamp(max=bins - 1)
    inside = (x >= min) & (x <= max)
    hits = (place.reshape(-1, 1) == torch.arange(bins, device=x.device)) & inside.reshape(-1, 1)
    return hits.to(x.dtype).sum(0)


def _vdot(a: Any, b: Any) -> Any:
    return (a.conj() * b).sum()


def _grouped_mm(a: Any, b: Any, offs: Any = None, bias: Any = None, out_dtype: Any = None) -> Any:
    """Multiplies each group of rows by its own matrix: by all of them in turn, and keeps what is each row's own."""
    if offs is None or bias is not None or out_dtype is not None or a.ndim != 2 or b.ndim != 3:  # noqa: PLR2004 - rows by matrices
        return NotImplemented
    group = (torch.arange(a.shape[0], device=a.device).unsqueeze(1) >= offs.unsqueeze(0)).sum(1, keepdim=True)
    out = a @ b[0]
    for number in range(1, b.shape[0]):
        out = torch.where(group == number, a @ b[number], out)
    return out

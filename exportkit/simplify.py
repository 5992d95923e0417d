"""An exported program in fewer and plainer operators: what depends on weights alone is computed, what ONNX lacks is spelled out."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._library.custom_ops import OPDEFS
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from exportkit import decompositions


def simplified(program: ExportedProgram, args: tuple[Any, ...], kwargs: Mapping[str, Any], shapes: Any) -> ExportedProgram:
    """Folds what depends on weights alone into constants, spells operators out, and exports the result again.

    Args:
        args: forward's positional arguments, as for the first export; `kwargs` and `shapes` (dynamic_shapes) likewise.
    """
    module: Any = program.module(check_guards=False)
    _fold(module)
    again = torch.export.export(module, args, dict(kwargs), dynamic_shapes=shapes)
    return _spelled_out(again, _table(again) | decompositions.fourier.table())


def spelled_out(program: ExportedProgram) -> ExportedProgram:
    """Writes operators that ONNX lacks, or gets wrong, in plainer ones; inside of loops and branches, too."""
    return _spelled_out(program, _table(program))


def _spelled_out(program: ExportedProgram, table: dict[Any, Callable[..., Any]]) -> ExportedProgram:
    plain: ExportedProgram = program.run_decompositions(table)
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
    """Lists what to spell out: a custom operator that was written in Python (`torch.library.custom_op`) is traced through."""
    nodes = [node for part in program.graph_module.modules() if isinstance(part, torch.fx.GraphModule) for node in part.graph.nodes]
    targets = {node.target for node in nodes if isinstance(node.target, torch._ops.OpOverload)}  # noqa: SLF001
    table: dict[Any, Callable[..., Any]] = {}
    for target in targets:
        if definition := OPDEFS.get(target._schema.name):  # noqa: SLF001
            table[target] = definition._init_fn  # noqa: SLF001 - torch has no public way to the function
    values = [node.meta.get("val") for node in nodes]
    return table | decompositions.table(complex_values=any(isinstance(one, torch.Tensor) and one.is_complex() for one in values))

"""Arithmetic of sizes in operators that torch's archive (2.13) knows, and that its ONNX exporter gets right."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Graph, Node


def plain(program: ExportedProgram) -> ExportedProgram:
    """Spells sums and quotients of sizes in plainer operators, in place.

    - `sym_sum` is not in the archive: additions.
    - `math.ceil(n / k)` and `math.floor(n / k)` are not, either: divisions of integers.
    - `-(-n // k)`: ONNX's Div rounds towards 0, where Python rounds down: what is divided is made a multiple before.
    """
    for part in program.graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            for node in list(part.graph.nodes):
                if node.op == "call_function" and node.target in _RULES:
                    with part.graph.inserting_before(node):
                        new = _RULES[node.target](part.graph, node)
                    if new is not None:
                        node.replace_all_uses_with(new)
                        part.graph.erase_node(node)
            part.recompile()
    return program


def _call(graph: Graph, function: Callable[..., Any], *given: Any) -> Node:
    node = graph.call_function(function, given)
    node.meta["val"] = function(*map(_value, given))
    return node


def _value(given: Any) -> Any:
    return given.meta["val"] if isinstance(given, Node) else given


def _sum(graph: Graph, node: Node) -> Node:
    sizes: Any = node.args[0]
    total: Node = functools.reduce(lambda a, b: _call(graph, operator.add, a, b), sizes)
    return total


def _rounded_up(graph: Graph, node: Node) -> Node | None:
    quotient = _quotient(node.args[0])
    return _call(graph, operator.floordiv, _call(graph, operator.add, quotient[0], quotient[1] - 1), quotient[1]) if quotient else None


def _rounded_down(graph: Graph, node: Node) -> Node | None:
    quotient = _quotient(node.args[0])
    return _call(graph, operator.floordiv, *quotient) if quotient else None


def _divided(graph: Graph, node: Node) -> Node | None:
    size, divisor = node.args
    if not isinstance(_value(size), torch.SymInt) or _is_size(size) or not isinstance(divisor, int) or divisor <= 0:
        return None
    whole = _call(graph, operator.sub, size, _call(graph, operator.mod, size, divisor))
    quotient = graph.call_function(operator.floordiv, (whole, divisor))
    quotient.meta["val"] = node.meta["val"]
    return quotient


def _quotient(node: Any) -> tuple[Any, int] | None:
    """Takes the division of a size by a positive constant apart."""
    if isinstance(node, Node) and node.target is operator.truediv:
        size, divisor = node.args
        return (size, divisor) if _is_size(size) and isinstance(divisor, int) and divisor > 0 else None
    return None


def _is_size(node: Any) -> bool:
    """Says whether an integer is known to be no less than 0."""
    value = _value(node)
    return isinstance(value, torch.SymInt) and value.node.shape_env.bound_sympy(value.node.expr).lower >= 0


_RULES: dict[Any, Callable[[Graph, Node], Node | None]] = {
    torch.sym_sum: _sum,
    math.ceil: _rounded_up,
    math.floor: _rounded_down,
    operator.floordiv: _divided,
}

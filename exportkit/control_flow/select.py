"""Which modules of a network need lifting: those whose own source has a loop or a branch that hangs on sizes or values."""

import ast
import contextlib
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from exportkit.control_flow.dialect import functions_of, has_untyped_none, widened
from exportkit.control_flow.graph import is_endless, place_of
from exportkit.errors import ExportError

_STATEMENTS = (ast.For, ast.While, ast.If, ast.IfExp, ast.ListComp)
_FROM_TENSORS = frozenset({
    "aten::Bool", "aten::Int", "aten::Float", "aten::item", "aten::is_nonzero", "aten::IntImplicit", "aten::FloatImplicit",
})  # fmt: skip
_FROM_SIZES = frozenset({
    "aten::size", "aten::len", "aten::numel",
})  # fmt: skip


def modules_to_lift(network: nn.Module) -> dict[str, Any]:
    """Maps the names of the outermost modules with control flow of their own to those modules, scripted.

    Raises:
        ExportError: there is none, or TorchScript takes none of them.
    """
    refused: list[tuple[bool, ExportError]] = []
    found = dict(_visit(network, "", refused))
    if not found:
        told = sorted(refused, key=lambda one: not one[0])  # a loop is more likely what stands in the way than a branch
        raise told[0][1] if told else ExportError("there is no loop or branch to lift")
    return found


def has_control_flow(network: nn.Module) -> bool:
    """Says whether the source of a network has loops or branches of its own; those over its own layers count too."""
    return isinstance(network, torch.jit.ScriptModule) or any(map(_places_of, network.modules()))


def _visit(module: nn.Module, name: str, refused: list[tuple[bool, ExportError]]) -> Iterator[tuple[str, Any]]:
    if isinstance(module, torch.jit.ScriptModule):
        yield name, module
        return
    places = _places_of(module)
    if places:
        try:
            graph = scripted(module, lifting=True)
        except Exception as error:  # noqa: BLE001 - TorchScript raises whatever it likes
            refused.append((_has_loop(type(module)), _refusal(error, module, name)))
        else:
            if places & set(_dynamic_places(graph.inlined_graph)):
                yield name, graph
                return
    for child, part in module.named_children():
        yield from _visit(part, f"{name}.{child}" if name else child, refused)


def scripted(module: nn.Module, *, lifting: bool = False) -> Any:
    """Scripts a module: as it stands, else in our words for TorchScript; in those first where an input may be None, and no type says so."""
    if isinstance(module, torch.jit.ScriptModule):
        return module
    kinds: set[Any] = {type(part) for part in module.modules()}
    if any(map(has_untyped_none, kinds)):
        with contextlib.suppress(Exception):
            return torch.jit.script(widened(module, lifting=lifting))
    try:
        return torch.jit.script(module)
    except Exception:
        with contextlib.suppress(Exception):
            return torch.jit.script(widened(module, lifting=lifting))
        raise


def _refusal(error: Exception, module: nn.Module, name: str) -> ExportError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    where = place_of(str(error)) or _telling_place(type(module))
    told = f"{name or 'the network'} ({type(module).__name__}) has a loop or branch, and TorchScript does not take it"
    return ExportError(
        f"{told}: {lines[0][:200].rstrip(':') if lines else type(error).__name__}",
        where=where,
        todo="Move it into a module of its own, written as torch.jit.script takes it.",
    )


def _dynamic_places(block: Any) -> Iterator[str]:
    """Yields the user's lines of loops of unknown length, and of branches on tensors or sizes."""
    for node in block.nodes():
        if node.kind() == "prim::Loop":
            trip, going = node.inputsAt(0).node(), next(next(node.blocks()).outputs()).node()
            known = trip.kind() == "prim::Constant" and not is_endless(trip.output().toIValue())
            if not (known and going.kind() == "prim::Constant"):
                yield place_of(node.sourceRange())
        elif node.kind() == "prim::If" and _is_dynamic(node):
            yield place_of(node.sourceRange())
        for inner in node.blocks():
            yield from _dynamic_places(inner)


def _is_dynamic(node: Any) -> bool:
    """Says whether a branch hangs on a tensor; or on a size, where it does more than to raise: it computes, or chooses a number."""
    kinds = set(_sources(node.inputsAt(0).node(), set()))
    blocks = [{one.kind() for one in block.nodes()} for block in node.blocks()]
    chooses = node.outputsSize() > 0 and not any("prim::RaiseException" in inner for inner in blocks)
    works = chooses or any(inner - {"prim::Constant"} and "prim::RaiseException" not in inner for inner in blocks)
    return bool(kinds & _FROM_TENSORS) or (works and bool(kinds & _FROM_SIZES))


def _sources(node: Any, seen: set[Any]) -> Iterator[str]:
    if node in seen or len(seen) > 200:  # noqa: PLR2004 - a condition that hangs on more than that is dynamic anyhow
        return
    seen.add(node)
    yield node.kind()
    for value in node.inputs():
        yield from _sources(value.node(), seen)


def _places_of(module: nn.Module) -> set[str]:
    """Lists the lines of the control flow in a module's own forward, and in the methods and functions that it calls.

    Those methods may be of its layers (`self.crf.decode(x)`): a layer that is lifted by itself has its forward alone.
    """
    kind: Any = type(module)
    names = {name for function in functions_of(kind) for name in function.__code__.co_names} - {"forward"}
    kinds: set[Any] = {type(part) for part in module.modules()} - {kind}
    found = [*_statements(kind), *(one for other in kinds for name in names if hasattr(other, name) for one in _statements(other, name))]
    return {place for place, _ in found}


def _has_loop(kind: type) -> bool:
    return any(issubclass(statement, ast.For | ast.While) for _, statement in _statements(kind))


def _telling_place(kind: type) -> str:
    """Returns the line to name of a class's control flow: a loop before a branch, the class's own file before those that it calls.

    It is "" where only a layer's method, which the class calls, has some.
    """
    own = Path(inspect.getsourcefile(kind) or "").name

    def order(statement: tuple[str, type]) -> tuple[bool, bool, int]:
        file, _, line = statement[0].rpartition(":")
        return file != own, not issubclass(statement[1], ast.For | ast.While), int(line)

    return min(_statements(kind), key=order, default=("", ast.If))[0]


@functools.cache
def _statements(kind: type, method: str = "forward") -> list[tuple[str, type]]:
    """Lists the control flow of a method and of what it calls, as (line, kind of statement); none of torch's layers, which it exports."""
    if kind.__module__.startswith("torch.nn."):
        return []
    return [one for function in functions_of(kind, method) for one in _in_source(function)]


def _in_source(function: Callable[..., Any]) -> list[tuple[str, type]]:
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, IndentationError):
        return []
    file = Path(inspect.getsourcefile(function) or "").name
    return [(f"{file}:{first + node.lineno - 1}", type(node)) for node in ast.walk(tree) if isinstance(node, _STATEMENTS)]

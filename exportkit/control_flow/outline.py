"""Loops over lengths inside of functions that TorchScript does not take as a whole: each loop alone, with what it reads as arguments.

A network of another library is often beyond TorchScript (its configuration, its caches), while its loop is plain tensors and numbers.
In the function's own code such a loop, with the lists and tensors that it fills, becomes a choice: where its length is a number the
loop as it stands; where it varies, a module made of its very lines (region.py), lifted for the types of the values that arrive.
"""

import ast
import contextlib
import inspect
import itertools
import textwrap
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from exportkit.control_flow import numbers
from exportkit.control_flow.dialect import as_range, functions_of, reversed_range, writes
from exportkit.control_flow.region import Region
from exportkit.control_flow.whole import whole

_BEYOND = (ast.Yield, ast.YieldFrom, ast.Await, ast.Try, ast.With, ast.Lambda, ast.FunctionDef, ast.ClassDef, ast.Delete, ast.Global)
_FILLS = ("append", "extend", "insert", "pop")
_NUMBERS = itertools.count(1)


@contextlib.contextmanager
def outlined(network: nn.Module, *, loops: bool = True) -> Iterator[int]:
    """Outlines the loops in the functions that a network's modules call, for a block; says how many.

    Args:
        loops: False leaves loops as they stand, and keeps alone the numbers of sizes symbolic (numbers.py), as is done in any case.
    """
    changed = [(function, *new) for function in _functions(network) if (new := _outlined(function, loops=loops)) is not None]
    with contextlib.ExitStack() as stack:
        stack.enter_context(numbers.symbolic_math())
        for function, code, regions in changed:
            stack.callback(setattr, function, "__code__", function.__code__)  # in place: others hold the function itself
            function.__code__ = code
            for name, stand_in in {**numbers.NAMES, **regions}.items():
                if name not in function.__globals__:
                    function.__globals__[name] = stand_in
                    stack.callback(function.__globals__.pop, name)
        yield sum(len(regions) for _, _, regions in changed)


def _functions(network: nn.Module) -> list[Any]:
    kinds = dict.fromkeys(type(module) for module in network.modules())
    own = [kind for kind in kinds if not kind.__module__.startswith("torch.") and not hasattr(kind, "lifted_source")]
    return list(dict.fromkeys(function for kind in own for function in functions_of(kind) if not function.__closure__))


def _outlined(function: Callable[..., Any], *, loops: bool) -> tuple[types.CodeType, dict[str, Any]] | None:
    """Compiles a function anew, its loops outlined and its numbers symbolic; None where nothing changes."""
    if not loops and not {"int", "float"} & set(function.__code__.co_names):
        return None
    try:
        found, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(found)))
    except (OSError, TypeError, SyntaxError):
        return None
    definition = tree.body[0]
    if not isinstance(definition, ast.FunctionDef):
        return None
    ast.increment_lineno(tree, first - 1)
    definition.decorator_list = []
    outliner = _Outliner(function, definition, first)
    regions: dict[str, Any] = {}
    if loops:
        definition.body = outliner.block(definition.body, [])
        regions |= outliner.regions
    symbolic = numbers.rewritten(definition)
    if loops and (one := whole(function)) is not None:
        name, given = f"_whole_{next(_NUMBERS)}", ", ".join(inspect.signature(function).parameters)
        regions[name] = one
        choice = ast.parse(f"if {name}.takes({given}):\n    return {name}({given})").body[0]
        definition.body = [ast.copy_location(choice, definition.body[0]), *definition.body]
    if not symbolic and not regions:
        return None
    code = compile(ast.fix_missing_locations(tree), function.__code__.co_filename, "exec", dont_inherit=True)
    return next(one for one in code.co_consts if isinstance(one, types.CodeType)), regions


class _Outliner:
    """Walks a function's blocks from the top, and outlines the first loop on each way down.

    Attributes:
        begins: each local name, and the line before which it has no value.
    """

    def __init__(self, function: Callable[..., Any], definition: ast.FunctionDef, first: int) -> None:
        self.function = function
        self.lines = ["", *[""] * (first - 1), *textwrap.dedent(inspect.getsource(function)).splitlines()]
        self.begins: dict[str, int] = dict.fromkeys(inspect.signature(function).parameters, definition.lineno)
        for node in ast.walk(definition):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.begins[node.id] = min(node.lineno, self.begins.get(node.id, node.lineno))
        self.regions: dict[str, Region] = {}

    def block(self, body: list[ast.stmt], after: list[ast.stmt]) -> list[ast.stmt]:
        """Outlines what a block holds; `after` is what may run once it has ended."""
        done: list[ast.stmt] = []
        ends: dict[int, int] = {}
        for at, statement in enumerate(body):
            if _is_candidate(statement) and at >= max(ends.values(), default=0):
                start, end = _span(body, at)
                if start >= max(ends.values(), default=0) and self._is_whole(body[start:end], body[end:] + after):
                    ends[start] = end
        at = 0
        while at < len(body):
            if at in ends:
                done.append(self._choice(body[at : ends[at]], body[ends[at] :] + after))
                at = ends[at]
                continue
            statement = body[at]
            again = [statement] if isinstance(statement, ast.For | ast.While) else []
            for field in ("body", "orelse", "finalbody"):
                if isinstance(inner := getattr(statement, field, None), list) and not isinstance(statement, ast.FunctionDef | ast.ClassDef):
                    setattr(statement, field, self.block(inner, body[at + 1 :] + again + after))
            done.append(statement)
            at += 1
        return done

    def _is_whole(self, statements: Sequence[ast.stmt], after: Sequence[ast.stmt]) -> bool:
        """Says whether statements can be a function: they leave at their end alone, and what a list gets stays among them."""
        nodes = [node for one in statements for node in ast.walk(one)]
        early = [node for node in nodes if isinstance(node, ast.Return) and node is not statements[-1]]
        names = _names_of(statements)
        outside = {name for name in names.filled if self.begins.get(name, 0) < statements[0].lineno}
        return not early and not any(isinstance(node, _BEYOND) for node in nodes) and not outside and not (names.filled & _live(after))

    def _choice(self, statements: list[ast.stmt], after: list[ast.stmt]) -> ast.stmt:
        """Writes `if the length varies: what the region gives, else: the statements`."""
        loop = next(one for one in statements if _is_candidate(one))
        names, first = _names_of(statements), statements[0].lineno
        inputs = sorted(name for name in _live(statements) if self.begins.get(name, first) < first)
        results = sorted((names.bound | names.changed) & _live(after) & self.begins.keys())
        returns = isinstance(statements[-1], ast.Return)
        later = any(writes(node) or _raises_one(node, results) for one in after for node in ast.walk(one))
        given = () if returns else tuple(results)
        region = Region(self.function, tuple(self.lines), tuple(statements), tuple(inputs), given, written_later=later)
        name = f"_outlined_{next(_NUMBERS)}"
        self.regions[name] = region
        assert isinstance(loop, ast.For)
        counted = _range_of(loop)
        assert counted is not None
        arguments, bounds = ", ".join(inputs), ", ".join(map(ast.unparse, counted.args))
        if _reads(counted.args) & _names_of(statements[: statements.index(loop)]).bound:
            bounds = arguments  # the length is read on the way to the loop: what varies shows in what it is read from
        left = "return " if returns else f"{', '.join(results)} = " if results else ""  # with nothing left, it writes into what it reads
        taken = f"{left}{name}({arguments})"
        text = f"if {name}.varies({bounds}):\n    {taken}\nelse:\n    pass"
        choice = ast.parse(text).body[0]
        assert isinstance(choice, ast.If)
        for node in ast.walk(choice):
            ast.copy_location(node, loop)
        choice.orelse = statements
        return choice


@dataclass(frozen=True, slots=True)
class _Names:
    """The names that statements read, bind, change in place, and, as lists, fill."""

    read: set[str]
    bound: set[str]
    changed: set[str]
    filled: set[str]


def _names_of(statements: Sequence[ast.AST]) -> _Names:
    names = _Names(set(), set(), set(), set())
    for node in (node for one in statements for node in ast.walk(one)):
        if isinstance(node, ast.Name):
            (names.bound if isinstance(node.ctx, ast.Store) else names.read).add(node.id)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
            names.changed.add(node.value.id)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            if node.func.attr in _FILLS:
                names.filled.add(node.func.value.id)
            elif node.func.attr.endswith("_") and not node.func.attr.endswith("__"):
                names.changed.add(node.func.value.id)
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            names.read.add(node.target.id)
    return names


def _live(statements: Sequence[ast.stmt]) -> set[str]:
    """Lists the names that statements may read before they bind them."""
    return _flow(statements)[0]


def _flow(statements: Sequence[ast.stmt]) -> tuple[set[str], set[str]]:
    """Lists the names that statements may read before they bind them, and those that they bind on every way."""
    live: set[str] = set()
    bound: set[str] = set()
    for one in statements:
        read, binds = _reads([one]), set[str]()
        if isinstance(one, ast.If):
            sides = _flow(one.body), _flow(one.orelse)
            read, binds = _reads([one.test]) | sides[0][0] | sides[1][0], sides[0][1] & sides[1][1]
        elif isinstance(one, ast.For):
            read = _reads([one.iter]) | (_live(one.body) - _names_of([one.target]).bound) | _live(one.orelse)
        elif isinstance(one, ast.Assign | ast.AnnAssign | ast.AugAssign):
            binds = _names_of([one]).bound
        live |= read - bound
        bound |= binds
    return live, bound


def _reads(nodes: Sequence[ast.AST]) -> set[str]:
    return _names_of(nodes).read


def _raises_one(node: ast.AST, names: Sequence[str]) -> bool:
    """Says whether a node is `x += y` of one of some names."""
    return isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id in names


def _is_candidate(statement: ast.stmt) -> bool:
    """Says whether a statement is `for ... in range(...)`, or that reversed, to a number that only a run tells."""
    counted = _range_of(statement)
    return counted is not None and not all(isinstance(one, ast.Constant) for one in counted.args)


def _range_of(statement: ast.stmt) -> ast.Call | None:
    """Returns the `range(...)` over which a loop runs, forwards or backwards."""
    if not isinstance(statement, ast.For):
        return None
    return reversed_range(statement.iter) or as_range(statement.iter)


def _span(body: Sequence[ast.stmt], at: int) -> tuple[int, int]:
    """Finds which statements around a loop go with it: those that make what it fills, and those that read its lists."""
    names, start, end = _names_of([body[at]]), at, at + 1
    for name in names.filled | names.changed:
        makers = [
            place for place in range(at) if isinstance(body[place], ast.Assign | ast.AnnAssign) and name in _names_of([body[place]]).bound
        ]
        start = min([start, *makers[-1:]])
    for place in range(at + 1, len(body)):
        if names.filled & _names_of([body[place]]).read:
            end = place + 1
    return start, end

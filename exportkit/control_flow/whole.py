"""A function that writes in place around its loops, lifted as a whole: its loops alone would hide which names show the same memory.

It may be one that a module calls, or the forward of a torch.autograd.Function, which is a plain function once nobody asks for gradients.
TorchScript takes the types of arguments from annotations, and says which are missing: they are put in where it asks for them.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from exportkit.control_flow.dialect import (
    Function,
    Replacement,
    compiled,
    functions_of,
    is_autograd,
    replacements,
    reworded,
    span,
    untyped_nones,
    writes,
)
from exportkit.control_flow.lift import lift
from exportkit.control_flow.region import literal, type_of
from exportkit.control_flow.scalars import is_tensor
from exportkit.errors import ExportError

_MOST_ASKED = 50
_ASKS = re.compile(
    r"^(\w+)\(.*\) -> .*:\nExpected a value of type '.*' for argument '(\w+)' but instead found type '(int|float|bool|List\[int\])'",
    re.MULTILINE,
)
Kinds = dict[tuple[str, str], str]  # (function, argument) -> its type


def whole(function: Function) -> "Whole | None":
    """Returns a function as one to lift as a whole, where it, or what it calls, has loops and writes in place; None for any other."""
    parameters = inspect.signature(function).parameters.values()
    if any(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD, one.KEYWORD_ONLY) or one.name == "self" for one in parameters):
        return None
    nodes = [node for one in functions_of(None, function) for node in _nodes(one)]
    loops = any(isinstance(node, ast.For | ast.While) for node in nodes)
    return Whole(function) if loops and any(map(writes, nodes)) else None


class Whole:
    """A function, lifted for the types of the arguments that arrive."""

    def __init__(self, function: Function) -> None:
        self.function, self.context = function, _has_context(function)
        self._made: dict[Any, Any] = {}

    def takes(self, *values: Any) -> bool:
        """Says whether some size varies, and the function can be lifted; where it writes, no two arguments may show the same memory."""
        sizes = [size for one in values for size in (one.shape if is_tensor(one) else [one])]
        if not any(isinstance(size, torch.SymInt) for size in sizes):
            return False
        lifted = self._lifted(values[self.context :])
        return lifted is not None and not lifted.shares_written(self._given(values))

    def __call__(self, *values: Any) -> Any:
        """Computes what the function computes, and writes into the arguments what it writes."""
        return self._lifted(values[self.context :]).call(self._given(values))

    def _given(self, values: tuple[Any, ...]) -> list[Any]:
        """Lists the arguments that are no constants."""
        return [value for value in values[self.context :] if literal(value) is None]

    def _lifted(self, values: tuple[Any, ...]) -> Any:
        kinds = tuple(literal(value) or type_of(value) for value in values)
        if None in kinds:
            return None
        if kinds not in self._made:
            self._made[kinds] = self._make(values)
        return self._made[kinds]

    def _make(self, values: tuple[Any, ...]) -> Any:
        kinds: Kinds = {}
        for _ in range(_MOST_ASKED):
            try:
                return lift(torch.jit.script(self._module(values, kinds)), give_written=True)
            except ExportError:
                return None  # it may be that its loops can be lifted one by one
            except Exception as error:  # noqa: BLE001 - TorchScript raises whatever it likes
                asked: Kinds = {(name, argument): kind for name, argument, kind in _ASKS.findall(str(error))}
                if not asked.keys() - kinds.keys():
                    return None
                kinds |= asked
        return None

    def _module(self, values: tuple[Any, ...], kinds: Kinds) -> nn.Module:
        own = list(inspect.signature(self.function).parameters)
        names = [f"_{place}" for place in range(len(values))]
        arguments = {name: str(type_of(value)) for name, value in zip(names, values, strict=True) if literal(value) is None}
        given = [literal(value) or name for name, value in zip(names, values, strict=True)]
        typed = {
            (self.function.__name__, parameter): arguments[name]
            for parameter, name in zip(own[self.context :], names, strict=True)
            if name in arguments
        }
        typed |= {(self.function.__name__, parameter): "int" for parameter in own[: self.context]}
        function = _Copies(kinds | typed).of(self.function, context=own[0] if self.context else "")
        head = ", ".join(["self", *(f"{name}: {kind}" for name, kind in arguments.items())])
        text = f"def forward({head}):\n    return _whole({', '.join(['0'] * self.context + given)})\n"
        kind: type[nn.Module] = type("Whole", (nn.Module,), {"forward": compiled(_forward, text, {"torch": torch, "_whole": function})})
        return kind()


def _forward() -> None:
    """Has no arguments, defaults and annotations of its own."""


class _Copies:
    """Copies of functions in TorchScript's words, which call one another."""

    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        self.made: dict[Function, Function] = {}

    def of(self, function: Function, *, context: str = "") -> Function:
        """Returns the copy of a function; of one that is no plain function, itself.

        Args:
            context: the argument that keeps what a backward needs.

        Raises:
            TypeError: a decorator wraps the function, and does what its source does not tell.
        """
        if function in self.made:
            return self.made[function]
        if hasattr(function, "__wrapped__"):
            raise TypeError(f"{function.__name__} is wrapped")
        if function.__closure__ or str(function.__module__).startswith("torch."):
            return function
        lines, first = inspect.getsourcelines(function)
        source = textwrap.dedent("".join(lines))
        definition = ast.parse(source).body[0]
        if not isinstance(definition, ast.FunctionDef):
            return function
        space: dict[str, Any] = dict(function.__globals__)
        called = list(_called(definition, space))
        changes = [*_without_decorators(definition), *self._annotations(definition), *_kept(definition, context)]
        changes += replacements(ast.Module(definition.body, []), lifting=True, own=space)
        changes += [(*span(node), f"_static_{number}") for number, (node, _) in enumerate(called) if isinstance(node, ast.Attribute)]
        new = compiled(function, "\n" * (first - 1) + reworded(source, changes), space)
        self.made[function] = new
        for number, (node, value) in enumerate(called):
            space[node.id if isinstance(node, ast.Name) else f"_static_{number}"] = self.of(value)
        return new

    def _annotations(self, definition: ast.FunctionDef) -> Iterator[Replacement]:
        missing = dict.fromkeys((one.arg for one in untyped_nones(definition)), "Optional[Tensor]")
        for argument in definition.args.args:
            kind = self.kinds.get((definition.name, argument.arg)) or missing.get(argument.arg)
            if kind and argument.annotation is None:
                end = span(argument)[1]
                yield end, end, f": {kind}"


def _called(definition: ast.FunctionDef, space: Mapping[str, Any]) -> Iterator[tuple[ast.Name | ast.Attribute, Function]]:
    """Yields what a function calls of plain functions: by name, or as a static method of a class."""
    for node in ast.walk(definition):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name) and inspect.isfunction(space.get(called.id)):
            yield called, space[called.id]
        elif isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and isinstance(space.get(called.value.id), type):
            method = inspect.getattr_static(space[called.value.id], called.attr, None)
            if isinstance(method, staticmethod) and inspect.isfunction(method.__func__):
                yield called, method.__func__


def _without_decorators(definition: ast.FunctionDef) -> Iterator[Replacement]:
    """They gave the very function, else it would be wrapped; a static method's is of the class."""
    for one in definition.decorator_list:
        (line, column), end = span(one)
        yield (line, column - 1), end, ""


def _kept(definition: ast.FunctionDef, context: str) -> Iterator[Replacement]:
    """Takes out what a forward keeps for its backward: `ctx.save_for_backward(x)`, `ctx.shape = x.shape`."""
    for node in ast.walk(definition):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            target, parts = node.value.func, [*node.value.args, *node.value.keywords]
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, parts = node.targets[0], [node.value]
        else:
            continue
        keeps = isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == context
        if keeps and not any(isinstance(one, ast.Call | ast.NamedExpr) for part in parts for one in ast.walk(part)):
            yield *span(node), "pass"


def _nodes(function: Function) -> Iterator[ast.AST]:
    try:
        yield from ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function))))
    except (OSError, TypeError, SyntaxError):
        return


def _has_context(function: Function) -> bool:
    """Says whether a function is the forward of a torch.autograd.Function, and takes its context."""
    owner, _, name = function.__qualname__.rpartition(".")
    kind = function.__globals__.get(owner)
    return name == "forward" and is_autograd(kind) and kind.setup_context is torch.autograd.Function.setup_context

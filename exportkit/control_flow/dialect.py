"""A module's source in the words that TorchScript takes.

Without the messages of `raise` and `assert`, which no artifact speaks anyhow; and with the type of an input that may be None, which
TorchScript takes for a tensor that is always there: of `h=None` and `if h is None` it drops the branch.
"""

import ast
import copy
import functools
import inspect
import itertools
import linecache
import textwrap
import types
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import nn

_NUMBERS = itertools.count(1)
_HELPERS = 8  # functions that call functions: followed so deep
_CASTS = ("bool", "bfloat16")  # methods of a tensor that TorchScript does not know; of the other types it does
_ROUNDED = ("math.ceil", "math.floor", "int")
_PADS = ("F.pad", "nn.functional.pad", "torch.nn.functional.pad")
Function = Callable[..., Any]
Place = tuple[int, int]  # a line, and a column in bytes
Replacement = tuple[Place, Place, str]


def functions_of(kind: type | None, method: str | Function = "forward") -> list[Function]:
    """Lists a class's forward, another method or a function, and what it calls, as far as names tell, but none of torch's own.

    Static methods are among them, and the forward of a torch.autograd.Function that is applied.
    """
    seen: dict[Function, None] = {}
    waiting: list[tuple[Any, int]] = [(getattr(kind, method, None) if isinstance(method, str) else method, 0)]
    while waiting:
        function, depth = waiting.pop()
        function = inspect.unwrap(function) if callable(function) else function
        if not inspect.isfunction(function) or function in seen or depth > _HELPERS or str(function.__module__).startswith("torch."):
            continue
        seen[function] = None
        names = [*function.__code__.co_names, *function.__code__.co_freevars]
        for name in names:
            found = (getattr(kind, name, None), *_named(function.__globals__.get(name), names))
            waiting += [(one, depth + 1) for one in found if inspect.isfunction(one)]
    return list(seen)


@functools.cache
def has_untyped_none(kind: type) -> bool:
    """Says whether forward, or a method that it calls, has an input `name=None` without a type."""
    return any(untyped_nones(tree) for function in functions_of(kind) if _is_method(kind, function) and (tree := _tree(function)))


def _tree(function: Function) -> ast.FunctionDef | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)), type_comments=True)
    except (OSError, TypeError, SyntaxError):
        return None
    return tree.body[0] if isinstance(tree.body[0], ast.FunctionDef) else None


def untyped_nones(function: ast.FunctionDef) -> list[ast.arg]:
    """Lists the inputs `name=None`; none where a comment gives the types."""
    arguments = function.args
    if function.type_comment or any(one.type_comment for one in arguments.args):
        return []
    pairs = [
        *zip(reversed([*arguments.posonlyargs, *arguments.args]), reversed(arguments.defaults), strict=False),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return [one for one, value in pairs if isinstance(value, ast.Constant) and value.value is None and one.annotation is None]


def _named(value: Any, names: Iterable[str]) -> Iterator[Any]:
    """Yields the functions that a global stands for: itself, static methods of a class, what a torch.autograd.Function applies."""
    yield value
    if inspect.ismethod(value) and value.__name__ == "apply" and is_autograd(value.__self__):
        yield value.__self__.forward
    if isinstance(value, type):
        yield from (getattr(value, name) for name in names if isinstance(inspect.getattr_static(value, name, None), staticmethod))
        if is_autograd(value) and "apply" in names:
            yield value.forward


def is_autograd(value: Any) -> TypeGuard[type[torch.autograd.Function]]:
    return isinstance(value, type) and issubclass(value, torch.autograd.Function)


def writes(node: ast.AST) -> bool:
    """Says whether a node may write into a tensor: `x.add_(y)`, `x[0] = y`, `x[0] += y`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr.endswith("_") and not node.func.attr.startswith("_")
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
    return any(isinstance(one, ast.Subscript) for one in targets)


def widened(module: nn.Module, *, lifting: bool = False) -> nn.Module:
    """Copies a module and its children, and no weights; their methods are the same, in TorchScript's words.

    Args:
        lifting: the graph alone is read: `math.log2`, of which TorchScript's own way is not exact, may be written as what stands for it.
    """
    clone = copy.copy(module)
    clone._modules = {name: widened(part, lifting=lifting) if part is not None else None for name, part in module._modules.items()}  # noqa: SLF001
    kind = type(module)
    methods = {function.__name__: function for function in functions_of(kind) if _is_method(kind, function)}
    changed = {name: new for name, function in methods.items() if (new := _rewritten(function, lifting=lifting)) is not None}
    if changed:
        clone.__class__ = type(kind.__name__, (kind,), {**changed, "__module__": kind.__module__})
    return clone


def _is_method(kind: type, function: Function) -> bool:
    return inspect.unwrap(getattr(kind, function.__name__, None) or function) is function and hasattr(kind, function.__name__)


def _rewritten(function: Function, *, lifting: bool) -> Function | None:
    """Compiles a function anew in TorchScript's words, each of its lines at its old number; None where nothing changes."""
    if function.__closure__:
        return None
    try:
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError):
        return None
    source = textwrap.dedent("".join(lines))
    changed = reworded(source, replacements(ast.parse(source, type_comments=True), lifting=lifting, own=function.__globals__))
    if changed == source:
        return None
    return compiled(function, "\n" * (first - 1) + changed, function.__globals__)


def compiled(function: Function, text: str, space: dict[str, Any]) -> Function:
    """Compiles a function anew from other source, with other globals."""
    file = f"<widened {next(_NUMBERS)}>/{Path(inspect.getsourcefile(function) or '').name}"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)  # TorchScript reads the source from there
    code = next(one for one in compile(text, file, "exec", dont_inherit=True).co_consts if isinstance(one, types.CodeType))
    new = types.FunctionType(code, space, function.__name__, function.__defaults__)
    new.__kwdefaults__, new.__annotations__, new.__module__ = function.__kwdefaults__, function.__annotations__, function.__module__
    return new


def reworded(source: str, changes: Iterable[Replacement]) -> str:
    """Returns source with parts of it replaced, each of its lines at its old number."""
    lines = source.splitlines(keepends=True)
    for start, end, text in sorted(changes, reverse=True):
        (first, left), (last, right) = start, end
        head, tail = lines[first - 1].encode()[:left].decode(), lines[last - 1].encode()[right:].decode()
        lines[first - 1 : last] = [f"{head}{text}{tail}", *["\n"] * (last - first)]
    return "".join(lines)


def replacements(tree: ast.AST, *, lifting: bool, own: Container[str]) -> Iterator[Replacement]:
    """Yields (start, end, new text) of each part to replace, none inside of another.

    Args:
        own: the names to which the file gives a meaning: a `reversed` of its own is not Python's.
    """
    if isinstance(tree, ast.Raise) and tree.exc is not None:
        yield *span(tree), "raise RuntimeError('raised')"
        return
    if isinstance(tree, ast.Assert) and tree.msg is not None:
        yield from replacements(tree.test, lifting=lifting, own=own)
        yield *span(tree.msg), "'failed'"
        return
    if (
        isinstance(tree, ast.Call)
        and isinstance(tree.func, ast.Attribute)
        and tree.func.attr in _CASTS
        and not (tree.args or tree.keywords)
    ):
        line, column = span(tree.func)[1]
        yield (line, column - len(tree.func.attr)), span(tree)[1], f"to(torch.{tree.func.attr})"
    if "reversed" not in own and "range" not in own:
        if isinstance(tree, ast.expr) and (given := reversed_range(tree)) is not None and len(given.args) > 1:
            yield *span(tree), _backwards(*map(ast.unparse, given.args))
            return
        yield from _of_reversed(tree)
    if isinstance(tree, ast.FunctionDef):
        for one in untyped_nones(tree):
            yield span(one)[1], span(one)[1], ": Optional[Tensor]"
        yield from _of_nobody(tree)
        yield from _of_nothing_yet(tree)
    if lifting:
        yield from _of_numbers(tree)
    for child in ast.iter_child_nodes(tree):
        yield from replacements(child, lifting=lifting, own=own)


def as_range(node: ast.AST | None) -> ast.Call | None:
    """Returns what is a call `range(...)`."""
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range"
    return node if called and isinstance(node, ast.Call) and node.args and not node.keywords else None


def reversed_range(tree: ast.AST) -> ast.Call | None:
    """Returns the `range(...)` of `reversed(range(...))` and `range(...)[::-1]`."""
    return as_range(tree.value if _is_turned(tree) else tree.args[0] if _is_reversed(tree) else None)


def _of_reversed(tree: ast.AST) -> Iterator[Replacement]:
    """Turns `reversed(range(n))` into `range(n - 1, -1, -1)`, and `reversed(x)` of anything else into `x[::-1]`."""
    given = reversed_range(tree)
    if given is not None and isinstance(tree, ast.expr):
        yield from _around(tree, given.args[0], "range((", ") - 1, -1, -1)")
    elif _is_reversed(tree):
        yield from _around(tree, tree.args[0], "(", ")[::-1]")


def _around(tree: ast.expr, inner: ast.expr, before: str, after: str) -> Iterator[Replacement]:
    """Puts other text around a part of an expression."""
    (start, end), (first, last) = span(tree), span(inner)
    yield start, first, before
    yield last, end, after


def _backwards(start: str, end: str, step: str = "1") -> str:
    """Writes the range that goes back from the last number of another one to its first."""
    if step == "1":
        return f"range(({end}) - 1, ({start}) - 1, -1)"
    count = f"max(0, (({end}) - ({start}) + ({step}) - (1 if ({step}) > 0 else -1)) // ({step}))"
    return f"range(({start}) + ({count} - 1) * ({step}), ({start}) - ({step}), -({step}))"


def _is_reversed(tree: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "reversed" and len(tree.args) == 1


def _is_turned(tree: ast.AST) -> TypeGuard[ast.Subscript]:
    return isinstance(tree, ast.Subscript) and isinstance(tree.slice, ast.Slice) and ast.unparse(tree.slice) == "::-1"


def _of_nobody(function: ast.FunctionDef) -> Iterator[Replacement]:
    """Gives each `_` a name of its own where none is read: `for _ in range(n)` after `h, _ = f(x)` is two types to TorchScript."""
    places = [node for node in ast.walk(function) if isinstance(node, ast.Name) and node.id == "_"]
    if not any(isinstance(place.ctx, ast.Load) for place in places):
        yield from ((*span(place), f"_unused_{number}") for number, place in enumerate(places))


def _of_nothing_yet(function: ast.FunctionDef) -> Iterator[Replacement]:
    """Types `state = None` where a tensor takes its place later on: TorchScript holds it for None in every step."""
    given: dict[str, list[ast.Assign]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            given.setdefault(node.targets[0].id, []).append(node)
    typed = {node.target.id for node in ast.walk(function) if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    typed |= {one.arg for one in ast.walk(function.args) if isinstance(one, ast.arg)}
    for name, (first, *others) in given.items():
        if _is_none(first.value) and name not in typed and any(not _is_none(one.value) for one in others):
            end = span(first.targets[0])[1]
            yield end, end, ": Optional[Tensor]"


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _of_numbers(tree: ast.AST) -> Iterator[Replacement]:
    """Yields what TorchScript lacks of Python's numbers: `math.log2`, and powers that are ints."""
    if _is_log2(tree):
        yield from _around(tree, tree.args[0], "math.log(", ", 2.0)")
    if isinstance(tree, ast.Call) and ast.unparse(tree.func) in _PADS:
        fills = [*tree.args[3:4], *(word.value for word in tree.keywords if word.arg == "value")]
        yield from (one for fill in fills if not (isinstance(fill, ast.Constant) and fill.value is None) for one in _cast(fill, "float"))
    if isinstance(tree, ast.Slice):  # nothing but ints can be there
        powers = [one for one in (tree.lower, tree.upper, tree.step) if one is not None and any(map(_is_power, ast.walk(one)))]
        yield from (one for power in powers for one in _cast(power))
    if _is_power(tree) and isinstance(tree.left, ast.Constant) and isinstance(tree.left.value, int):
        rounded = tree.right
        if isinstance(rounded, ast.Call) and ast.unparse(rounded.func) in _ROUNDED and len(rounded.args) == 1 and _is_log2(rounded.args[0]):
            end = span(rounded.args[0].args[0])[1]
            yield end, end, " << 0"  # an int alone can be shifted; and the logarithm of an int is at least 0, the power an int
            yield from _cast(tree)


def _is_log2(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "math.log2" and len(node.args) == 1


def _is_power(node: ast.AST) -> TypeGuard[ast.BinOp]:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)


def _cast(node: ast.expr, kind: str = "int") -> Iterator[Replacement]:
    start, end = span(node)
    yield start, start, f"{kind}("
    yield end, end, ")"


def span(node: ast.stmt | ast.expr | ast.arg) -> tuple[Place, Place]:
    return (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)

"""A module's source in the words that TorchScript takes.

Without the messages of `raise` and `assert`, which no artifact speaks anyhow; and with the type of an input that may be None, which
TorchScript takes for a tensor that is always there: of `h=None` and `if h is None` it drops the branch.
"""

import ast
import copy
import functools
import inspect
import linecache
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

_HELPERS = 8  # functions that call functions: followed so deep
_CASTS = ("bool", "bfloat16")  # methods of a tensor that TorchScript does not know; of the other types it does
Function = Callable[..., Any]


def functions_of(kind: type, method: str = "forward") -> list[Function]:
    """Lists a class's forward, or another method, and what it calls, as far as names tell, but none of torch's own."""
    seen: dict[Function, None] = {}
    waiting: list[tuple[Any, int]] = [(getattr(kind, method, None), 0)]
    while waiting:
        function, depth = waiting.pop()
        function = inspect.unwrap(function) if callable(function) else function
        if not inspect.isfunction(function) or function in seen or depth > _HELPERS or str(function.__module__).startswith("torch."):
            continue
        seen[function] = None
        for name in [*function.__code__.co_names, *function.__code__.co_freevars]:
            found = (getattr(kind, name, None), function.__globals__.get(name))
            waiting += [(one, depth + 1) for one in found if inspect.isfunction(one)]
    return list(seen)


@functools.cache
def has_untyped_none(kind: type) -> bool:
    """Says whether forward, or a method that it calls, has an input `name=None` without a type."""
    return any(_untyped_nones(tree) for function in functions_of(kind) if _is_method(kind, function) and (tree := _tree(function)))


def _tree(function: Function) -> ast.FunctionDef | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)), type_comments=True)
    except (OSError, TypeError, SyntaxError):
        return None
    return tree.body[0] if isinstance(tree.body[0], ast.FunctionDef) else None


def _untyped_nones(function: ast.FunctionDef) -> list[ast.arg]:
    """Lists the inputs `name=None`; none where a comment gives the types."""
    arguments = function.args
    if function.type_comment or any(one.type_comment for one in arguments.args):
        return []
    pairs = [
        *zip(reversed([*arguments.posonlyargs, *arguments.args]), reversed(arguments.defaults), strict=False),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return [one for one, value in pairs if isinstance(value, ast.Constant) and value.value is None and one.annotation is None]


def widened(module: nn.Module) -> nn.Module:
    """Copies a module and its children, and no weights; their methods are the same, in TorchScript's words."""
    clone = copy.copy(module)
    clone._modules = {name: widened(part) if part is not None else None for name, part in module._modules.items()}  # noqa: SLF001
    kind = type(module)
    methods = {function.__name__: function for function in functions_of(kind) if _is_method(kind, function)}
    changed = {name: new for name, function in methods.items() if (new := _rewritten(function)) is not None}
    if changed:
        clone.__class__ = type(kind.__name__, (kind,), {**changed, "__module__": kind.__module__})
    return clone


def _is_method(kind: type, function: Function) -> bool:
    return inspect.unwrap(getattr(kind, function.__name__, None) or function) is function and hasattr(kind, function.__name__)


def _rewritten(function: Function) -> Function | None:
    """Compiles a function anew in TorchScript's words, each of its lines at its old number; None where nothing changes."""
    if function.__closure__:
        return None
    try:
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError):
        return None
    source = textwrap.dedent("".join(lines))
    changed = _reworded(source)
    if changed == source:
        return None
    file = f"<widened {id(function)}>/{Path(inspect.getsourcefile(function) or '').name}"
    text = "\n" * (first - 1) + changed
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)  # TorchScript reads the source from there
    code = next(one for one in compile(text, file, "exec", dont_inherit=True).co_consts if isinstance(one, types.CodeType))
    new = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__)
    new.__kwdefaults__, new.__annotations__, new.__module__ = function.__kwdefaults__, function.__annotations__, function.__module__
    return new


def _reworded(source: str) -> str:
    lines = source.splitlines(keepends=True)
    for start, end, text in sorted(_replacements(ast.parse(source, type_comments=True)), reverse=True):
        (first, left), (last, right) = start, end
        head, tail = lines[first - 1].encode()[:left].decode(), lines[last - 1].encode()[right:].decode()
        lines[first - 1 : last] = [f"{head}{text}{tail}", *["\n"] * (last - first)]
    return "".join(lines)


def _replacements(tree: ast.AST) -> Iterator[tuple[tuple[int, int], tuple[int, int], str]]:
    """Yields (start, end, new text) of each part to replace, none inside of another; a place is (line, column in bytes)."""
    if isinstance(tree, ast.Raise) and tree.exc is not None:
        yield *_span(tree), "raise RuntimeError('raised')"
        return
    if isinstance(tree, ast.Assert) and tree.msg is not None:
        yield from _replacements(tree.test)
        yield *_span(tree.msg), "'failed'"
        return
    if (
        isinstance(tree, ast.Call)
        and isinstance(tree.func, ast.Attribute)
        and tree.func.attr in _CASTS
        and not (tree.args or tree.keywords)
    ):
        line, column = _span(tree.func)[1]
        yield (line, column - len(tree.func.attr)), _span(tree)[1], f"to(torch.{tree.func.attr})"
    if isinstance(tree, ast.FunctionDef):
        for one in _untyped_nones(tree):
            yield _span(one)[1], _span(one)[1], ": Optional[Tensor]"
    for child in ast.iter_child_nodes(tree):
        yield from _replacements(child)


def _span(node: ast.stmt | ast.expr | ast.arg) -> tuple[tuple[int, int], tuple[int, int]]:
    return (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)

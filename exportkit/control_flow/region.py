"""Some lines of a function as a module: made and lifted for the types of the values that arrive, and called in their place."""

import ast
import itertools
import linecache
import math
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from exportkit.control_flow.lift import lift
from exportkit.control_flow.scalars import is_tensor
from exportkit.errors import ExportError

_NUMBERS = itertools.count(1)


class Region:
    """Lines of a function, from the first to the last that its loop needs.

    Args:
        lines: of the function's file, as far as the function goes, dedented; lines[1] is line 1.
        statements: what the lines hold.
        inputs: the names that the lines read.
        results: the names whose values the rest of the function reads; () where the lines end with `return`.
        written_later: the rest of the function writes in place.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        lines: tuple[str, ...],
        statements: tuple[ast.stmt, ...],
        inputs: tuple[str, ...],
        results: tuple[str, ...],
        *,
        written_later: bool,
    ) -> None:
        self.written_later = written_later
        self.function, self.lines, self.statements, self.inputs, self.results = function, lines, statements, inputs, results
        self.file = Path(function.__code__.co_filename).name
        self._made: dict[Any, Any] = {}

    def varies(self, *bounds: Any) -> bool:
        """Says whether the loop's length is known only when the artifact runs, by the numbers or the tensors on which it hangs."""
        sizes = [size for one in bounds for size in (one.shape or [one] if is_tensor(one) else [one])]
        return any(isinstance(size, torch.SymInt) or is_tensor(size) for size in sizes)

    def __call__(self, *values: Any) -> Any:
        """Computes what the lines compute.

        Raises:
            ExportError: TorchScript does not take the lines either, they cannot be lifted, or write where another name reads; names the
                user's line.
        """
        given = dict(zip(self.inputs, values, strict=True))
        objects = {name: value for name, value in given.items() if literal(value) is None and type_of(value) is None}
        renamed = dict(self._renamed(objects))
        # `self.settings.rate` or `options["scale"]` of an object that TorchScript does not know: the value alone goes in.
        read = {new: eval(text, dict(objects)) for text, new in renamed.items()}  # noqa: S307 - the user's own expression
        taken = {name: value for name, value in given.items() if name not in objects} | read
        constants = {name: text for name, value in taken.items() if (text := literal(value)) is not None}
        arguments = {name: value for name, value in taken.items() if name not in constants}
        written = {new: text for text, new in renamed.items()}
        kinds = {name: self._kind(written.get(name, name), value) for name, value in arguments.items()}
        key = (*constants.items(), *kinds.items())
        if key not in self._made:
            self._made[key] = self._lifted(kinds, constants, renamed)
        made = self._made[key]
        if made.shares_written(list(arguments.values())) or (made.shown and self.written_later):
            text = "a loop over a length writes in place into a tensor that another name shows, or gives a view into which is written later"
            raise ExportError(text, where=self._place(), todo="Put `.clone()` before the write.")
        return made.call(list(arguments.values()))

    def _renamed(self, objects: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yields each expression that reads a part of an object, and a name for its value."""
        for number, part in enumerate(dict.fromkeys(ast.unparse(one) for one in _parts(self.statements, objects))):
            yield part, f"_read_{number}"

    def _kind(self, name: str, value: Any) -> str:
        kind = type_of(value)
        if kind is None:
            todo = "Move the loop into a module of its own, which takes tensors and numbers."
            raise ExportError(f"a loop over a length reads {name}, a {type(value).__name__}", where=self._place(), todo=todo)
        return kind

    def _place(self) -> str:
        return f"{self.file}:{self.statements[0].lineno}"

    def _lifted(self, kinds: Mapping[str, str], constants: Mapping[str, str], renamed: Mapping[str, str]) -> nn.Module:
        try:
            return lift(self._module(kinds, constants, renamed), give_written=True)
        except ExportError:
            raise
        except Exception as error:
            told = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            text = f"a loop over a length, and TorchScript does not take it: {told[:200].rstrip(':')}"
            raise ExportError(text, where=self._place()) from error

    def _module(self, kinds: Mapping[str, str], constants: Mapping[str, str], renamed: Mapping[str, str]) -> nn.Module:
        """Makes a module of the lines, each at its own number, so that what is said of them names the user's."""
        first, last = self.statements[0].lineno, self.statements[-1].end_lineno or 0
        lines = list(self.lines)
        for part in sorted(_parts(self.statements, renamed.keys()), key=lambda one: (one.lineno, one.col_offset), reverse=True):
            if part.lineno == part.end_lineno:
                line = lines[part.lineno].encode()
                new = renamed[ast.unparse(part)].encode()
                lines[part.lineno] = (line[: part.col_offset] + new + line[part.end_col_offset :]).decode()
        indent = " " * (len(lines[first]) - len(lines[first].lstrip()))
        head = [
            f"def forward({', '.join(['self', *(f'{name}: {kind}' for name, kind in kinds.items())])}):",
            indent + "; ".join([f"{name} = {text}" for name, text in constants.items()] or ["pass"]),
        ]
        returned = f"{indent}return {', '.join(self.results)}" if self.results else ""
        text = "\n".join([*[""] * (first - 3), *head, *lines[first : last + 1], returned]) + "\n"
        file = f"<outlined {next(_NUMBERS)}>/{self.file}"
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)  # TorchScript reads the source from there
        code = next(one for one in compile(text, file, "exec", dont_inherit=True).co_consts if isinstance(one, types.CodeType))
        forward = types.FunctionType(code, self.function.__globals__, "forward")
        kind: type[nn.Module] = type("Loop", (nn.Module,), {"forward": forward, "__module__": self.function.__module__})
        return kind()


def _parts(nodes: Any, names: Any) -> Iterator[ast.expr]:
    """Yields the longest expressions `a.b`, `a["b"]` and `a.b.c` over names or over the texts of such expressions, and bare names."""
    for node in nodes:
        if isinstance(node, ast.expr) and (ast.unparse(node) in names or _root(node) in names):
            yield node
        else:
            yield from _parts(ast.iter_child_nodes(node), names)


def _root(node: ast.expr) -> str:
    """Returns the name at the root of a chain of attributes and constant keys that is read; "" for anything else."""
    while isinstance(node, ast.Attribute) or (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def literal(value: Any) -> str | None:
    """Writes a constant as TorchScript reads it; None for what is none."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if value is None or isinstance(value, bool | str | int | float | torch.dtype):
        return str(value) if isinstance(value, torch.dtype) else repr(value)
    if isinstance(value, torch.device):
        return f"torch.device('{value}')"
    if isinstance(value, list | tuple) and value and all(isinstance(one, int) for one in value):
        return str(list(value))
    return None


def type_of(value: Any) -> str | None:
    """Names the type of a value that varies as TorchScript does; None for what it cannot take."""
    if is_tensor(value):
        return "Tensor"
    if isinstance(value, torch.SymInt):
        return "int"
    if isinstance(value, torch.SymFloat):
        return "float"
    if isinstance(value, list | tuple) and value and all(map(is_tensor, value)):
        return "List[Tensor]"
    return None

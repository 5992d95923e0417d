"""Numbers that Python computes from sizes while a network is captured: `float(n)`, `int(n * 0.5)`, `math.log(n)` keep `n` symbolic.

Python wants numbers of its own from these, and a size that varies would be the example's from there on, in silence or under a guard.
"""

import ast
import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch.jit._builtins import _find_builtin, _register_builtin

_FUNCTIONS = ("log", "log2", "log10", "log1p", "exp", "expm1", "sin", "cos", "tan", "tanh", "atan")  # that torch has, too


def to_int(*given: Any) -> Any:
    if len(given) == 1 and isinstance(given[0], torch.SymInt | torch.SymFloat):
        return torch.sym_int(given[0])
    return int(*given)


def to_float(*given: Any) -> Any:
    if len(given) == 1 and isinstance(given[0], torch.SymInt | torch.SymFloat):
        return torch.sym_float(given[0])
    return float(*given)


NAMES: dict[str, Callable[..., Any]] = {"_exportkit_int": to_int, "_exportkit_float": to_float}


def rewritten(tree: ast.AST) -> bool:
    """Makes calls of `int` and `float` in a function calls of ours; says whether there were some."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1]
    found = [call.func for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("int", "float")]
    for name in found:
        name.id = f"_exportkit_{name.id}"
    return bool(found)


@contextlib.contextmanager
def symbolic_math() -> Iterator[None]:
    """Makes the functions of Python's math take symbolic numbers, for a block."""
    with contextlib.ExitStack() as stack:
        for name, stand_in in _MATH.items():
            stack.enter_context(mock.patch.object(math, name, stand_in))
        yield


def _of_tensors(name: str, own: Callable[..., float], *given: Any) -> Any:
    if not any(isinstance(one, torch.SymInt | torch.SymFloat) for one in given):
        return own(*given)
    value, *base = (getattr(torch, name)(torch.scalar_tensor(one, dtype=torch.float64)) for one in given)
    return (value / base[0] if base else value).item()


def _root(own: Callable[[Any], float], value: Any) -> Any:
    return torch.sym_float(value) ** 0.5 if isinstance(value, torch.SymInt | torch.SymFloat) else own(value)


_MATH: dict[str, Callable[..., Any]] = {name: functools.partial(_of_tensors, name, getattr(math, name)) for name in _FUNCTIONS}
_MATH["sqrt"] = functools.partial(_root, math.sqrt)
for _name, _stand_in in _MATH.items():  # a loop that is compiled by itself during a capture calls them, too
    _register_builtin(_stand_in, _find_builtin(getattr(math, _name)))

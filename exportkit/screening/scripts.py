"""Reads the code of a TorchScript archive: what of it would run while the file is loaded, or reach out of it when it runs?

Loading runs every `__setstate__`, and evaluates the values that a class gives its constants and a method its parameters
(torch/csrc/jit/frontend/script_type_parser.cpp, `evaluateDefaults`).
"""

import ast
import re
from collections.abc import Iterator

from exportkit.errors import RejectedError
from exportkit.screening.wire import shown

STRINGS = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"")
_MOST_NESTED = 100
_RUNS = re.compile(r"\b__setstate__\b")
REACHES_OUT = re.compile(
    r"\b(?:torch|aten)\.(?:from_file|_?save|load\w*)\b|\btorch\.classes\.(?!quantized\b|xnnpack\b|sparse\b|rnn\b)(\w+)"
    r"|\b(?:ops\.)?(?:debugprims|inductor|symm_mem|static_runtime|c10d|rpc|dist_rpc)\.\w+|\brpc_(?:sync|async|remote)\b"
)
_VALUES = (
    ast.Constant, ast.Name, ast.Attribute, ast.Load, ast.UnaryOp, ast.USub, ast.Tuple, ast.List, ast.Dict, ast.Subscript, ast.Call,
)  # fmt: skip
_CALLED = ("annotate", "float", "complex", "torch.device")
_MODULES = ("torch", "ops", "ops.aten")  # as values these could be asked for anything by another name


def check_code(text: str, where: str) -> None:
    """Checks one record of code.

    Raises:
        RejectedError: it would run something while it is loaded, reaches out, or is no TorchScript.
    """
    bare = STRINGS.sub("''", text)
    check_nesting(bare, where)
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RejectedError(f"{where} holds no code that TorchScript reads: {type(error).__name__}") from error
    nodes = list(ast.walk(tree))
    # The text as well as its tree: they see strings and comments in two ways.
    if _RUNS.search(bare) or any(isinstance(node, ast.FunctionDef) and node.name == "__setstate__" for node in nodes):
        raise RejectedError(f"{where} has a __setstate__, which runs while the file is loaded")
    if found := REACHES_OUT.search(" ".join([bare, *filter(None, map(_path, nodes))])):
        raise RejectedError(f"{where} calls {shown(found[0])[1:-1]}, which reaches out of the file")
    _check_modules(nodes, where)
    for value in _evaluated(nodes):
        if not all(map(_is_plain, ast.walk(value))):
            raise RejectedError(f"{where} computes {shown(ast.unparse(value))} while the file is loaded")


def check_nesting(text: str, where: str) -> None:
    """Counts brackets: parsers call themselves for each.

    Raises:
        RejectedError: they nest too deep.
    """
    depth = 0
    for one in re.findall(r"[()\[\]{}]", text):
        depth += 1 if one in "([{" else -1
        if depth > _MOST_NESTED:
            raise RejectedError(f"{where} nests brackets more than {_MOST_NESTED} deep")


def _check_modules(nodes: list[ast.AST], where: str) -> None:
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if id(node) not in inner and (path := _path(node)) in _MODULES:
            raise RejectedError(f"{where} takes {path} itself for a value")


def _path(node: ast.AST) -> str:
    """Returns `a.b.c` for such attributes of a name, or ""."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""


def _evaluated(nodes: list[ast.AST]) -> Iterator[ast.expr]:
    """Yields what loading evaluates: defaults of parameters, and what is assigned outside of functions."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef):
            yield from filter(None, (*node.args.defaults, *node.args.kw_defaults))
        elif isinstance(node, ast.ClassDef | ast.Module):
            yield from (one.value for one in node.body if isinstance(one, ast.Assign | ast.AnnAssign) and one.value is not None)


def _is_plain(node: ast.AST) -> bool:
    return isinstance(node, _VALUES) and (not isinstance(node, ast.Call) or _path(node.func) in _CALLED)

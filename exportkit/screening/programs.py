"""Reads the JSON of a .pt2: text that torch evaluates or writes into code, and operators.

`torch.export.load` evaluates the text of sizes (`expr_str`) and of guards (`guards_code`), imports modules that trees of inputs name, and
generates Python code with the names of inputs and weights in it (torch/fx/graph.py).
"""

import ast
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from exportkit.errors import RejectedError
from exportkit.screening.scripts import REACHES_OUT, STRINGS, check_nesting
from exportkit.screening.wire import shown

_MOST_EXPRESSION = 10_000  # characters
_MOST_POWER, _MOST_TOWERS, _MOST_NUMBER = 64, 2, 2**64
_POWERS = ("Pow", "PowByNatural", "FloatPow", "LShift")
_TARGET = re.compile(
    r"torch\.ops\.(?!load_library|import_module|loaded_libraries)\w+\.\w+(?:\.\w+)?|_operator\.\w+|math\.\w+|torch\.(?:_?sym_\w+)"
)
_FUNCTIONS = {
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Mod", "PythonMod", "Max", "Min", "Abs", "floor", "ceiling", "FloorDiv",
    "CeilDiv", "CleanDiv", "ModularIndexing", "Where", "Piecewise", "ExprCondPair", "TruncToInt", "TruncToFloat", "ToFloat", "RoundToInt",
    "RoundDecimal", "CeilToInt", "FloorToInt", "IntTrueDiv", "FloatTrueDiv", "PowByNatural", "FloatPow", "BitwiseFn_bitwise_and",
    "BitwiseFn_bitwise_or", "LShift", "RShift", "Identity", "IsNonOverlappingAndDenseIndicator", "OpaqueUnaryFn_sqrt", "OpaqueUnaryFn_log",
    "OpaqueUnaryFn_exp", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality", "Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan",
    "GreaterThan", "max", "min", "abs", "round", "And", "Or", "Not", "true", "false", "oo", "len", "math", "L", "Tuple", "zoo",
}  # fmt: skip
_METHODS = {"size", "stride", "storage_offset", "shape", "ndim", "dtype", "device", "floor", "ceil", "sqrt", "trunc"}
_WORD = re.compile(r"[A-Za-z_]\w*|[-+.\de]+")  # a symbol, an input, or a number as text
_PLAIN_DUNDER = re.compile(r"__i?(?:and|or|xor|lshift|rshift)__")  # operators of aten that are named so
_NODES = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.operator,
    ast.unaryop, ast.boolop, ast.cmpop, ast.Tuple, ast.List, ast.Subscript, ast.Attribute, ast.IfExp,
)  # fmt: skip

_PATH = re.compile(r"[^\"'\\\x00-\x1f\x7f]*")  # of a weight: it stands between quotes in generated code
_ENDLESS = re.compile(r"[a-z]+\d{7,}")  # a symbol: torch counts up to its number
_FACTORIES = ("list", "dict", "set", "tuple", "int", "float", "bool", "str")
_VALUES = ("tensor_values", "sym_int_values", "sym_float_values", "sym_bool_values", "custom_obj_values")
_PATHS = ("parameter_name", "buffer_name", "tensor_constant_name", "custom_obj_name", "fqn")


def check_program(content: Any, where: str) -> None:
    """Checks the content of a model's JSON.

    Raises:
        RejectedError: loading it would run code of the file.
    """
    for key, value in _entries(content):
        _check_entry(key, value, f"{where}: {key}")


def parse(text: str, where: str) -> Any:
    """Parses JSON with limits.

    Raises:
        RejectedError: it is none, nests too deep, or gives a key twice.
    """
    check_nesting(STRINGS.sub("''", text), where)
    try:
        return json.loads(text, object_pairs_hook=_no_twice)
    except (ValueError, RecursionError) as error:
        raise RejectedError(f"{where} is no JSON: {shown(str(error))[1:-1]}") from error


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _check_entry(key: str, value: Any, where: str) -> None:
    if key == "expr_str":
        _check_expression(value, where)
    elif key == "guards_code":
        for guard in value if isinstance(value, list) else [value]:
            _check_expression(guard, where)
    elif key in ("target", "as_operator") and not _is_operator(value):
        raise RejectedError(f"{where} is {shown(str(value))}, which is no operator")
    elif key in ("in_spec", "out_spec"):
        _check_tree(value, where)
    elif key in ("name", "as_name") and isinstance(value, str):
        _check_names([value] if value else [], where)
    elif key in _VALUES or (key == "forward_arg_names" and value is not None):
        _check_names(value, where)
    elif key in _PATHS and isinstance(value, str) and not _PATH.fullmatch(value):
        raise RejectedError(f"{where} is {shown(value)}, which would be written into code")
    elif key == "range_constraints" and any(map(_ENDLESS.fullmatch, value)):
        raise RejectedError(f"{where} names more symbols than any network: {shown(' '.join(value))}")


def _check_names(names: Any, where: str) -> None:
    for name in names if isinstance(names, list | dict) else [names]:
        if not isinstance(name, str) or not name.isidentifier():
            raise RejectedError(f"{where} is {shown(str(name))}, which is no name and would be written into code")


def _check_tree(text: Any, where: str) -> None:
    if not isinstance(text, str):
        raise RejectedError(f"{where} is no tree of values")
    whole = parse(text, where)
    for key, value in _entries(whole):
        if key == "context" and isinstance(value, str):
            told = parse(value, where) if value.lstrip()[:1] in ("[", "{") else None
            if any(name == "__enum__" for name, _ in _entries(told)):
                raise RejectedError(f"{where} imports a module for an enumeration")
        elif key == "context" and isinstance(value, dict) and "default_factory_module" in value:
            made = (value["default_factory_module"], value.get("default_factory_name"))
            if made not in [("builtins", name) for name in _FACTORIES]:
                raise RejectedError(f"{where} imports {shown('.'.join(map(str, made)))}")
    _check_keywords(whole, where)


def _check_keywords(whole: Any, where: str) -> None:
    """Keywords of a call are parameters of the generated function."""
    match whole:
        case [_, {"children_spec": [_, {"type": "builtins.dict", "context": str(keys)}]}]:
            _check_names(parse(keys, where), where)


def _is_operator(target: Any) -> bool:
    if not isinstance(target, str) or not _TARGET.fullmatch(target):
        return False
    return "__" not in _PLAIN_DUNDER.sub("", target) and not REACHES_OUT.search(target.replace("torch.ops.", ""))


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    """Yields every (key, value) of a JSON value, at any depth."""
    waiting = [content]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from one.items()
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else []


def _check_expression(text: Any, where: str) -> None:
    """Allows arithmetic over symbols and sizes; no attribute, call or name besides those that torch writes."""
    if not isinstance(text, str) or len(text) > _MOST_EXPRESSION:
        raise RejectedError(f"{where} is no expression of a size")
    check_nesting(STRINGS.sub("''", text), where)
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RejectedError(f"{where} is no expression of a size: {shown(text)}") from error
    for node in ast.walk(tree):
        if not _harmless(node):
            raise RejectedError(f"{where} would run {shown(text)}")
    # sympy computes numbers in full, whatever their size: 9**9**9 would take all memory.
    if _towers(tree) > _MOST_TOWERS or not all(map(_is_small, ast.walk(tree))):
        raise RejectedError(f"{where} is a bomb of a number: {shown(text)}")


def _harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) or (isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS)
    if isinstance(node, ast.Attribute):
        return node.attr in _METHODS
    if isinstance(node, ast.Name):
        return "__" not in node.id and (node.id in _FUNCTIONS or bool(re.fullmatch(r"[a-z]+\d+", node.id)))
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, str | bytes) or bool(isinstance(node.value, str) and _WORD.fullmatch(node.value))
    return isinstance(node, _NODES)


def _towers(node: ast.AST) -> int:
    """Returns how many powers stand within each other."""
    return _is_power(node) + max(map(_towers, ast.iter_child_nodes(node)), default=0)


def _is_power(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Pow | ast.LShift)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _POWERS


def _is_small(node: ast.AST) -> bool:
    """Whether a number, or what is raised to a power, can be computed in full."""
    if isinstance(node, ast.Constant):
        return abs(_number(node.value)) <= _MOST_NUMBER
    if not _is_power(node):
        return True
    exponents = [node.right] if isinstance(node, ast.BinOp) else node.args[1:] if isinstance(node, ast.Call) else []
    parts = [one for part in exponents for one in ast.walk(part)]
    told = [abs(_number(one.value)) for one in parts if isinstance(one, ast.Constant)]
    return not any(map(_is_power, parts)) and sum(told) <= _MOST_POWER and len(told) <= 2  # noqa: PLR2004 - a fraction


def _number(value: Any) -> float:
    """Returns what a constant counts; 0 where it is a name."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
    except OverflowError:
        return math.inf

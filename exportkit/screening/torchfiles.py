"""Reads a .pt or .pt2 from elsewhere without loading it: loading either runs code of the file.

`torch.jit.load` runs every `__setstate__`. `torch.export.load` unpickles weights, constants and sample inputs, and evaluates the text
of sizes (`expr_str`) and guards (`guards_code`) as Python.
"""

import ast
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exportkit.errors import RejectedError
from exportkit.messages import Screened
from exportkit.screening.archives import Archive
from exportkit.screening.pickles import check_pickle
from exportkit.screening.wire import shown

_MOST_CODE = 16 << 20
_MOST_NESTED = 100
_MOST_EXPRESSION = 10_000  # characters
_SCRIPT_RECORDS = re.compile(
    r"(?:data|constants|traced_inputs)\.pkl|(?:data|constants|traced_inputs)/\d+|code/[\w/]+\.py(?:\.debug_pkl)?"
    r"|version|byteorder|\.data/(?:version|serialization_id)|\.format_version|\.storage_alignment|extra/[\w.]+|attributes\.pkl|mobile_debug_handles\.pkl"
)
_PT2_RECORDS = re.compile(
    r"models/[\w.-]+\.json|data/(?:weights|constants)/[\w.-]+|data/sample_inputs/[\w.-]+\.pt|archive_(?:format|version)"
    r"|byteorder|version|\.data/(?:version|serialization_id)|\.format_version|\.storage_alignment|extra/[\w.-]+"
)
_STRINGS = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"")
_RUNS = re.compile(r"\b__setstate__\b")
_REACHES_OUT = re.compile(
    r"\b(?:torch|aten)\.(?:from_file|_?save|load\w*)\b|\btorch\.classes\.(?!quantized\b|xnnpack\b|sparse\b|rnn\b)(\w+)"
)
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


def screen_torchscript(file: Path) -> Screened:
    """Reads a .pt.

    Raises:
        RejectedError: it is malformed, no TorchScript, or would run code or reach out of itself while loading.
    """
    with file.open("rb") as stream:
        archive = Archive(stream, file.stat().st_size)
        _check_layout(archive, _SCRIPT_RECORDS, ("data.pkl", "constants.pkl"), "TorchScript")
        for name in archive.records:
            if name.endswith((".pkl", "_pkl")):
                check_pickle(archive.read(name), f"record {shown(name)}", scripted=True)
            elif name.startswith("code/"):
                _check_code(archive.read(name, _MOST_CODE), name)
        if not any(name.startswith("code/") for name in archive.records):
            raise RejectedError("holds no code: it is no TorchScript (torch.save writes such files)")
        return Screened((), (), {"records": len(archive.records)})


def screen_pt2(file: Path) -> Screened:
    """Reads a .pt2.

    Raises:
        RejectedError: it is malformed, or would run code while loading.
    """
    with file.open("rb") as stream:
        archive = Archive(stream, file.stat().st_size)
        _check_layout(archive, _PT2_RECORDS, ("archive_format",), "torch.export archive")
        models = [name for name in archive.records if name.startswith("models/")]
        if not models:
            raise RejectedError("holds no model")
        for name in archive.records:
            if name.endswith(".json"):
                _check_json(_parse(archive.read(name), name), name)
        for name in _pickled(archive):
            _check_saved(archive.read(name, 2**40), name)
        return Screened((), (), {"records": len(archive.records)})


def _check_layout(archive: Archive, known: re.Pattern[str], needed: tuple[str, ...], kind: str) -> None:
    for name in archive.records:
        if not known.fullmatch(name):
            raise RejectedError(f"holds {shown(name)}, which is no part of a {kind}")
    for name in needed:
        if name not in archive.records:
            raise RejectedError(f"is no {kind}: it lacks {name}")


def _check_code(raw: bytes, name: str) -> None:
    where = f"record {shown(name)}"
    text = _text(raw, where)
    bare = _STRINGS.sub("''", text)
    _check_nesting(bare, where)
    if _RUNS.search(bare):
        raise RejectedError(f"{where} has a __setstate__, which runs while the file is loaded")
    if found := _REACHES_OUT.search(bare):
        raise RejectedError(f"{where} calls {found[0]}, which reaches out of the file")
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RejectedError(f"{where} holds no code that TorchScript reads: {type(error).__name__}") from error


def _parse(raw: bytes, name: str) -> Any:
    where = f"record {shown(name)}"
    text = _text(raw, where)
    _check_nesting(_STRINGS.sub("''", text), where)
    try:
        return json.loads(text, object_pairs_hook=_no_twice)
    except (ValueError, RecursionError) as error:
        raise RejectedError(f"{where} is no JSON: {shown(str(error))[1:-1]}") from error


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _check_json(content: Any, name: str) -> None:
    for key, value in _entries(content):
        where = f"record {shown(name)}: {key}"
        if key == "expr_str":
            _check_expression(value, where)
        elif key == "guards_code":
            for guard in value if isinstance(value, list) else [value]:
                _check_expression(guard, where)
        elif key == "target" and not _is_operator(value):
            raise RejectedError(f"{where} is {shown(str(value))}, which is no operator")


def _is_operator(target: Any) -> bool:
    if not isinstance(target, str) or not _TARGET.fullmatch(target):
        return False
    return "__" not in _PLAIN_DUNDER.sub("", target) and not _REACHES_OUT.search(target.replace("torch.ops.", ""))


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
    _check_nesting(_STRINGS.sub("''", text), where)
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RejectedError(f"{where} is no expression of a size: {shown(text)}") from error
    for node in ast.walk(tree):
        if not _harmless(node):
            raise RejectedError(f"{where} would run {shown(text)}")


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


def _pickled(archive: Archive) -> Iterator[str]:
    """Yields the records that torch would unpickle: sample inputs, and weights and constants that their lists call pickled."""
    plain: set[str] = set()
    for kind in ("weights", "constants"):
        name = f"data/{kind}/model_{kind}_config.json"
        config = _parse(archive.read(name), name) if name in archive.records else {}
        entries = config.get("config") if isinstance(config, dict) else None
        for one in entries.values() if isinstance(entries, dict) else ():
            if isinstance(one, dict) and one.get("use_pickle") is False:
                plain.add(f"data/{kind}/{one.get('path_name')}")
    for name in archive.records:
        if name.startswith("data/") and not name.endswith(".json") and name not in plain and archive.records[name].file_size:
            yield name


def _check_saved(raw: bytes, name: str) -> None:
    """Checks what torch.save wrote: an archive in the archive."""
    where = f"record {shown(name)}"
    try:
        inner = Archive(io.BytesIO(raw), len(raw))
        check_pickle(inner.read("data.pkl"), "data.pkl")
    except RejectedError as error:
        raise RejectedError(f"{where}: {error.what}") from error


def _check_nesting(text: str, where: str) -> None:
    depth = 0
    for one in re.findall(r"[()\[\]{}]", text):
        depth += 1 if one in "([{" else -1
        if depth > _MOST_NESTED:
            raise RejectedError(f"{where} nests brackets more than {_MOST_NESTED} deep")


def _text(raw: bytes, where: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise RejectedError(f"{where} is no UTF-8 text") from error

"""One operation as one Python expression."""

import keyword
import math
import re
from typing import TYPE_CHECKING, Any

import torch

from exportkit.control_flow.facts import Facts
from exportkit.control_flow.graph import Argument, Node, is_endless
from exportkit.control_flow.tidy import OUTSIDE
from exportkit.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable

_OPERATORS = {
    "aten::add": "+",
    "aten::sub": "-",
    "aten::mul": "*",
    "aten::div": "/",
    "aten::floordiv": "//",
    "aten::remainder": "%",
    "aten::pow": "**",
}
_NAMED = {"+": "add", "-": "sub", "*": "mul", "/": "truediv", "//": "floordiv", "%": "mod"}
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
_FUNCTIONS = ("abs", "round", "floor", "ceil", "trunc", "sqrt", "exp", "log", "sin", "cos", "tan", "tanh")  # of Python numbers
_LOGIC = {"aten::__and__": "and", "aten::__or__": "or", "aten::__xor__": "xor"}
_NUMBERS = ("int", "float", "bool", "Scalar")
_CODES = {"ScalarType": "dtype", "Layout": "layout", "MemoryFormat": "memory format"}
_SCALAR_TYPES = [
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "complex32",
    "complex64",
    "complex128",
    "bool",
    "qint8",
    "quint8",
    "qint32",
    "bfloat16",
]  # fmt: skip - in the order of c10::ScalarType
_LAYOUTS = ["strided", "sparse_coo"]
_FORMATS = ["contiguous_format", "preserve_format", "channels_last", "channels_last_3d"]
_LAST = {"alpha": "1"}  # by name beside a tensor, by place beside a number, which may be a tensor in generated source; and its default
_FILLED = {"aten::full": 1, "aten::full_like": 1, "aten::new_full": 2}
_NAMELESS = ("zeros", "ones", "full")  # torch 2.11 tries first the form that names axes, for which sizes become fixed numbers


_OURS = re.compile(r"(rows|body|cell|leaves|then|else|constant)_\d+")  # functions and objects that the source defines


class Names:
    """Python names of values, each its own; constants are written out where they are used."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.objects: dict[str, Any] = {}  # what cannot be written as a literal: devices, lists of tensors
        self._names: dict[str, str] = {}
        modules = ("torch", "aten", "scalars", "indexing", "lists", "branches", "loops", "places", "structure", "wavefront", "attention")
        self._taken = {"self", *modules, *keyword.kwlist}

    def of(self, value: str) -> str:
        """Returns the expression that stands for a value."""
        if value in self.facts.graph.constants:
            return self._literal(self.facts.graph.constants[value])
        return self.declare(value)

    def declare(self, value: str) -> str:
        if value not in self._names:
            plain = re.sub(r"\W", "_", value).strip("_")
            base = f"v{plain}" if plain[:1].isdigit() or not plain else plain
            if _OURS.fullmatch(base):
                base += "_"  # the user's `rows` is no function of ours
            name, number = base, 1
            while name in self._taken:
                number += 1
                name = f"{base}_{number}"
            self._taken.add(name)
            self._names[value] = name
        return self._names[value]

    def _literal(self, value: Any) -> str:
        if isinstance(value, float) and not math.isfinite(value):
            return f"float({str(value)!r})"
        if value is None or isinstance(value, bool | int | float | str):
            return repr(value)
        if isinstance(value, list | tuple) and all(
            isinstance(one, bool | int | str) or (isinstance(one, float) and math.isfinite(one)) for one in value
        ):
            return repr(value)
        for name, known in self.objects.items():
            if known is value:
                return name
        name = f"constant_{len(self.objects)}"
        self.objects[name] = value
        return name


class Calls:
    """Writes nodes that hold no blocks."""

    def __init__(self, facts: Facts, names: Names) -> None:
        self.facts, self.names = facts, names
        self._rules: dict[str, Callable[[Node, list[str]], str]] = {
            "prim::ListConstruct": lambda _, given: f"[{', '.join(given)}]",
            "prim::TupleConstruct": lambda _, given: _tuple(given),
            "prim::TupleUnpack": lambda _, given: given[0],
            "prim::ListUnpack": lambda _, given: given[0],
            "prim::TupleIndex": lambda _, given: f"{given[0]}[{given[1]}]",
            "prim::DictConstruct": self._dict,
            "prim::Uninitialized": lambda *_: "branches.UNSET",
            "prim::dtype": lambda _, given: f"{given[0]}.dtype",
            "prim::device": lambda _, given: f"{given[0]}.device",
            "prim::layout": lambda _, given: f"{given[0]}.layout",
            "prim::NumToTensor": lambda _, given: f"scalars.as_tensor({given[0]})",
            "prim::min": self._extreme,
            "prim::max": self._extreme,
            "prim::RaiseException": lambda _, given: f"structure.fail({given[0]})",
            "aten::warn": lambda *_: "None",
            "prim::Print": lambda *_: "None",
            "aten::size": self._size,
            "aten::dim": lambda _, given: f"{given[0]}.dim()",
            "aten::numel": lambda _, given: f"{given[0]}.numel()",
            "aten::len": lambda _, given: f"lists.length({given[0]})",
            "aten::__getitem__": lambda _, given: f"lists.getitem({', '.join(given)})",
            "aten::__contains__": lambda _, given: f"scalars.contains({given[0]}, {given[1]})",
            "aten::divmod": lambda _, given: f"scalars.divided({given[0]}, {given[1]})",
            "aten::__is__": lambda _, given: f"{given[0]} is {given[1]}",
            "aten::__isnot__": lambda _, given: f"{given[0]} is not {given[1]}",
            "aten::__not__": lambda _, given: f"scalars.logical_not({given[0]})",
            "aten::__range_length": lambda _, given: f"scalars.range_length({', '.join(given)})",
            "aten::__derive_index": self._derived,
            "aten::neg": lambda node, given: f"scalars.neg({given[0]})" if self._is_number(node) else self._call(node, given),
            "aten::stack": lambda _, given: f"lists.stack({', '.join(given)})",
            "aten::cat": lambda _, given: f"lists.cat({', '.join(given)})",
            "aten::tensor": lambda _, given: f"lists.to_tensor({given[0]}, {self._code(given[1], 'ScalarType')})",
            "aten::item": lambda _, given: f"scalars.item({given[0]})",
            "aten::where": lambda _, given: (
                f"torch.where({', '.join(given)})"
            ),  # a condition of uint8 needs patches, which aten's is beyond
            "aten::cdist": self._cdist,
            "aten::scaled_dot_product_attention": lambda _, given: f"attention.scaled_dot_product({', '.join(given)})",
            "aten::select": self._select,
            "aten::slice": self._slice,
            "aten::index_put": self._index_put,
            "lift::element": self._element,
            "aten::__lshift__": self._shift,
            "lift::put": self._put,
            "lift::whole": lambda _, given: f"places.whole({given[0]})",
            "lift::through": lambda node, given: f"places.through({given[0]}, {given[1]}, {node.value!r}, {', '.join(given[2:])})",
            "lift::at": lambda _, given: f"places.at({given[0]}, {given[1]})",
        }
        for name in ("append", "insert", "reverse", "extend", "pop", "clear", "set_item"):
            self._rules[f"lift::{name}"] = lambda node, given: f"lists.{node.operator}({', '.join(given)})"
        for name in ("select", "beside", "with_axis", "across", "as_number", "reduced", "linear", "row_of", "looked_up"):
            self._rules[f"lanes::{name}"] = lambda node, given: f"wavefront.{node.operator}({', '.join(given)})"
        for name in ("Int", "Float", "Bool"):
            self._rules[f"aten::{name}"] = lambda node, given: f"scalars.convert({given[0]}, {node.operator.lower()!r})"
        for name in ("IntImplicit", "FloatImplicit", "ScalarImplicit"):
            self._rules[f"aten::{name}"] = lambda _, given: f"scalars.item({given[0]})"

    def expression(self, node: Node) -> str:  # noqa: PLR0911 - one for each kind of rule
        """Writes a node.

        Raises:
            ExportError: no rule takes it.
        """
        given = [self.names.of(name) for name in node.inputs]
        if node.kind in self._rules:
            return self._rules[node.kind](node, given)
        numbers = all(self._kind(name) in _NUMBERS for name in node.inputs)
        if numbers and node.kind in _OPERATORS:
            return self._number(_OPERATORS[node.kind], node, given)
        if node.operator in _COMPARISONS and node.kind.startswith("aten::") and not any(self._is_value(name) for name in node.inputs[:2]):
            left, right = self._codes(node, given)
            return f"scalars.{node.operator}({left}, {right})"
        if numbers and node.kind == "aten::log" and len(given) > 1:
            return f"scalars.logarithm({', '.join(given)})"
        if numbers and len(given) == 1 and node.operator in _FUNCTIONS:
            return f"scalars.function({node.operator!r}, {given[0]})"
        if numbers and node.kind in _LOGIC:
            return f"scalars.logical({_LOGIC[node.kind]!r}, {', '.join(given)})"
        if node.kind in ("aten::add", "aten::mul") and self._kind(node.inputs[0]).startswith("List["):
            return f"lists.concat({', '.join(given)})" if node.operator == "add" else f"{given[0]} * {given[1]}"
        if node.kind == "aten::list" and self._kind(node.inputs[0]) in [f"List[{kind}]" for kind in _NUMBERS]:
            return f"lists.part({given[0]}, None, None, 1)"
        if node.kind.startswith("aten::"):
            return self._call(node, given)
        raise ExportError(f"uses {node.kind}, which has no form in torch.export", where=node.where, todo="Write it with tensor operations.")

    def _kind(self, name: str) -> str:
        kind = self.facts.graph.types.get(name, "")
        return re.sub(r"^Optional\[(.*)\]$", r"\1", kind)

    def _is_value(self, name: str) -> bool:
        return self._kind(name) == "Tensor"

    def _is_number(self, node: Node) -> bool:
        return self._kind(node.outputs[0]) in _NUMBERS

    def _number(self, sign: str, node: Node, given: list[str]) -> str:
        if sign == "**":
            known = ", nonnegative=True" if self.facts.is_nonnegative(node.inputs[1]) else ""
            return f"scalars.power({given[0]}, {given[1]}{known})"
        if all(map(self.facts.is_plain, node.inputs)):
            return f"{given[0]} {sign} {given[1]}"
        return f"scalars.{_NAMED[sign]}({given[0]}, {given[1]})"

    def _shift(self, node: Node, given: list[str]) -> str:
        if self._is_value(node.inputs[0]):
            return self._call(node, given)
        return given[0] if given[1] == "0" else f"scalars.shift({', '.join(given)})"

    def _codes(self, node: Node, given: list[str]) -> list[str]:
        """Writes the two sides of a comparison; a number that stands for an element type by torch's name of it."""
        makers = [self.facts.made.get(name) for name in node.inputs]
        if any(maker is not None and maker.kind == "prim::dtype" for maker in makers):
            return [self._code(one, "ScalarType") for one in given]
        return given

    @staticmethod
    def _size(node: Node, given: list[str]) -> str:
        if len(given) == 1:
            return f"list({given[0]}.shape)"
        return f"indexing.size({given[0]}, {given[1]})" if node.value == OUTSIDE else f"{given[0]}.shape[{given[1]}]"

    @staticmethod
    def _derived(_node: Node, given: list[str]) -> str:
        step, start, by = given
        scaled = step if by == "1" else f"scalars.mul({step}, {by})"
        return scaled if start == "0" else f"scalars.add({scaled}, {start})"

    def _extreme(self, node: Node, given: list[str]) -> str:
        values = given[0] if len(given) == 1 else f"[{', '.join(given)}]"
        return f"scalars.{'smallest' if node.kind == 'prim::min' else 'largest'}({values})"

    @staticmethod
    def _dict(_node: Node, given: list[str]) -> str:
        return "{" + ", ".join(f"{key}: {value}" for key, value in zip(given[::2], given[1::2], strict=True)) + "}"

    def _cdist(self, node: Node, given: list[str]) -> str:
        """Leaves the way to torch's own function, for which a capture has a stand-in, where the user leaves it to torch."""
        ways = self.facts.constant(node.inputs[3])
        return f"torch.cdist({', '.join(given[:3])})" if ways in (None, 0) else self._call(node, given)

    def _select(self, node: Node, given: list[str]) -> str:
        known = ", nonnegative=True" if self.facts.is_nonnegative(node.inputs[2]) else ""
        return f"indexing.select({', '.join(given)}{known})"

    def _slice(self, node: Node, given: list[str]) -> str:
        if not self._is_value(node.inputs[0]):
            return f"lists.part({', '.join(given)})"
        width = self.facts.width(node.inputs[2], node.inputs[3]) if given[4] == "1" else None
        if width is not None and not self.facts.is_plain(node.inputs[2]):
            known = ", nonnegative=True" if self.facts.is_nonnegative(node.inputs[2]) else ""
            return f"indexing.window({given[0]}, {given[1]}, {given[2]}, {width}{known})"
        end = "None" if is_endless(self.facts.constant(node.inputs[3])) else given[3]
        return f"indexing.cut({given[0]}, {given[1]}, {given[2]}, {end}, {given[4]})"

    def _element(self, node: Node, given: list[str]) -> str:
        known = ", nonnegative=True" if all(map(self.facts.is_nonnegative, node.inputs[1:])) else ""
        return f"indexing.element({given[0]}, {_tuple(given[1:])}{known})"

    def _index_put(self, _node: Node, given: list[str]) -> str:
        return f"indexing.masked_put({', '.join(given)})"

    def _put(self, node: Node, given: list[str]) -> str:
        rest, names = given[2:], node.inputs[2:]
        steps: list[str] = []
        for operator, number in node.value:
            if any(step.startswith("('at'") for step in steps):  # what follows moves the place, whatever is known of indices
                steps.append(_tuple([repr(operator), *rest[:number]]))
                rest, names = rest[number:], names[number:]
                continue
            width = self.facts.width(names[1], names[2]) if operator == "slice" and rest[3] == "1" else None
            if width is not None and not self.facts.is_plain(names[1]):
                known = ", True" if self.facts.is_nonnegative(names[1]) else ", False"
                steps.append(f"('window', {rest[0]}, ({rest[1]}{known}), {width})")
                rest, names = rest[number:], names[number:]
                continue
            flags = ["True"] if operator == "select" and self.facts.is_nonnegative(names[1]) else []
            steps.append(_tuple([repr(operator), *rest[:number], *flags]))
            rest, names = rest[number:], names[number:]
        return f"indexing.put({given[0]}, {_tuple(steps)}, {given[1]})"

    def _call(self, node: Node, given: list[str]) -> str:
        """Writes the call of an operator by its schema."""
        if not node.arguments:
            raise ExportError(
                f"uses {node.kind}, which has no form in torch.export", where=node.where, todo="Write it with tensor operations."
            )
        first = next((one for one, argument in zip(given, node.arguments, strict=False) if argument.kind == "Tensor"), "")
        if node.kind in _FILLED and not self.facts.is_plain(node.inputs[_FILLED[node.kind]]):
            raise ExportError(
                f"calls {node.operator} with a value computed from tensors", where=node.where, todo="Write `torch.zeros(...) + value`."
            )
        words, by_name = [], False
        for argument, name, text in zip(node.arguments, node.inputs, given, strict=False):
            written, by_name = self._argument(argument, name, text, first), by_name or argument.keyword or argument.name in _LAST
            if not (by_name and text in ("None", _LAST.get(argument.name))):
                words.append(f"{argument.name}={written}" if by_name else written)
        form = ".default" if node.operator in _NAMELESS else ""
        return f"aten.{node.operator}{form}({', '.join(words)})"

    def _argument(self, argument: Argument, name: str, text: str, first: str) -> str:
        if argument.kind in _CODES:
            return self._code(text, argument.kind)
        if argument.kind in ("number", "Scalar") and first and not self.facts.is_plain(name):
            return f"scalars.beside({first}, {text})"
        if argument.kind in ("int", "SymInt") and not self.facts.is_plain(name):
            return f"scalars.as_size({text})"
        if argument.kind in ("List[int]", "List[SymInt]") and not self.facts.is_plain(name):
            return f"[scalars.as_size(size) for size in {text}]"
        if argument.kind.startswith("List[") and self._kind(name) == "List[Tensor]":
            return f"lists.unstacked({text})"
        return text

    def _code(self, text: str, kind: str) -> str:
        """Writes torch's name of what TorchScript holds as a number."""
        if not text.lstrip("-").isdigit():
            return text
        table = {"ScalarType": _SCALAR_TYPES, "Layout": _LAYOUTS, "MemoryFormat": _FORMATS}[kind]
        name = f"torch.{table[int(text)]}"
        assert hasattr(torch, name.removeprefix("torch."))
        return name


def _tuple(parts: list[str]) -> str:
    return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"

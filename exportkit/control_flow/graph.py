"""TorchScript's graph read into a small form of our own: names, nodes, blocks. Weights are read once, at the top."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from exportkit.errors import ExportError

_PLACE = re.compile(r'File "([^"]+)", line (\d+)')
_MODES = ("aten::is_grad_enabled", "prim::requires_grad", "aten::is_autocast_enabled")
_UNKNOWN = (*_MODES, *(f"prim::is_{one}" for one in ("sparse", "quantized", "nested", "mkldnn", "mps", "vulkan", "xpu", "meta")))
_ATTENTION = re.compile(r'\s*File "[^"]*torch/nn/modules/(activation|transformer)\.py"')
_ENDLESS = 2**63 - 1  # TorchScript's trip count of a `while`, and the end of `x[1:]`


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of an operator's schema.

    Attributes:
        kind: TorchScript's name of its type ("Tensor", "int", "number", "ScalarType", ...), without Optional[...].
        written: the operator changes it in place.
        shared: what the operator returns may be this very tensor, or a view of it.
    """

    name: str
    kind: str
    keyword: bool
    written: bool
    shared: bool


_CLONE = (Argument("self", "Tensor", keyword=False, written=False, shared=False),)


@dataclass(eq=False, slots=True)
class Node:
    """One operation.

    Attributes:
        kind: TorchScript's name ("aten::add", "prim::Loop"), or "lift::..." for what only the functional form has.
        value: of a constant, or what a "lift::" node needs besides its inputs.
        where: "net.py:12", the line of the user's source; "" where TorchScript does not know it.
    """

    kind: str
    inputs: list[str]
    outputs: list[str]
    blocks: list["Block"] = field(default_factory=list)
    value: Any = None
    arguments: tuple[Argument, ...] = ()
    where: str = ""

    @property
    def operator(self) -> str:
        return self.kind.partition("::")[2]


@dataclass(eq=False, slots=True)
class Block:
    params: list[str]
    nodes: list[Node]
    outputs: list[str]

    def walk(self) -> Iterator[Node]:
        """Yields every node, those of inner blocks after their own."""
        for node in self.nodes:
            yield node
            for block in node.blocks:
                yield from block.walk()


@dataclass(eq=False, slots=True)
class Graph:
    """A function without calls.

    Attributes:
        types: value -> TorchScript's type ("Tensor", "int", "List[Tensor]", ...).
        weights: value -> the attribute that it reads ("cell.weight"), or the name that a constant tensor gets.
        tensors: those names -> constant tensors, such as `torch.zeros(3)`.
        constants: value -> Python value.
        defaults: parameter -> its default.
    """

    block: Block
    types: dict[str, str]
    weights: dict[str, str]
    constants: dict[str, Any]
    defaults: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    made: int = 0

    def new(self, kind: str, like: str = "value") -> str:
        """Returns a fresh name for a value of a type."""
        self.made += 1
        name = f"{like.split('.', maxsplit=1)[0].rstrip('0123456789') or 'v'}.n{self.made}"
        self.types[name] = kind
        return name

    def constant(self, value: Any) -> str:
        name = self.new(_type_of(value), "constant")
        self.constants[name] = value
        return name

    def definitions(self) -> dict[str, Node]:
        return {name: node for node in self.block.walk() for name in node.outputs}


def read(module: Any) -> Graph:
    """Reads the graph of a ScriptModule's forward.

    Raises:
        ExportError: it assigns an attribute, or holds what is no tensor, module or plain value.
    """
    graph = module.inlined_graph.copy()
    _settle(graph, next((one.device.type for one in module.parameters()), "cpu"))
    torch._C._jit_pass_constant_propagation(graph)  # noqa: SLF001 - torch has no public passes
    torch._C._jit_pass_peephole(graph)  # noqa: SLF001
    schema = module.forward.schema.arguments[1:]
    for value, one in zip(list(graph.inputs())[1:], schema, strict=True):
        value.setDebugName(one.name)  # as the signature has it; torch renames another value of that name, such as an attribute
    reader = _Reader(module)
    block = reader.block(graph)
    block.params = block.params[1:]
    defaults = {one.name: one.default_value for one in schema if one.has_default_value()}
    return Graph(block, reader.types, reader.weights, reader.constants, defaults, reader.tensors)


def _settle(graph: Any, device: str) -> None:
    """Puts what is known while a network is exported in the place of the question: `torch.norm` asks for layout and device.

    No gradient is on, and no autocast; but torch's own attention layers are told so, and then keep off fused kernels that nothing exports.
    Nor do these look whether a mask happens to be the causal one.
    """
    known = {"prim::type": device, "prim::layout": 0, "prim::is_cpu": device == "cpu", "prim::is_cuda": device == "cuda"}  # 0: strided
    attention = {**dict.fromkeys(_MODES, True), "aten::Bool": False}
    for kind in (*known, *_UNKNOWN, "aten::Bool"):
        for node in graph.findAllNodes(kind, recurse=True):
            own = kind in attention and _ATTENTION.match(node.sourceRange()) is not None
            if kind == "aten::Bool" and not (own and str(node.input().type()) == "Tensor"):
                continue
            graph.setInsertPoint(node)
            node.output().replaceAllUsesWith(graph.insertConstant(attention[kind] if own else known.get(kind, False)))
    graph.setInsertPoint(graph.return_node())  # a pass may remove the node where it stands


class _Reader:
    def __init__(self, module: Any) -> None:
        self.module = module
        self.types: dict[str, str] = {}
        self.weights: dict[str, str] = {}
        self.constants: dict[str, Any] = {}
        self.tensors: dict[str, torch.Tensor] = {}
        self._last_place = ""
        self._objects: dict[str, tuple[str, Any]] = {}
        self._tuples: dict[str, list[str]] = {}
        self._same: dict[str, str] = {}  # a value that is another one, under a second name

    def name(self, value: Any) -> str:
        name: str = value.debugName()
        while name in self._same:
            name = self._same[name]
        return name

    def block(self, raw: Any) -> Block:
        params = [self._declare(value) for value in raw.inputs()]
        if not self._objects:
            self._objects[params[0]] = ("", self.module)
        nodes: list[Node] = []
        self._fill(raw, nodes)
        return Block(params, nodes, [self.name(value) for value in raw.outputs()])

    def _fill(self, raw: Any, nodes: list[Node]) -> None:
        for one in raw.nodes():
            if one.kind() == "prim::If" and isinstance(self.constants.get(self.name(one.input())), bool):
                self._take_branch(one, nodes)
            elif one.kind() == "prim::Constant":
                self._constant(one, nodes)
            elif one.kind() == "prim::GetAttr":
                self._attribute(one)
            elif one.kind() == "aten::format":
                self.constants[self._declare(one.output())] = ""  # no artifact speaks: what a message tells is not computed
            elif one.kind() in ("prim::TupleUnpack", "prim::TupleIndex") and self.name(next(one.inputs())) in self._tuples:
                self._open(one)
            elif one.kind() == "aten::slice" and self._takes_all(one):
                self._same[one.output().debugName()] = self.name(next(one.inputs()))
            else:
                nodes.append(self._node(one))

    def _constant(self, raw: Any, nodes: list[Node]) -> None:
        """Keeps a constant; a tensor as a copy of a weight: a loop's body takes none that is not handed to it, and may write into it."""
        name, value = self._declare(raw.output()), raw.output().toIValue()  # not raw.i("value"): that gives 1 for True
        if not isinstance(value, torch.Tensor):
            self.constants[name] = value
            return
        path = f"lifted_constant_{len(self.tensors)}"
        self.types[path], self.weights[path], self.tensors[path] = "Tensor", path, value
        nodes.append(Node("aten::clone", [path], [name], arguments=_CLONE, where=self._place(raw)))

    def _take_branch(self, raw: Any, nodes: list[Node]) -> None:
        """Puts the branch that a constant chooses in the place of the choice."""
        branch = list(raw.blocks())[0 if self.constants[self.name(raw.input())] else 1]
        self._fill(branch, nodes)
        for outer, inner in zip(raw.outputs(), branch.outputs(), strict=True):
            self._same[outer.debugName()] = self.name(inner)

    def _open(self, raw: Any) -> None:
        """Gives what is taken out of a tuple the name under which it was put in."""
        parts = self._tuples[self.name(next(raw.inputs()))]
        if raw.kind() == "prim::TupleIndex":
            parts = [parts[self.constants[self.name(list(raw.inputs())[1])]]]
        for value, part in zip(raw.outputs(), parts, strict=True):
            self._same[value.debugName()] = part

    def _takes_all(self, raw: Any) -> bool:
        """Says whether a slice of a tensor is the whole of it: TorchScript writes one for each `:` of `x[:, t]`."""
        if str(next(raw.inputs()).type()) != "Tensor":
            return False
        _, _, start, end, step = (self.constants.get(self.name(value), "") for value in raw.inputs())
        return start in (None, 0) and (end is None or is_endless(end)) and step == 1

    def _node(self, raw: Any) -> Node:
        kind, where = raw.kind(), self._place(raw)
        if kind == "prim::SetAttr":
            raise ExportError(
                f"assigns the module's attribute {raw.s('name')} in forward",
                where=where,
                todo="Return the new value, and pass it in as an input.",
            )
        inputs = [self.name(value) for value in raw.inputs()]
        outputs = [self._declare(value) for value in raw.outputs()]
        if kind == "prim::TupleConstruct":
            self._tuples[outputs[0]] = inputs
        arguments = arguments_of(raw.schema()) if kind.startswith("aten::") else ()
        return Node(kind, inputs, outputs, [self.block(inner) for inner in raw.blocks()], None, arguments, where)

    def _attribute(self, raw: Any) -> None:
        prefix, owner = self._objects[self.name(raw.input())]
        path = f"{prefix}.{raw.s('name')}" if prefix else raw.s("name")
        value, name = getattr(owner, raw.s("name")), self._declare(raw.output())
        if isinstance(value, torch.Tensor):
            first = next((one for one, known in self.weights.items() if known == path), None)
            if first is None:
                self.weights[name] = path
            else:
                self._same[name] = first
        elif isinstance(value, torch.nn.Module) or hasattr(value, "_c"):
            self._objects[name] = (path, value)
        elif isinstance(value, int | float | bool | str | list | tuple | torch.device | None):
            self.constants[name] = value
        else:
            raise ExportError(f"reads {path}, a {type(value).__name__}, which no artifact can hold", where=self._place(raw))

    def _place(self, raw: Any) -> str:
        """Finds the user's line; TorchScript knows none of some nodes, which stand beside others of their statement."""
        self._last_place = place_of(raw.sourceRange()) or self._last_place
        return self._last_place

    def _declare(self, value: Any) -> str:
        name: str = value.debugName()
        self.types[name] = value.type().annotation_str.replace("number", "Scalar")
        return name


def place_of(text: str) -> str:
    """Finds "net.py:12" in what TorchScript tells of a node's origin: the innermost line that is no package's."""
    found = [(file, line) for file, line in _PLACE.findall(text) if file.endswith(".py")]
    own = [one for one in found if "site-packages" not in one[0]]
    if not (own or found):
        return ""
    file, line = (own or found)[0]
    return f"{Path(file).name}:{line}"


def is_endless(value: Any) -> bool:
    return isinstance(value, int) and value >= _ENDLESS


def arguments_of(schema: str) -> tuple[Argument, ...]:
    """Reads the arguments of an operator's schema."""
    if schema.startswith("("):  # prim operators without a name
        return ()
    try:
        parsed = torch._C.parse_schema(schema)  # noqa: SLF001 - torch has no public parser
    except RuntimeError:
        return ()
    return tuple(
        Argument(
            one.name,
            re.sub(r"^Optional\[(.*)\]$", r"\1", str(one.real_type)),
            one.kwarg_only,
            one.alias_info is not None and one.alias_info.is_write,
            one.alias_info is not None and not one.alias_info.is_write,
        )
        for one in parsed.arguments
    )


def _type_of(value: Any) -> str:
    return {bool: "bool", int: "int", float: "float", str: "str"}.get(type(value), "NoneType")

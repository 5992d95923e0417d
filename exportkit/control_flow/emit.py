"""A graph without writes -> Python source that calls `loops` and `branches`, and for each of its lines the user's own."""

import keyword
from dataclasses import dataclass
from typing import Any

from exportkit.control_flow.calls import Calls, Names
from exportkit.control_flow.facts import Bound, Facts, LoopPlan
from exportkit.control_flow.graph import Block, Graph, Node

_HEAVY = frozenset({
    "linear", "matmul", "mm", "bmm", "addmm", "conv1d", "conv2d", "conv3d", "einsum", "layer_norm", "scaled_dot_product_attention",
    "lstm_cell", "gru_cell", "softmax", "sort", "topk", "cumsum", "gather", "index", "select", "index_select", "embedding", "slice",
    "narrow", "item",
})  # fmt: skip
_MOST_CHEAP = 8  # so many operations at most are run for nothing rather than put behind a branch


@dataclass(frozen=True, slots=True)
class Source:
    """Generated source.

    Attributes:
        text: a function `forward`.
        places: line number, from 1 -> "net.py:12".
        objects: what the source names and cannot write down.
    """

    text: str
    places: dict[int, str]
    objects: dict[str, Any]


def emit(graph: Graph) -> Source:
    """Writes a graph as the source of a function `forward`.

    Raises:
        ExportError: an operation has no form in torch.export; names the user's line.
    """
    return _Writer(graph).source()


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.facts = Facts(graph)
        self.names = Names(self.facts)
        self.calls = Calls(self.facts, self.names)
        self.lines: list[str] = []
        self.places: dict[int, str] = {}
        self.number = 0

    def source(self) -> Source:
        params = [self._parameter(name) for name in self.graph.block.params]
        self._line(0, f"def forward({', '.join(['self', *params])}):")
        for name, path in self.graph.weights.items():
            self._line(1, f"{self.names.declare(name)} = {_attribute(path)}")
        self._block(self.graph.block, 1, set())
        self._line(1, f"return {', '.join(map(self.names.of, self.graph.block.outputs))}")
        return Source("\n".join(self.lines) + "\n", self.places, self.names.objects)

    def _parameter(self, name: str) -> str:
        declared = self.names.declare(name)
        return f"{declared}={self.graph.defaults[name]!r}" if name in self.graph.defaults else declared

    def _line(self, depth: int, text: str, where: str = "") -> None:
        told = f"  # {where}" if where and where not in (self.places.get(len(self.lines)), "") else ""
        self.lines.append("    " * depth + text + told)
        if where:
            self.places[len(self.lines)] = where

    def _block(self, block: Block, depth: int, left_out: set[int]) -> None:
        for node in block.nodes:
            if id(node) not in left_out:
                self._node(node, depth)

    def _node(self, node: Node, depth: int) -> None:
        if node.kind == "prim::Loop":
            self._loop(node, depth)
        elif node.kind == "prim::If":
            self._if(node, depth)
        elif node.kind == "lift::wavefront":
            self._wavefront(node, depth)
        else:
            self._line(depth, f"{self._left(node)}{self.calls.expression(node)}", node.where)

    def _left(self, node: Node) -> str:
        names = [self.names.declare(name) for name in node.outputs]
        unpacks = node.kind in ("prim::TupleUnpack", "prim::ListUnpack", "prim::If", "prim::Loop")
        if not names:
            return ""
        return f"{', '.join(names)}{',' if unpacks and len(names) == 1 else ''} = "

    def _if(self, node: Node, depth: int) -> None:
        self.number += 1
        captured = self._free(node.blocks)
        labels = (f"then_{self.number}", f"else_{self.number}")
        for label, block in zip(labels, node.blocks, strict=True):
            self._line(depth, f"def {label}({', '.join(captured)}):", node.where)
            self._block(block, depth + 1, set())
            self._line(depth + 1, f"return {self._tuple([self.names.of(name) for name in block.outputs])}", node.where)
        cheap = ", cheap=True" if self._is_cheap(node) else ""
        flag = self.names.of(node.inputs[0])
        self._line(depth, f"{self._left(node)}branches.choose({flag}, {', '.join(labels)}, {self._tuple(captured)}{cheap})", node.where)

    def _is_cheap(self, node: Node) -> bool:
        inner = [one for block in node.blocks for one in block.walk()]
        return len(inner) <= _MOST_CHEAP and not any(
            one.kind == "prim::Loop" or one.operator in _HEAVY or one.kind.startswith("lift::") or one.kind == "prim::RaiseException"
            for one in inner
        )

    def _wavefront(self, node: Node, depth: int) -> None:
        self.number += 1
        cell, leaves = node.blocks
        labels, captured = (f"cell_{self.number}", f"leaves_{self.number}"), self._free(node.blocks)
        for label, block in zip(labels, node.blocks, strict=True):
            self._line(depth, f"def {label}({', '.join([*map(self.names.declare, block.params), *captured])}):", node.where)
            self._block(block, depth + 1, set())
            result = self.names.of(cell.outputs[0]) if block is cell else self._tuple([self.names.of(name) for name in leaves.outputs])
            self._line(depth + 1, f"return {result}", node.where)
        rows, columns, table = map(self.names.of, node.inputs)
        wave = repr(node.value).replace("Wave(", "wavefront.Wave(").replace("Leaf(", "wavefront.Leaf(")
        words = [f"({rows}, {columns})", *labels, table, wave, self._tuple(captured)]
        self._line(depth, f"{self._left(node)}wavefront.filled({', '.join(words)})", node.where)

    def _loop(self, node: Node, depth: int) -> None:
        self.number += 1
        number, body, plan = self.number, node.blocks[0], self.facts.plan(node)
        captured = self._free([body])
        given = self._given(plan, body)
        rows = self._rows(plan, body, number, captured, depth, given)
        params = [self.names.declare(name) for name in [body.params[0], *given, *body.params[1:]]] + captured
        self._line(depth, f"def body_{number}({', '.join(params)}):", node.where)
        for one in body.nodes:
            if id(one) in plan.written:
                index, value = self.names.of(plan.written[id(one)]), self.names.of(one.inputs[1])
                self._line(depth + 1, f"{self.names.declare(one.outputs[0])} = ({index}, {value})", one.where)
            elif one not in plan.early:
                self._node(one, depth + 1)
        outputs = body.outputs[1:] if plan.kind == "for" else body.outputs
        self._line(depth + 1, f"return {self._tuple([self.names.of(plan.longer.get(name, name)) for name in outputs])}", node.where)
        self._call_loop(node, plan, number, captured, rows, depth)

    def _call_loop(self, node: Node, plan: LoopPlan, number: int, captured: list[str], rows: str, depth: int) -> None:
        trip, going, *start = map(self.names.of, node.inputs)
        head = f"loops.repeat({trip}" if plan.kind == "for" else f"loops.iterate({going}"
        words = [f"{head}, body_{number}", self._tuple(start), self._carried(node, plan), self._tuple(captured)]
        if rows:
            words.append(f"rows={rows}")
        if plan.bound:
            words.append(f"bound={self._sum(plan.bound)}")
        if plan.appends is None or any(plan.appends):
            words.append(f"appends={self._appends(plan.appends)}")
        elif len(plan.appends) > 1:
            words.append(f"appends={len(plan.appends)}")
        self._line(depth, f"{self._left(node)}{', '.join(words)})", node.where)

    def _appends(self, chains: list[tuple[Bound, ...]] | None) -> str:
        if chains is None:
            return "None"
        return f"loops.appended({', '.join(self._tuple([self._sum(one) for one in chain]) for chain in chains)})"

    def _sum(self, bound: Bound) -> str:
        name, more = bound
        return f"scalars.add({self.names.of(name)}, {more})" if more else self.names.of(name)

    def _carried(self, node: Node, plan: LoopPlan) -> str:
        parts = []
        step, *params = node.blocks[0].params
        for param, mode, dim, out in zip(params, plan.modes, plan.dims, node.blocks[0].outputs[1:], strict=True):
            name = param.split(".")[0]
            told = "" if mode == "carried" else f", {mode!r}" if mode in ("grown", "appended", "prepended") else f", {mode!r}, {dim}"
            if mode == "written" and plan.written[id(self.facts.made[out])] == step:
                told += ", every=True"
            parts.append(f"loops.Carried({name!r}{told})")
        return self._tuple(parts)

    @staticmethod
    def _given(plan: LoopPlan, body: Block) -> list[str]:
        """Lists the rows, and what is computed from them, that a step is given."""
        read = set(_reads(Block(body.params, [node for node in body.nodes if node not in plan.early], body.outputs)))
        return [node.outputs[0] for node in plan.early if node.outputs[0] in read]

    def _rows(self, plan: LoopPlan, body: Block, number: int, captured: list[str], depth: int, given: list[str]) -> str:
        """Writes the function that reads all rows of a loop at once, and computes what hangs on a row alone."""
        if not plan.rows:
            return ""
        wanted = {node.inputs[-1] for node in plan.rows}
        for node in reversed(body.nodes):  # the arithmetic that leads to the indices
            if wanted & set(node.outputs):
                wanted |= set(node.inputs)
        self._line(depth, f"def rows_{number}({', '.join([self.names.declare(body.params[0]), *captured])}):")
        for node in body.nodes:
            if node in plan.rows:
                self._line(depth + 1, f"{self._left(node)}{self._row(node, body.params[0])}", node.where)
            elif node in plan.projected and node.operator == "linear":
                self._line(depth + 1, f"{self._left(node)}indexing.projected({', '.join(map(self.names.of, node.inputs))})", node.where)
            elif node in plan.projected or wanted & set(node.outputs):
                self._node(node, depth + 1)
        self._line(depth + 1, f"return {self._tuple([self.names.of(name) for name in given])}")
        return f"rows_{number}"

    def _row(self, node: Node, step: str) -> str:
        given, index = ", ".join(map(self.names.of, node.inputs)), node.inputs[-1]
        if node.kind == "aten::__getitem__":
            return f"lists.rows({given})"
        words = f"nonnegative={self.facts.is_nonnegative(index)}" + (", every=True" if index == step else "")
        return f"indexing.rows({given}, {words})"

    def _free(self, blocks: list[Block]) -> list[str]:
        """Lists the names that blocks read from outside."""
        made = {name for block in blocks for node in block.walk() for name in [*node.outputs, *(p for b in node.blocks for p in b.params)]}
        made |= {name for block in blocks for name in block.params}
        read = [name for block in blocks for name in _reads(block)]
        outer = [name for name in dict.fromkeys(read) if name not in made and name not in self.graph.constants]
        return [self.names.declare(name) for name in outer]

    @staticmethod
    def _tuple(parts: list[str]) -> str:
        return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"


def _attribute(path: str) -> str:
    """Writes the read of an attribute; the children of an nn.Sequential have numbers for names."""
    text = "self"
    for part in path.split("."):
        text = f"{text}.{part}" if part.isidentifier() and not keyword.iskeyword(part) else f"getattr({text}, {part!r})"
    return text


def _reads(block: Block) -> list[str]:
    inner = [name for node in block.walk() for name in [*node.inputs, *(one for part in node.blocks for one in part.outputs)]]
    return [*inner, *block.outputs]

"""What a step of a loop computes for one cell -> the same for many at once, side by side along a last axis, the lanes.

Behind all other axes the lanes change nothing of what is aligned from the right or counted from the left; a value that is the same for all
cells gets an axis of size 1 there.
"""

from collections.abc import Iterable, Sequence

import torch

from exportkit.control_flow.facts import Facts
from exportkit.control_flow.graph import Node

# What takes lanes as it is, besides what torch calls pointwise.
_AS_IT_IS = frozenset({
    "to", "type_as", "clone", "contiguous", "detach", "alias", "zeros_like", "ones_like", "full_like", "__derive_index", "__not__",
    "__and__", "__or__", "abs", "ListConstruct", "dtype", "device", "tensor", "NumToTensor",
})  # fmt: skip
_ALONG_AXES = frozenset({
    "sum", "mean", "prod", "amax", "amin", "max", "min", "any", "all", "logsumexp", "softmax", "log_softmax", "cumsum", "norm",
    "linalg_vector_norm", "stack", "cat", "unsqueeze", "squeeze",
})  # fmt: skip
_OF_ALL = frozenset({"sum", "mean", "prod", "max", "min", "any", "all", "norm", "linalg_vector_norm"})  # where no axis is named
_NUMBERS = {"Int": "int", "Float": "float", "Bool": "bool", "IntImplicit": "", "FloatImplicit": "", "ScalarImplicit": "", "item": ""}
_PLAIN = frozenset({"lift::element", "prim::ListConstruct", "prim::TupleConstruct", "prim::NumToTensor", "prim::dtype", "prim::device"})
# No runtime divides an int by zero, and of what stands in a lane without a cell nobody knows that it is none.
_DIVIDES = frozenset({"floor_divide", "floordiv", "remainder", "fmod", "mod"})


class CannotError(Exception):
    """What a cell computes has no form for many of them."""


class Lanes:
    """Rewrites nodes.

    Attributes:
        wide: the values that have lanes.
        unsure: those of them that are anything in a lane without a cell.
    """

    def __init__(self, facts: Facts, wide: Iterable[str], unsure: Iterable[str]) -> None:
        self.facts, self.graph = facts, facts.graph
        self.wide, self.unsure = set(wide), set(unsure)

    def nodes(self, nodes: Sequence[Node]) -> list[Node]:
        """Rewrites nodes.

        Raises:
            CannotError: one has no such form.
        """
        made: list[Node] = []
        for node in nodes:
            if not self.unsure.isdisjoint([*node.inputs, *(name for block in node.blocks for name in block.outputs)]):
                self.unsure |= set(node.outputs)
            if node.kind == "prim::If":
                self._choice(node, made)
            elif self.wide.isdisjoint(node.inputs):
                _need(_is_pure(node))
                made.append(node)
            else:
                self._node(node, made)
                self.wide |= set(node.outputs) if node.kind not in ("prim::dtype", "prim::device") else set()
        return made

    def beside(self, name: str, made: list[Node]) -> str:
        """Gives what is the same for all cells an axis for the lanes."""
        if name in self.wide or self.graph.types[name] != "Tensor":
            return name
        return self._new("lanes::beside", [name], made)

    def _new(self, kind: str, inputs: list[str], made: list[Node]) -> str:
        name = self.graph.new("Tensor", "wide")
        made.append(Node(kind, inputs, [name], where=made[-1].where if made else ""))
        self.wide.add(name)
        return name

    def _choice(self, node: Node, made: list[Node]) -> None:
        """Computes both sides, and selects."""
        _need(node.inputs[0] in self.wide)
        then, other = node.blocks
        made += self.nodes(then.nodes)
        made += self.nodes(other.nodes)
        for name, a, b in zip(node.outputs, then.outputs, other.outputs, strict=True):
            made.append(Node("lanes::select", [node.inputs[0], self.beside(a, made), self.beside(b, made)], [name], where=node.where))
            self.wide.add(name)

    def _node(self, node: Node, made: list[Node]) -> None:
        operator = node.operator
        _need(node.kind.startswith(("aten::", "prim::", "lift::element")) and not node.blocks)
        named = {one.name: value for one, value in zip(node.arguments, node.inputs, strict=False)}
        if node.kind == "lift::element" or (operator == "index" and node.inputs[0] not in self.wide):
            self._look_up(node, made)
        elif operator == "select":
            self._select(node, made)
        elif operator == "linear":
            _need(self.wide.isdisjoint(node.inputs[1:]))
            made.append(Node("lanes::linear", node.inputs, node.outputs, where=node.where))
        elif operator in _NUMBERS:
            kind = self.graph.constant(_NUMBERS[operator])
            made.append(Node("lanes::as_number", [node.inputs[0], kind], node.outputs, where=node.where))
        elif operator in _ALONG_AXES and "other" not in named and node.kind.startswith("aten::"):
            self._along(node, named, made)
        else:
            _need(operator in (*_AS_IT_IS, "max", "min") or _has_tag(node, torch.Tag.pointwise))
            self._check_divisor(node)
            if operator != "ListConstruct":
                node.inputs = [self.beside(name, made) for name in node.inputs]
            made.append(node)

    def _along(self, node: Node, named: dict[str, str], made: list[Node]) -> None:
        """Counts axes from the end past the lanes; what goes over all axes goes over all but them."""
        dim = named.get("dim")
        if dim is None or self.facts.constant(dim) is None:
            _need(node.operator in _OF_ALL)
            inputs = [self.graph.constant(node.operator), node.inputs[0], *(named[one] for one in ("p", "ord") if one in named)]
            made.append(Node("lanes::reduced", inputs, node.outputs, where=node.where))
            return
        if node.operator in ("stack", "cat"):
            self._spread(node, made)
        elif node.operator != "unsqueeze":
            node.inputs[0] = self._new("lanes::with_axis", [node.inputs[0]], made)
        given = self._dims(dim)
        _need(all(isinstance(one, int) for one in given))
        moved = [one - (one < 0) for one in given]  # type: ignore[operator]
        place = [one.name for one in node.arguments].index("dim")
        whole = self.graph.types.get(dim, "").startswith(("List", "Optional[List")) or isinstance(self.facts.constant(dim), list)
        node.inputs[place] = self.graph.constant(moved if whole else moved[0])
        made.append(node)

    def _dims(self, name: str) -> list[object]:
        maker = self.facts.made.get(name)
        if maker is not None and maker.kind == "prim::ListConstruct":
            return [self.facts.constant(one) for one in maker.inputs]
        value = self.facts.constant(name)
        return list(value) if isinstance(value, list | tuple) else [value]

    def _spread(self, node: Node, made: list[Node]) -> None:
        """Repeats what is the same for all cells beside what is not, in the list that is put together."""
        maker = next((one for one in made if node.inputs[0] in one.outputs), None)
        _need(maker is not None and maker.kind == "prim::ListConstruct")
        assert maker is not None
        like = next(name for name in maker.inputs if name in self.wide)
        parts = [name if name in self.wide else self._new("lanes::across", [name, like], made) for name in maker.inputs]
        node.inputs[0] = self.graph.new("List[Tensor]", "parts")
        made.append(Node("prim::ListConstruct", parts, [node.inputs[0]], where=node.where))

    def _select(self, node: Node, made: list[Node]) -> None:
        x, dim, index = node.inputs
        if x in self.wide:
            axis = self.facts.constant(dim)
            _need(isinstance(axis, int) and index not in self.wide)
            node.inputs[1] = self.graph.constant(axis - (axis < 0))  # type: ignore[operator]
            made.append(node)
        else:
            _need(index not in self.unsure)
            made.append(Node("lanes::row_of", node.inputs, node.outputs, where=node.where))

    def _look_up(self, node: Node, made: list[Node]) -> None:
        x, *indices = node.inputs
        _need(x not in self.wide)
        if node.kind == "aten::index":
            maker = next((one for one in made if indices[0] in one.outputs), None)
            _need(maker is not None and maker.kind == "prim::ListConstruct")
            assert maker is not None
            indices = maker.inputs
            _need(all(self.graph.types[one] == "Tensor" for one in indices))
        _need(self.unsure.isdisjoint(indices))
        made.append(Node("lanes::looked_up", [x, *indices], node.outputs, where=node.where))

    def _check_divisor(self, node: Node) -> None:
        rounds = node.operator == "div" and any(one.name == "rounding_mode" for one in node.arguments)
        if node.operator in _DIVIDES or rounds:
            divisor = self.facts.constant(node.inputs[1])
            _need(isinstance(divisor, int | float) and divisor != 0)


def _is_pure(node: Node) -> bool:
    if node.kind in _PLAIN:
        return True
    return node.kind.startswith("aten::") and not node.blocks and not _has_tag(node, torch.Tag.nondeterministic_seeded)


def _has_tag(node: Node, tag: torch.Tag) -> bool:
    packet = getattr(torch.ops.aten, node.operator, None) if node.kind.startswith("aten::") else None
    return packet is not None and any(tag in getattr(packet, name).tags for name in packet.overloads())


def _need(holds: bool) -> None:
    if not holds:
        raise CannotError

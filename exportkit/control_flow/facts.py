"""What generated source may rely on: which numbers are Python's own, which are never negative, what a loop does with its values."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from exportkit.control_flow.graph import Block, Graph, Node, is_endless
from exportkit.control_flow.rowwise import projections

_SIZES = ("aten::size", "aten::dim", "aten::numel", "prim::dtype", "prim::device", "prim::layout")
_LENGTHENS = ("lift::append", "lift::insert", "lift::extend", "lift::pop", "lift::clear", "aten::add")
# A comparison, and whether it holds -> (places of a and b, n) with a < b + n.
_BELOW = {
    ("lt", True): (0, 1, 0), ("ge", False): (0, 1, 0), ("gt", True): (1, 0, 0), ("le", False): (1, 0, 0),
    ("le", True): (0, 1, 1), ("gt", False): (0, 1, 1), ("ge", True): (1, 0, 1), ("lt", False): (1, 0, 1),
}  # fmt: skip
Bound = tuple[str, int]  # a value, and what is added to it
_NUMBERS = ("int", "float", "bool", "Scalar")


@dataclass(eq=False, slots=True)
class LoopPlan:
    """How a loop is written.

    Attributes:
        kind: "for" (its length is known at the start) or "while".
        modes: for each carried value "carried", "grown", "appended", "prepended" or "written".
        dims: for each carried value the axis of a written row, else 0.
        rows: the reads that give one row of an outer tensor, or one element of an outer list, in each step.
        projected: what is computed from one row alone.
        written: the writes that `modes` takes out of the body.
        longer: result -> what it adds to a lengthened tensor.
        bound: the most steps of a "while"; None where that is not known.
        appends: for each append of the body the most steps of the loops around it, inside of the body; None where that is not known.
    """

    kind: str
    modes: list[str] = field(default_factory=list)
    dims: list[int] = field(default_factory=list)
    rows: list[Node] = field(default_factory=list)
    projected: list[Node] = field(default_factory=list)
    written: dict[int, str] = field(default_factory=dict)
    longer: dict[str, str] = field(default_factory=dict)
    bound: Bound | None = None
    appends: list[tuple[Bound, ...]] | None = field(default_factory=list)

    @property
    def early(self) -> list[Node]:
        """What is read and computed for all steps before the first."""
        return [*self.rows, *self.projected]


class Facts:
    """Looks things up in a graph that does not change any more."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.made = graph.definitions()
        self.uses = Counter(name for node in graph.block.walk() for name in node.inputs)
        self.uses.update(name for node in graph.block.walk() for block in node.blocks for name in block.outputs)
        self.uses.update(graph.block.outputs)
        self._positive: set[str] = set()
        self._plain: dict[str, bool] = {}
        for node in graph.block.walk():
            if node.kind == "prim::Loop":
                self._note_counters(node)

    def constant(self, name: str, otherwise: object = "?") -> object:
        return self.graph.constants.get(name, otherwise)

    def is_plain(self, name: str) -> bool:
        """Says whether a number is Python's own, or a size, in whatever loop: never a tensor."""
        if name not in self._plain:
            self._plain[name] = False  # in a circle through a loop it is none
            self._plain[name] = self._find_plain(name)
        return self._plain[name]

    def _find_plain(self, name: str) -> bool:
        if name in self.graph.constants:
            return True
        node = self.made.get(name)
        if node is None:
            return name in self.graph.block.params and self.graph.types[name] != "Tensor"
        if node.kind in _SIZES or (node.kind == "aten::len" and self.graph.types[node.inputs[0]] == "Tensor"):
            return True
        kinds = ("lt", "le", "gt", "ge", "eq", "ne", "len")
        if self.graph.types[name] == "float" or node.blocks or node.operator in kinds:
            return False
        return all(self.is_plain(one) for one in node.inputs)

    def is_nonnegative(self, name: str) -> bool:  # noqa: PLR0911 - one for each kind of maker
        value = self.constant(name)
        if isinstance(value, int):
            return value >= 0
        if name in self._positive:
            return True
        node = self.made.get(name)
        if node is None:
            return False
        if node.kind in ("aten::size", "aten::len", "aten::__range_length"):
            return True
        if node.kind in ("aten::Int", "aten::ceil", "aten::floor"):
            return self._is_log_of_int(self.made.get(node.inputs[0]))
        if node.kind in ("aten::add", "aten::mul") and self.graph.types[name] == "int":
            return all(map(self.is_nonnegative, node.inputs[:2]))
        return node.kind == "aten::__derive_index" and all(map(self.is_nonnegative, node.inputs))

    def _is_log_of_int(self, node: Node | None) -> bool:
        """Says whether a number is the logarithm of an int, which is 1 at least where it has one, to the base of 2 (dialect.py)."""
        if node is None or node.kind != "aten::log" or len(node.inputs) == 1:
            return False
        return self.graph.types[node.inputs[0]] == "int" and self.constant(node.inputs[1]) == 2.0  # noqa: PLR2004

    def _note_counters(self, loop: Node) -> None:
        """Notes the step of a loop, and carried ints that start from 0 or above and only grow."""
        body = loop.blocks[0]
        self._positive.add(body.params[0])
        for param, out, start in zip(body.params[1:], body.outputs[1:], loop.inputs[2:], strict=True):
            if self.graph.types[param] == "int" and self.is_nonnegative(start) and self._grows(out, param, 0, body.outputs[0]):
                self._positive.add(param)

    def offset(self, name: str) -> tuple[str, int]:
        """Splits an int into a value and a constant that is added to it."""
        value, node = self.constant(name), self.made.get(name)
        if isinstance(value, int):
            return "", value
        if node is not None and node.kind in ("aten::add", "aten::sub") and self.graph.types[name] == "int":
            constant = self.constant(node.inputs[1])
            if isinstance(constant, int):
                base, more = self.offset(node.inputs[0])
                return base, more + (constant if node.kind == "aten::add" else -constant)
        return name, 0

    def width(self, start: str, end: str) -> int | None:
        """Returns `end - start` where it is the same in every step."""
        (base, low), (other, high) = self.offset(start), self.offset(end)
        return high - low if base and base == other and high > low else None

    def plan(self, loop: Node) -> LoopPlan:
        body = loop.blocks[0]
        plan = LoopPlan("for" if self.is_for(loop) else "while")
        for param, out in zip(body.params[1:], body.outputs[1:], strict=True):
            mode, dim = self._mode(plan, body, param, out)
            plan.modes.append(mode)
            plan.dims.append(dim)
        plan.appends = self._appends(body, (), set(_made_in(body)))
        if plan.kind == "for":
            plan.rows = [node for node in body.nodes if self._is_row(node, body)]
            plan.projected = projections(plan.rows, body, lambda name: self._is_outer(name, body))
        else:
            plan.bound = self._bound(loop)
        return plan

    def _appends(self, block: Block, trips: tuple[Bound, ...], made: set[str]) -> list[tuple[Bound, ...]] | None:
        found: list[tuple[Bound, ...]] = []
        for node in block.nodes:
            if node.kind in ("lift::append", "lift::insert"):
                found.append(trips)
            if node.kind == "lift::extend":
                return None
            around = trips
            if node.kind == "prim::Loop":
                trip = (node.inputs[0], 0) if self.is_for(node) else self._bound(node)
                around = (*trips, ("", 0) if trip is None or trip[0] in made else trip)
            for inner in node.blocks:
                more = self._appends(inner, around, made)
                if more is None:
                    return None
                found += more
        return None if any(("", 0) in chain for chain in found) else found

    def _mode(self, plan: LoopPlan, body: Block, param: str, out: str) -> tuple[str, int]:
        kind = self.graph.types[param]
        if kind.startswith("List["):
            if plan.kind == "for" and self._is_appended(body, param, out):
                return "appended", 0
            if plan.kind == "for" and self._is_prepended(body, param, out):
                return "prepended", 0
            return ("grown" if self._is_grown(body, param, out) else "carried"), 0
        put = self.made.get(out)
        if plan.kind == "for" and kind == "Tensor" and put is not None and put.kind == "lift::put" and put in body.nodes:
            place = self._written_row(put, body)
            if place is not None and put.inputs[0] == param and self.uses[param] == 1 and self.uses[out] == 1:
                plan.written[id(put)] = place[1]
                return "written", place[0]
        added = self._added(put, param, body) if put is not None else None
        if added is not None:
            plan.longer[out] = added[1]
            return "lengthened", added[0]
        return "carried", 0

    def _added(self, node: Node, param: str, body: Block) -> tuple[int, str] | None:
        """Returns (axis, what is added) where a tensor is carried on with something put at its end."""
        if node.kind != "aten::cat" or node not in body.nodes:
            return None
        parts, dim = self.made.get(node.inputs[0]), self.constant(node.inputs[1])
        if parts is None or parts.kind != "prim::ListConstruct" or len(parts.inputs) != 2 or parts.inputs[0] != param:  # noqa: PLR2004
            return None
        return (dim, parts.inputs[1]) if isinstance(dim, int) and parts.inputs[1] != param else None

    def _is_appended(self, body: Block, param: str, out: str) -> bool:
        """Says whether a body does nothing with a list but append to it: itself, or in a loop inside that does no more."""
        value = param
        while self.uses[value] == 1 and value != out:
            step = next((node for node in body.nodes if value in node.inputs), None)
            if step is not None and step.kind == "lift::append" and step.inputs[0] == value:
                value = step.outputs[0]
            elif step is not None and step.kind == "prim::Loop" and value in step.inputs[2:]:
                place, inner = step.inputs[2:].index(value), step.blocks[0]
                if not self.is_for(step) or not self._is_appended(inner, inner.params[1 + place], inner.outputs[1 + place]):
                    return False
                value = step.outputs[place]
            else:
                return False
        return value == out and value != param and self.uses[value] == 1

    def _is_prepended(self, body: Block, param: str, out: str) -> bool:
        """Says whether a body does nothing with a list but insert in front of it."""
        value = param
        while self.uses[value] == 1 and value != out:
            step = next((node for node in body.nodes if value in node.inputs), None)
            if step is None or step.kind != "lift::insert" or step.inputs[0] != value or self.constant(step.inputs[1]) != 0:
                return False
            value = step.outputs[0]
        return value == out and value != param and self.uses[value] == 1

    def is_for(self, loop: Node) -> bool:
        return self.constant(loop.blocks[0].outputs[0]) is True and not is_endless(self.constant(loop.inputs[0]))

    def _is_grown(self, body: Block, param: str, out: str) -> bool:
        family, grown = {param}, False
        for node in body.walk():
            if family & set(node.inputs) and node.outputs and self.graph.types[node.outputs[0]].startswith("List["):
                family |= set(node.outputs)
                grown |= node.kind in _LENGTHENS or (node.kind == "lift::set_item" and node.inputs[1] not in self.graph.constants)
        return grown or (self.made.get(out, None) is not None and self.made[out].blocks != [])

    def _written_row(self, put: Node, body: Block) -> tuple[int, str] | None:
        """Returns (axis, index) where a write replaces one whole row, another one in each step."""
        inputs, steps = put.inputs[2:], []
        for operator, number in put.value:
            steps.append((operator, inputs[:number]))
            inputs = inputs[number:]
        if len(steps) != 1 or steps[0][0] != "select":
            return None
        dim, index = self.constant(steps[0][1][0]), steps[0][1][1]
        return (dim, index) if isinstance(dim, int) and self._is_stepping(index, body) else None

    def _is_row(self, node: Node, body: Block) -> bool:
        of_tensor = node.kind == "aten::select" and isinstance(self.constant(node.inputs[1]), int)
        of_list = node.kind == "aten::__getitem__" and self.graph.types[node.inputs[0]] == "List[Tensor]"
        return (of_tensor or of_list) and self._is_outer(node.inputs[0], body) and self._is_stepping(node.inputs[-1], body)

    def _is_stepping(self, name: str, body: Block) -> bool:
        """Says whether an int is another one in each step: the step itself, with constants added, times a constant."""
        if name == body.params[0]:
            return True
        node = self.made.get(name)
        if node is None or node not in body.nodes:
            return False
        if node.kind == "aten::__derive_index":
            return self._is_stepping(node.inputs[0], body) and all(self._is_outer(one, body) for one in node.inputs[1:])
        if node.kind not in ("aten::add", "aten::sub"):
            return False
        moving = [one for one in node.inputs[:2] if self._is_stepping(one, body)]
        return len(moving) == 1 and all(one in moving or self._is_outer(one, body) for one in node.inputs[:2])

    def _is_outer(self, name: str, body: Block) -> bool:
        return name not in body.params and not any(name in node.outputs for node in body.nodes)

    def _bound(self, loop: Node) -> Bound | None:
        """Finds a size that bounds a `while`: it goes on only as long as a counter that grows by one or more stays below that."""
        body = loop.blocks[0]
        if not is_endless(self.constant(loop.inputs[0])):
            return loop.inputs[0], 0
        for low, high, more in self._below(body.outputs[0]):
            raised = low in body.outputs[1:]
            place = body.outputs[1:].index(low) if raised else body.params[1:].index(low) if low in body.params[1:] else -1
            if place < 0 or not self._is_outer(high, body):
                continue
            param, out = body.params[1:][place], body.outputs[1:][place]
            if param in self._positive and self._grows(out, param, 1, body.outputs[0]):
                return high, more + (not raised)
        return None

    def _below(self, going: str) -> Iterator[tuple[str, str, int]]:
        """Yields (a, b, n) with a < b + n for what holds where a loop goes on."""
        for node, holds in self.implied(going, holds=True):
            if (node.operator, holds) in _BELOW:
                low, high, more = _BELOW[node.operator, holds]
                yield node.inputs[low], node.inputs[high], more

    def implied(self, flag: str, *, holds: bool) -> Iterator[tuple[Node, bool]]:
        """Yields what makes a bool, and whether it holds, where that bool holds or does not."""
        waiting = [(flag, holds)]
        while waiting:
            name, holds = waiting.pop()
            node = self.made.get(name)
            if node is None:
                continue
            if node.kind == "aten::__not__":
                waiting.append((node.inputs[0], not holds))
            elif node.kind == ("aten::__and__" if holds else "aten::__or__"):
                waiting += [(one, holds) for one in node.inputs]
            elif node.kind == "prim::If":  # of `a and b`, `a or b`, or a `break`: one side is a constant
                then, other = (block.outputs[node.outputs.index(name)] for block in node.blocks)
                if self.constant(then) is (not holds):
                    waiting += [(node.inputs[0], False), (other, holds)]
                elif self.constant(other) is (not holds):
                    waiting += [(node.inputs[0], True), (then, holds)]
            else:
                yield node, holds

    def _grows(self, name: str, param: str, least: int, going: str) -> bool:
        """Says whether a carried int is raised by `least` or more in each step after which the loop goes on."""
        if name == param:
            return least <= 0
        node = self.made.get(name)
        if node is not None and node.kind == "prim::If":
            place = node.outputs.index(name)
            sides = [
                (one.outputs[place], one.outputs[node.outputs.index(going)] if going in node.outputs else going) for one in node.blocks
            ]
            return all(self.constant(goes) is False or self._grows(value, param, least, goes) for value, goes in sides)
        if node is None or node.kind != "aten::add" or self.graph.types[name] != "int":
            return False
        first, second = node.inputs[:2]
        constant, other = (second, first) if isinstance(self.constant(second), int) else (first, second)
        raised = self.constant(constant)
        if isinstance(raised, int):
            return self._grows(other, param, least - raised, going)
        return any(one == param and self.is_nonnegative(more) for one, more in ((first, second), (second, first))) and least <= 0


def _made_in(block: Block) -> list[str]:
    inner = [name for node in block.walk() for name in [*node.outputs, *(one for part in node.blocks for one in part.params)]]
    return [*block.params, *inner]

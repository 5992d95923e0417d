"""Two nested loops that fill a table from its earlier cells -> one loop over its anti-diagonals, no two cells of which hang on each other.

The hyperplane method (Lamport 1974, "The parallel execution of DO loops"): where each cell reads only cells above it and to its left, all
cells with the same sum of row and column can be computed at once.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

from exportkit.control_flow.counters import Counters, Known
from exportkit.control_flow.facts import Facts
from exportkit.control_flow.graph import Block, Graph, Node
from exportkit.control_flow.lanes import CannotError, Lanes
from exportkit.control_flow.tidy import sweep
from exportkit.control_flow.wavefront import Leaf, Wave

_TABLE_AXES = 2


def skew(graph: Graph) -> None:
    """Rewrites, in place, each such pair of loops as one `lift::wavefront`."""
    facts = Facts(graph)
    for block in [graph.block, *(inner for node in graph.block.walk() for inner in node.blocks)]:
        block.nodes = [new for node in block.nodes for new in (_skewed(facts, node) or [node])]
    sweep(graph)


def _skewed(facts: Facts, loop: Node) -> list[Node] | None:
    if loop.kind != "prim::Loop":
        return None
    try:
        return _Nest(facts, loop).skewed()
    except CannotError:
        return None


@dataclass(frozen=True, slots=True)
class _Place:
    """What a chain of `select` reads or writes: `base[..., i + 1, ..., j]`.

    Attributes:
        steps: for each `select` the axis, of what the one before it gives, and the index.
    """

    base: str
    steps: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Cells:
    """A place as the two counters move it.

    Attributes:
        fixed: the selects before, by what does not change in the loops.
        axes, add: for the row's and the column's counter the axis that it indexes, and what is added to it; None where it indexes none.
    """

    fixed: tuple[tuple[int, str], ...]
    axes: tuple[int | None, int | None]
    add: tuple[int, int]


@dataclass(slots=True)
class _Reads:
    """The parameters of a cell: what is read for it, each once."""

    of_table: dict[tuple[int, int], str] = field(default_factory=dict)
    of_others: dict[tuple[str, _Cells], str] = field(default_factory=dict)


class _Nest:
    """A loop over rows whose body is a loop over columns, and what leads to it."""

    def __init__(self, facts: Facts, loop: Node) -> None:
        self.facts, self.graph, self.loop = facts, facts.graph, loop
        self.outer = loop.blocks[0]
        loops = [node for node in self.outer.nodes if node.kind == "prim::Loop"]
        self._need(len(loops) == 1 and facts.is_for(loop) and facts.is_for(loops[0]))
        self.inside = loops[0]
        self.body = self.inside.blocks[0]
        self._need(len(self.outer.params) == len(self.body.params) == _TABLE_AXES)  # a counter, and the table
        self.counters = Counters(facts, (self.outer.params[0], self.body.params[0]))
        self.made_inside = {name for node in self.outer.walk() for name in node.outputs} | {*self.outer.params, *self.body.params}
        passed = self.inside.inputs[2] == self.outer.params[1] and self.outer.outputs[1] == self.inside.outputs[0]
        self._need(passed and self.inside.inputs[0] not in self.made_inside)
        self._need(facts.uses[self.outer.params[1]] == facts.uses[self.inside.outputs[0]] == 1)
        self.table = self.body.params[1]
        self.known = Known()  # of the counters, where the nodes stand that are rewritten
        self.places: dict[str, _Place] = {}
        self.reads = _Reads()
        self.named: dict[str, str] = {}  # a value -> under which name the cell has it
        self.written = self._written(self.body.outputs[1])

    @staticmethod
    def _need(holds: bool) -> None:
        if not holds:
            raise CannotError

    def skewed(self) -> list[Node]:
        prelude = [node for node in self.outer.nodes if node is not self.inside]
        cell = Block([], copy.deepcopy([*prelude, *self.body.nodes]), [self.body.outputs[1]])
        self._cell(cell, {self.body.outputs[1]})
        wave = self._wave()
        cell.params = [*self.counters.names, *self.reads.of_table.values(), *self.reads.of_others.values()]
        lanes = Lanes(self.facts, cell.params, self.reads.of_table.values())
        cell.nodes = lanes.nodes(cell.nodes)
        cell.outputs = [lanes.beside(cell.outputs[0], cell.nodes)]
        before: list[Node] = []
        held = self._part(self.loop.inputs[2], self.written.fixed, before)
        leaves = Block([], [], [])
        leaves.outputs = [self._part(base, cells.fixed, leaves.nodes) for base, cells in self.reads.of_others]
        result = self.loop.outputs[0] if not self.written.fixed else self.graph.new("Tensor", "table")
        inputs = [self.loop.inputs[0], self.inside.inputs[0], held]
        front = Node("lift::wavefront", inputs, [result], [cell, leaves], wave, where=self.inside.where)
        return [*before, front, *self._put_back(result)]

    def _written(self, result: str) -> _Cells:
        """Finds the one place that every write of a cell leads to."""
        found: _Cells | None = None
        node = self.facts.made.get(result)
        self._need(node is not None)
        assert node is not None
        if node.kind == "prim::If":
            place = node.outputs.index(result)
            for inner in node.blocks:
                if inner.outputs[place] == self.table:
                    continue
                cells = self._written(inner.outputs[place])
                self._need(found in (None, cells))
                found = cells
        elif node.kind == "lift::put":
            self._need(node.inputs[0] == self.table and all(step == ("select", 2) for step in node.value))
            places = node.inputs[2:]
            steps = tuple((self._axis(dim), index) for dim, index in zip(places[::2], places[1::2], strict=True))
            found = self._cells(_Place(self.table, steps))
            self._need(None not in found.axes and min(found.add) >= 0)
        self._need(found is not None)
        assert found is not None
        return found

    def _cell(self, block: Block, written: set[str]) -> None:
        """Rewrites the nodes of a block, which gives a table with one cell written, to give what is written.

        Args:
            written: the names of such tables.
        """
        kept: list[Node] = []
        for node in block.nodes:
            place = self._place(node)
            if place is not None:
                self.places[node.outputs[0]] = place
            if place is not None and self._cells(place).axes != (None, None):
                continue
            if node.kind == "lift::put" and node.outputs[0] in written:
                self.named[node.outputs[0]] = self._value(node.inputs[1])
            else:
                for inner, holds in zip(node.blocks, (True, False), strict=False):
                    before, self.known = self.known, self.counters.under(self.known, node.inputs[0], holds=holds)
                    self._cell(inner, {one for one, name in zip(inner.outputs, node.outputs, strict=True) if name in written})
                    self.known = before
                node.inputs = [self._value(name) for name in node.inputs]
                kept.append(node)
        block.nodes = kept
        block.outputs = [
            self._read(self.written) if name == self.table and name in written else self._value(name) for name in block.outputs
        ]

    def _place(self, node: Node) -> _Place | None:
        """Follows a `select`, or a read of an element, by a counter."""
        if node.kind == "lift::element":
            base, steps = node.inputs[0], tuple((0, index) for index in node.inputs[1:])
        elif node.kind == "aten::select" and isinstance(self.facts.constant(node.inputs[1]), int):
            base, steps = node.inputs[0], ((self._axis(node.inputs[1]), node.inputs[2]),)
        else:
            return None
        known = self.places.get(base)
        if known is None and base in self.made_inside - {self.table}:
            return None
        place = _Place(known.base if known else base, ((known.steps if known else ()) + steps))
        try:
            self._cells(place)
        except CannotError:
            return None
        return place

    def _axis(self, name: str) -> int:
        dim = self.facts.constant(name)
        self._need(isinstance(dim, int) and dim >= 0)
        assert isinstance(dim, int)
        return dim

    def _cells(self, place: _Place) -> _Cells:
        """Tells the axes that the counters index."""
        fixed: list[tuple[int, str]] = []
        axes: list[int | None] = [None, None]
        add = [0, 0]
        for dim, index in place.steps:
            moved = self.counters.moved(index)
            if moved is None:
                self._need(index not in self.made_inside and axes == [None, None])
                fixed.append((dim, index))
                continue
            counter, more = moved
            self._need(axes[counter] is None)
            other = axes[1 - counter]
            axes[counter] = dim + 1 if other is not None and dim >= other else dim
            add[counter] = more
        return _Cells(tuple(fixed), (axes[0], axes[1]), (add[0], add[1]))

    def _value(self, name: str) -> str:
        """Returns the name under which a cell has a value: a parameter, where it was read."""
        if name in self.named:
            return self._value(self.named[name])
        self._need(name not in (self.table, self.outer.params[1]))
        if name not in self.places:
            return name
        place = self.places[name]
        cells = self._cells(place)
        if place.base == self.table:
            return self._read(cells)
        if cells.axes == (None, None):
            return name
        key = (place.base, cells)
        if key not in self.reads.of_others:
            self.reads.of_others[key] = self.graph.new("Tensor", "read")
        return self.reads.of_others[key]

    def _read(self, cells: _Cells) -> str:
        """Returns a cell of the table that lies above and to the left, as a parameter."""
        self._need(cells.fixed == self.written.fixed and cells.axes == self.written.axes)
        least = [low for low, _ in self.known.bounds]
        self._need(all(low + more >= 0 for low, more in zip(least, cells.add, strict=True)))  # below 0 Python counts from the end
        away = (cells.add[0] - self.written.add[0], cells.add[1] - self.written.add[1])
        self._need(max(away) <= 0)
        if away not in self.reads.of_table:
            self.reads.of_table[away] = self.graph.new("Tensor", "cell")
        return self.reads.of_table[away]

    def _wave(self) -> Wave:
        row, column = (axis or 0 for axis in self.written.axes)  # `_written` saw to it that there are both
        leaves = tuple(Leaf(cells.axes, cells.add) for _, cells in self.reads.of_others)
        return Wave((row, column), self.written.add, tuple(self.reads.of_table), leaves)

    def _part(self, base: str, fixed: Sequence[tuple[int, str]], nodes: list[Node]) -> str:
        """Selects what does not change in the loops."""
        for dim, index in fixed:
            part = self.graph.new("Tensor", "part")
            nodes.append(Node("aten::select", [base, self.graph.constant(dim), index], [part], where=self.loop.where))
            base = part
        return base

    def _put_back(self, result: str) -> list[Node]:
        fixed = self.written.fixed
        if not fixed:
            return []
        places = [name for dim, index in fixed for name in (self.graph.constant(dim), index)]
        inputs = [self.loop.inputs[2], result, *places]
        return [Node("lift::put", inputs, [self.loop.outputs[0]], value=[("select", 2)] * len(fixed), where=self.loop.where)]

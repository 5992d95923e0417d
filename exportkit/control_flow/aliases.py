"""Which values are one object, and which are views of another."""

from dataclasses import dataclass

from exportkit.control_flow.graph import Block, Graph, Node

VIEWS = frozenset(
    {
        "select",
        "slice",
        "unsqueeze",
        "squeeze",
        "view",
        "transpose",
        "permute",
        "t",
        "detach",
        "alias",
        "narrow",
        "expand",
        "expand_as",
        "movedim",
        "diagonal",
    }
)  # fmt: skip - always views, which a write can be followed through; `reshape` and `contiguous` may be copies
LIST_WRITES = {
    "aten::append": "append",
    "aten::insert": "insert",
    "aten::reverse": "reverse",
    "aten::extend": "extend",
    "aten::add_": "extend",
    "aten::pop": "pop",
    "aten::clear": "clear",
    "aten::_set_item": "set_item",
}


@dataclass(frozen=True, slots=True)
class Use:
    """A node that reads a value; the end of a block that gives it on has the block's last position."""

    at: int
    node: Node | None
    loops: tuple[Node, ...]


class Aliases:
    """What is known of the values of a graph before its writes are taken out."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.same: dict[str, str] = {}
        self.views: dict[str, Node] = {}
        self.made: dict[str, Node] = {}
        self.home: dict[str, tuple[Block, ...]] = {}  # the blocks around a value's definition, outermost first
        self.span: dict[int, tuple[int, int]] = {}  # id of a node -> its own position, and that of its last inner node
        self.bound: dict[str, int] = {}  # the position from which on a name has its value
        self.loops: dict[int, tuple[Node, ...]] = {}  # id of a node -> the loops around it, outermost first
        self.uses: dict[str, list[Use]] = {}
        self._position = 0
        self._note(graph.block, (), ())
        _drop_unchanged(graph.block, self)

    def root(self, name: str) -> str:
        """Returns the value whose memory this one shares: itself where it has its own."""
        while name in self.same or name in self.views:
            name = self.same[name] if name in self.same else self.views[name].inputs[0]
        return name

    def thing(self, name: str) -> str:
        """Returns the value that is the very same object."""
        while name in self.same:
            name = self.same[name]
        return name

    def is_list(self, name: str) -> bool:
        return self.graph.types.get(name, "").startswith("List[")

    def is_write(self, node: Node) -> bool:
        if node.kind in LIST_WRITES and self.is_list(node.inputs[0]):
            return True
        return bool(node.arguments) and node.arguments[0].written

    def written(self, node: Node) -> list[str]:
        """Lists the roots that a node, or what lies in its blocks, writes in place."""
        inner = [one for block in node.blocks for one in block.walk()]
        return list(dict.fromkeys(self.root(one.inputs[0]) for one in [node, *inner] if self.is_write(one)))

    def _note(self, block: Block, around: tuple[Block, ...], loops: tuple[Node, ...]) -> None:
        around = (*around, block)
        self._position += 1
        for name in block.params:
            self.home[name], self.bound[name] = around, self._position
        for node in block.nodes:
            self._position += 1
            begin = self._position
            self.loops[id(node)] = loops
            for name in node.inputs:
                self.uses.setdefault(name, []).append(Use(begin, node, loops))
            self._note_outputs(node, around)
            for inner in node.blocks:
                self._note(inner, around, (*loops, node) if node.kind == "prim::Loop" else loops)
            self.span[id(node)] = (begin, self._position)
            self.bound.update(dict.fromkeys(node.outputs, self._position))
        self._position += 1
        for name in block.outputs:
            self.uses.setdefault(name, []).append(Use(self._position, None, loops))

    def _note_outputs(self, node: Node, around: tuple[Block, ...]) -> None:
        for name in node.outputs:
            self.home[name], self.made[name] = around, node
        seen = node.kind == "lift::at" or (node.kind.startswith("aten::") and node.operator in VIEWS)
        if seen and self.graph.types[node.outputs[0]] == "Tensor":
            self.views[node.outputs[0]] = node
        elif node.kind == "prim::unchecked_cast" or (self.is_write(node) and node.outputs and node.operator != "pop"):
            self.same[node.outputs[0]] = node.inputs[0]


def _drop_unchanged(block: Block, aliases: Aliases) -> None:
    """Takes out carried values and results of branches that are always the very object that went in (`h += x`)."""
    for node in block.nodes:
        for inner in node.blocks:
            _drop_unchanged(inner, aliases)
        for place in reversed(range(len(node.outputs))):
            if node.kind == "prim::Loop":
                _drop_carried(node, place, aliases)
            elif node.kind == "prim::If":
                _drop_result(node, place, aliases)


def _drop_carried(node: Node, place: int, aliases: Aliases) -> None:
    body = node.blocks[0]
    param = body.params[1 + place]
    if aliases.thing(body.outputs[1 + place]) == param:
        aliases.same[param] = aliases.same[node.outputs[place]] = node.inputs[2 + place]
        del node.outputs[place], body.params[1 + place], body.outputs[1 + place], node.inputs[2 + place]


def _drop_result(node: Node, place: int, aliases: Aliases) -> None:
    things = {aliases.thing(block.outputs[place]) for block in node.blocks}
    if len(things) == 1:
        thing = things.pop()
        if not any(block in aliases.home.get(thing, ()) for block in node.blocks):
            aliases.same[node.outputs[place]] = thing
            del node.outputs[place]
            for block in node.blocks:
                del block.outputs[place]

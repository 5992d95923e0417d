"""Which values are one object, which are views of another, and who else reads what an in-place write changes."""

from dataclasses import dataclass

from exportkit.control_flow.graph import Block, Graph, Node
from exportkit.errors import ExportError

VIEWS = frozenset({
    "select", "slice", "unsqueeze", "squeeze", "view", "reshape", "transpose", "permute", "t", "detach", "alias", "narrow", "expand",
    "expand_as", "movedim", "flatten", "diagonal",
})  # fmt: skip
MAYBE_SAME = frozenset(
    {
        "to",
        "contiguous",
        "float",
        "double",
        "half",
        "int",
        "long",
        "bool",
        "type_as",
        "type",
        "cpu",
    }
)  # fmt: skip - return their input where it fits already
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
_HOLDERS = ("prim::ListConstruct", "prim::TupleConstruct", "prim::DictConstruct")


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

    def refuse_shared(self) -> None:
        """Checks each write against everything else that may see it.

        Raises:
            ExportError: a write reaches an object that has a second owner which this analysis cannot follow.
        """
        for node in self.graph.block.walk():
            if self.is_write(node):
                self._check(node)

    def _check(self, write: Node) -> None:
        root = self.root(write.inputs[0])
        self._check_holders(root, write)
        self._check_origin(root, write, set())

    def _check_origin(self, root: str, write: Node, seen: set[str]) -> None:
        """Checks where a written object comes from: through loops and branches back to what made it."""
        if root in seen:
            return
        seen.add(root)
        maker = self.made.get(root)
        if root in self.graph.weights:
            text = f"writes into the module's {self.graph.weights[root]} in place"
            raise ExportError(text, where=write.where, todo="Return the new value, and pass it in as an input.")
        if maker is None:
            self._check_start(root, write, seen)
        elif maker.kind in ("aten::__getitem__", "prim::ListUnpack", "prim::TupleUnpack", "prim::TupleIndex") or "Dict" in maker.kind:
            raise _shared(write, "an element of a list or a tuple")
        elif maker.kind in ("prim::If", "prim::Loop") or maker.operator in MAYBE_SAME:
            for source in self._sources(maker, root):
                self._check_private(source, maker, write)
                self._check_origin(self.root(source), write, seen)

    def _sources(self, maker: Node, name: str) -> list[str]:
        """Lists the values that a result may be: those of the branches, of the last step, of the start."""
        place = maker.outputs.index(name)
        if maker.kind == "prim::If":
            return [block.outputs[place] for block in maker.blocks]
        return [maker.blocks[0].outputs[1 + place], maker.inputs[2 + place]] if maker.kind == "prim::Loop" else maker.inputs[:1]

    def _check_start(self, root: str, write: Node, seen: set[str]) -> None:
        """Checks a carried value that is written in place: in the first step that is the object it started from."""
        for loop in self.graph.block.walk():
            if loop.kind == "prim::Loop" and root in loop.blocks[0].params[1:]:
                start = loop.inputs[2 + loop.blocks[0].params[1:].index(root)]
                if any(loop is use.node for name in self._family(start) for use in self.uses.get(name, []) if name != start):
                    raise _shared(write, "a value that the loop starts from twice")
                if loop.inputs.count(start) > 1:
                    raise _shared(write, "a value that the loop starts from twice")
                self._check_private(start, loop, write)
                self._check_origin(self.root(start), write, seen)

    def _check_private(self, name: str, owner: Node, write: Node) -> None:
        """Checks that nothing but `owner` reads an object once `owner` has it."""
        begin, end = self.span[id(owner)]
        root = self.root(name)
        around = [loop for loop in self._loops(owner) if not any(block in self.home.get(root, ()) for block in loop.blocks)]
        for member in self._family(name):
            for use in self.uses.get(member, []):
                inside = begin < use.at <= end and not (use.node is None and member == name)
                if use.at > end or (inside and owner.kind == "prim::Loop" and self._outside(root, owner)):
                    raise _shared(write, "a tensor that is read under another name later")
                if use.at < begin and any(loop in use.loops for loop in around):
                    raise _shared(write, "a tensor that is read under another name in the next step")

    def _check_holders(self, root: str, write: Node) -> None:
        """Checks that no list or tuple that holds the object is read after the write."""
        at = self.span[id(write)][0]
        for member in self._family(root):
            for use in self.uses.get(member, []):
                if use.node is None or use.node is write:
                    continue
                if use.node.kind in LIST_WRITES and self.is_list(use.node.inputs[0]) and member in use.node.inputs[1:]:
                    holder = use.node.inputs[0]
                elif use.node.kind in _HOLDERS:
                    holder = use.node.outputs[0]
                else:
                    continue
                again = any(not any(block in self.home[root] for block in loop.blocks) for loop in use.loops) and self._shares_loop(
                    use, write
                )
                if (use.at < at or again) and any(later.at > at for one in self._family(holder) for later in self.uses.get(one, [])):
                    raise _shared(write, "a tensor that lies in a list or a tuple already")

    def _shares_loop(self, use: Use, write: Node) -> bool:
        return any(loop in self._loops(write) for loop in use.loops)

    def _outside(self, root: str, owner: Node) -> bool:
        return not any(block in self.home.get(root, ()) for block in owner.blocks)

    def _loops(self, node: Node) -> list[Node]:
        begin, end = self.span[id(node)]
        around = [one for one in self.graph.block.walk() if one.kind == "prim::Loop" and one is not node]
        return [one for one in around if self.span[id(one)][0] < begin and end <= self.span[id(one)][1]]

    def _family(self, name: str) -> list[str]:
        root = self.root(name)
        return [one for one in {*self.uses, name, root} if self.root(one) == root]

    def _note(self, block: Block, around: tuple[Block, ...], loops: tuple[Node, ...]) -> None:
        around = (*around, block)
        for name in block.params:
            self.home[name] = around
        for node in block.nodes:
            self._position += 1
            begin = self._position
            for name in node.inputs:
                self.uses.setdefault(name, []).append(Use(begin, node, loops))
            self._note_outputs(node, around)
            for inner in node.blocks:
                self._note(inner, around, (*loops, node) if node.kind == "prim::Loop" else loops)
            self.span[id(node)] = (begin, self._position)
        self._position += 1
        for name in block.outputs:
            self.uses.setdefault(name, []).append(Use(self._position, None, loops))

    def _note_outputs(self, node: Node, around: tuple[Block, ...]) -> None:
        for name in node.outputs:
            self.home[name], self.made[name] = around, node
        if node.kind.startswith("aten::") and node.operator in VIEWS and self.graph.types[node.outputs[0]] == "Tensor":
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


def _shared(write: Node, owner: str) -> ExportError:
    return ExportError(
        f"writes in place into {owner}",
        where=write.where,
        todo="Write `h = h + x` in place of `h += x`, or put `.clone()` before the write.",
    )

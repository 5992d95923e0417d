"""Who else reads what an in-place write changes.

Taking writes out of a program is right as long as what is written has one name: its views are made anew after each write. Another name
that may hold the same memory (through a branch, a loop's start, a list) would go on holding what stood there before; where such a name
is read after a write, the write is refused.
"""

from collections.abc import Iterator

from exportkit.control_flow.aliases import LIST_WRITES, Aliases, Use
from exportkit.control_flow.graph import Node
from exportkit.errors import ExportError

_ELEMENTS = ("aten::__getitem__", "prim::ListUnpack", "prim::TupleUnpack", "prim::TupleIndex", "aten::pop")
_CONTAINERS = ("List[", "Tuple[", "Dict[")
# These read a tensor's shape and type, which no write changes.
_SHAPES = frozenset({
    "size", "dim", "numel", "dtype", "device", "layout", "len", "zeros_like", "ones_like", "full_like", "empty_like", "rand_like",
    "randn_like", "new_zeros", "new_ones", "new_full", "new_empty", "whole", "through",
})  # fmt: skip


def refuse_shared_writes(aliases: Aliases) -> None:
    """Checks each write against every other name that may see it.

    Raises:
        ExportError: one is read after the write; names the line of the write.
    """
    sharing = _Sharing(aliases)
    for node in aliases.graph.block.walk():
        if aliases.is_write(node):
            sharing.check(node)


class _Sharing:
    """Answers which names may share memory. Names are those of roots: views follow theirs."""

    def __init__(self, aliases: Aliases) -> None:
        self.aliases = aliases
        self.params = {
            name: (loop, place)
            for loop in aliases.graph.block.walk()
            if loop.kind == "prim::Loop"
            for place, name in enumerate(loop.blocks[0].params[1:])
        }
        self._found: dict[str, list[str]] = {}
        self.families: dict[str, list[str]] = {}
        for name in [*aliases.bound, *aliases.graph.weights]:
            self.families.setdefault(aliases.root(name), []).append(name)
        self.held = [held for node in aliases.graph.block.walk() for held in self._held_by(node)]

    def check(self, write: Node) -> None:
        root, at = self.aliases.root(write.inputs[0]), self.aliases.span[id(write)][0]
        self._check_origin(root, write)
        puts = [one for one in self.held if one[2] is not write and self._reaches(one, root, write)]
        for name in self.families:
            if name == root or self.aliases.bound.get(name, 0) >= at or not self._is_read_later(name, write):
                continue
            if self._is_container(name) and any(self._may_share(container, name) for container, _, _ in puts):
                raise _shared(write, "a tensor that lies in a list or a tuple already")
            if self._may_share(name, root):
                raise _shared(write, "a tensor that is read under another name later")

    def _check_origin(self, root: str, write: Node) -> None:
        for name in self._origins(root):
            maker = self.aliases.made.get(name)
            if name in self.aliases.graph.weights:
                text = f"writes into the module's {self.aliases.graph.weights[name]} in place"
                raise ExportError(text, where=write.where, todo="Return the new value, and pass it in as an input.")
            if maker is not None and (maker.kind in _ELEMENTS or "Dict" in maker.kind):
                raise _shared(write, "an element of a list or a tuple")

    def _reaches(self, held: tuple[str, str, Node], root: str, write: Node) -> bool:
        """Says whether what was put into a container may be what is written: put before, or in an earlier step of a loop around both."""
        _, element, put = held
        if self.aliases.span[id(put)][0] < self.aliases.span[id(write)][0] and self._may_share(element, root):
            return True
        both = [loop for loop in self.aliases.loops[id(put)] if loop in self.aliases.loops[id(write)]]
        return any(self._lasts(root, loop) for loop in both) and not set(self._origins(root)).isdisjoint(self._origins(element))

    def _lasts(self, name: str, loop: Node) -> bool:
        """Says whether a value may be an object of an earlier step of a loop."""
        return any(origin in loop.blocks[0].params or not self._lies_in(origin, loop) for origin in self._origins(name))

    def _lies_in(self, name: str, loop: Node) -> bool:
        return any(block in self.aliases.home.get(name, ()) for block in loop.blocks)

    def _is_read_later(self, root: str, write: Node) -> bool:
        begin, end = self.aliases.span[id(write)][0], self.aliases.span[id(write)][1]
        for name in self.families[root]:
            for use in self.aliases.uses.get(name, []):
                if use.node is write or (use.node is not None and use.node.operator in _SHAPES):
                    continue
                if use.at > end or (use.at != begin and self._comes_again(root, use, write)):
                    return True
        return False

    def _comes_again(self, root: str, use: Use, write: Node) -> bool:
        """Says whether a use follows a write in the next step of a loop that the value comes from outside of."""
        return any(loop in self.aliases.loops[id(write)] and not self._lies_in(root, loop) for loop in use.loops)

    def _may_share(self, one: str, other: str) -> bool:
        """Says whether two values may be one object, at a time when both are there: the later one is followed back to what it came from."""
        waiting, seen = [(one, other)], set()
        while waiting:
            a, b = map(self.aliases.root, waiting.pop())
            if self._is_nothing(a) or self._is_nothing(b):
                continue
            if a == b:
                return True
            if (a, b) not in seen:
                seen |= {(a, b), (b, a)}
                waiting += self._pairs(a, b)
        return False

    def _is_nothing(self, name: str) -> bool:
        """Says whether a name stands for a variable without a value."""
        maker = self.aliases.made.get(name)
        return maker is not None and maker.kind == "prim::Uninitialized"

    def _pairs(self, a: str, b: str) -> list[tuple[str, str]]:
        if self.aliases.bound.get(a, 0) < self.aliases.bound.get(b, 0):
            a, b = b, a
        if self._owner(a) is not None and self._owner(a) == self._owner(b):  # of one loop or branch: each step gives both
            return list(zip(self._sources(a), self._sources(b), strict=True))
        return [(source, b) for source in self._sources(a)]

    def _owner(self, name: str) -> tuple[int, bool] | None:
        """Returns what binds a value together with others: a loop's start, or the end of a loop or branch."""
        if name in self.params:
            return id(self.params[name][0]), True
        maker = self.aliases.made.get(name)
        return (id(maker), False) if maker is not None and maker.blocks else None

    def _sources(self, name: str) -> list[str]:
        """Lists what a value may be under another name."""
        if name in self.params:
            loop, place = self.params[name]
            return [loop.inputs[2 + place], loop.blocks[0].outputs[1 + place]]
        maker = self.aliases.made.get(name)
        if maker is None:
            return []
        if maker.kind == "prim::If":
            return [block.outputs[maker.outputs.index(name)] for block in maker.blocks]
        if maker.kind == "prim::Loop":
            place = maker.outputs.index(name)
            return [maker.inputs[2 + place], maker.blocks[0].outputs[1 + place]]
        if maker.kind in _ELEMENTS:
            return self._elements(name, maker.inputs[0])
        return [given for given, argument in zip(maker.inputs, maker.arguments, strict=False) if argument.shared]

    def _elements(self, name: str, taken_from: str) -> list[str]:
        """Lists what may be taken out of a container; lists of lists lead here again, and find the same elements."""
        if name not in self._found:
            self._found[name] = []
            self._found[name] = [element for container, element, _ in self.held if self._may_share(container, taken_from)]
        return self._found[name]

    def _origins(self, name: str) -> list[str]:
        """Lists every value that a value may be, itself included."""
        found: dict[str, None] = {}
        waiting = [name]
        while waiting:
            root = self.aliases.root(waiting.pop())
            if root not in found:
                found[root] = None
                waiting += self._sources(root)
        return list(found)

    def _held_by(self, node: Node) -> Iterator[tuple[str, str, Node]]:
        """Yields (container, what it holds from now on, node)."""
        if node.kind in LIST_WRITES and self.aliases.is_list(node.inputs[0]):
            yield from ((node.inputs[0], name, node) for name in node.inputs[1:] if self._has_memory(name))
        elif node.outputs and self._holds_memory(node.outputs[0]) and not node.blocks and node.kind not in _ELEMENTS:
            yield from ((node.outputs[0], name, node) for name in node.inputs if self._has_memory(name))

    def _has_memory(self, name: str) -> bool:
        kind = self.aliases.graph.types.get(name, "")
        return "Tensor" in kind or self._is_container(name)

    def _holds_memory(self, name: str) -> bool:
        kind = self.aliases.graph.types.get(name, "")
        return self._is_container(name) and ("Tensor" in kind or kind.count("[") > 1)  # a list of numbers holds no tensor

    def _is_container(self, name: str) -> bool:
        return self.aliases.graph.types.get(name, "").removeprefix("Optional[").startswith(_CONTAINERS)


def _shared(write: Node, owner: str) -> ExportError:
    return ExportError(
        f"writes in place into {owner}",
        where=write.where,
        todo="Write `h = h + x` in place of `h += x`, or put `.clone()` before the write.",
    )

"""Takes in-place writes out of a graph: what is written becomes a new value, and loops and branches carry it.

Afterwards `lift::put` writes into a copy, `lift::append` and its like give a new list, and views are made anew after each write.
"""

from dataclasses import dataclass

from exportkit.control_flow.aliases import LIST_WRITES, Aliases
from exportkit.control_flow.graph import Block, Graph, Node
from exportkit.control_flow.sharing import refuse_shared_writes
from exportkit.errors import ExportError

_RANDOM = ("normal_", "uniform_", "bernoulli_", "exponential_", "random_", "geometric_", "log_normal_", "cauchy_", "resize_", "set_")


@dataclass(frozen=True, slots=True)
class Effects:
    """What a graph did besides to compute its results.

    Attributes:
        last: inputs that it wrote into -> what they hold at the end.
        same: for each result the input that it is; "" for any other.
        shown: results that are views of an input.
    """

    last: dict[str, str]
    same: list[str]
    shown: list[str]


def functionalise(graph: Graph) -> Effects:
    """Rewrites a graph, in place, into one without writes.

    Raises:
        ExportError: a write reaches what cannot be followed; names the user's line.
    """
    aliases = Aliases(graph)
    refuse_shared_writes(aliases)
    results = [part for name in graph.block.outputs for part in _parts(aliases, name)]
    own = [aliases.thing(name) if aliases.thing(name) in graph.block.params else "" for name in results]
    shown = [name for name, same in zip(results, own, strict=True) if not same and aliases.root(name) in graph.block.params]
    last: dict[str, str] = {}
    _Rewriter(graph, aliases).block(graph.block, last)
    return Effects({name: last[name] for name in graph.block.params if name in last}, own, shown)


def _parts(aliases: Aliases, name: str) -> list[str]:
    maker = aliases.made.get(name)
    return maker.inputs if maker is not None and maker.kind == "prim::TupleConstruct" else [name]


class _Rewriter:
    """Keeps, along the program, the newest version of each written root, and of each view of it."""

    def __init__(self, graph: Graph, aliases: Aliases) -> None:
        self.graph, self.aliases = graph, aliases
        self._bases = {name: node.inputs[0] for name, node in aliases.views.items()}  # as they stood before the rewriting
        self._seen: dict[str, str] = {}  # view -> the version of its base that it was made from
        self._inner = {id(node): aliases.written(node) for node in graph.block.walk() if node.blocks}
        self._targets = {
            id(node): (self._chain(node), aliases.root(node.inputs[0])) for node in graph.block.walk() if aliases.is_write(node)
        }

    def block(self, block: Block, current: dict[str, str]) -> None:
        old, block.nodes = block.nodes, []
        for node in old:
            if self.aliases.is_write(node):
                self._write(node, block.nodes, current)
            elif node.blocks:
                self._control(node, block, current)
            else:
                self._read(node, block.nodes, current)
        block.outputs = [self._newest(name, block.nodes, current) for name in block.outputs]

    def _read(self, node: Node, out: list[Node], current: dict[str, str]) -> None:
        node.inputs = [self._newest(name, out, current) for name in node.inputs]
        if node.kind == "prim::unchecked_cast":
            return
        if node.outputs and node.outputs[0] in self._bases:
            self._seen[node.outputs[0]] = node.inputs[0]
        out.append(node)

    def _newest(self, name: str, out: list[Node], current: dict[str, str]) -> str:
        """Returns the value that a name stands for now; a view of what was written since is made anew."""
        if name in self.aliases.same:
            return self._newest(self.aliases.same[name], out, current)
        if name not in self._bases or name not in self._seen:
            return current.get(name, name)
        base = self._newest(self._bases[name], out, current)
        if base == self._seen[name]:
            return name
        key = f"{name} of {base}"
        if key not in current:
            view = self.aliases.views[name]
            current[key] = self.graph.new("Tensor", name)
            inputs = [base, *(self._newest(one, out, current) for one in view.inputs[1:])]
            out.append(Node(view.kind, inputs, [current[key]], arguments=view.arguments, where=view.where))
        return current[key]

    def _write(self, node: Node, out: list[Node], current: dict[str, str]) -> None:
        chain, root = self._targets[id(node)]
        if node.kind in LIST_WRITES and self.aliases.is_list(node.inputs[0]):
            self._write_list(node, root, out, current)
            return
        value = self._written_value(node, out, current)
        path = [(view.operator, [self._newest(one, out, current) for one in view.inputs[1:]]) for view in chain]
        base = current.get(root, root)
        new = self.graph.new("Tensor", root)
        inputs = [base, value, *(one for _, rest in path for one in rest)]
        out.append(Node("lift::put", inputs, [new], value=[(operator, len(rest)) for operator, rest in path], where=node.where))
        current[root] = new

    def _written_value(self, node: Node, out: list[Node], current: dict[str, str]) -> str:
        """Computes what is written: `x.add_(y)` writes `x + y`."""
        if node.operator in _RANDOM:
            raise ExportError(f"calls {node.operator} in place", where=node.where, todo="Make the values outside of the network.")
        if node.operator in ("copy_", "fill_"):
            return self._newest(node.inputs[1], out, current)
        if node.operator == "zero_":
            return self.graph.constant(0)
        value = self.graph.new("Tensor", node.inputs[0])
        inputs = [self._newest(one, out, current) for one in node.inputs]
        out.append(Node(node.kind[:-1], inputs, [value], arguments=node.arguments, where=node.where))
        return value

    def _write_list(self, node: Node, root: str, out: list[Node], current: dict[str, str]) -> None:
        name = LIST_WRITES[node.kind]
        inputs = [self._newest(one, out, current) for one in node.inputs]
        new = self.graph.new(self.graph.types[root], root)
        out.append(Node(f"lift::{name}", inputs, [new, *node.outputs] if name == "pop" else [new], where=node.where))
        current[root] = new

    def _chain(self, node: Node) -> list[Node]:
        """Lists the views between a written value and its root, outermost first."""
        name = node.inputs[0]
        chain: list[Node] = []
        while name in self.aliases.same or name in self.aliases.views:
            if name in self.aliases.same:
                name = self.aliases.same[name]
            else:
                chain.insert(0, self.aliases.views[name])
                name = self.aliases.views[name].inputs[0]
        return chain

    def _control(self, node: Node, block: Block, current: dict[str, str]) -> None:
        """Carries through a loop, or out of a branch, what is written inside and lives outside."""
        out = block.nodes
        node.inputs = [self._newest(name, out, current) for name in node.inputs]
        roots = [one for one in self._inner[id(node)] if not any(inner in self.aliases.home.get(one, ()) for inner in node.blocks)]
        loop = node.kind == "prim::Loop"
        for inner in node.blocks:
            versions = dict(current)
            if loop:
                versions |= self._carry(inner, roots)
            self.block(inner, versions)
            inner.outputs += [versions.get(root, root) for root in roots]
        if loop:
            node.inputs += [current.get(root, root) for root in roots]
        for root in roots:
            new = self.graph.new(self.graph.types[root], root)
            node.outputs.append(new)
            current[root] = new
        out.append(node)

    def _carry(self, body: Block, roots: list[str]) -> dict[str, str]:
        params = {root: self.graph.new(self.graph.types[root], root) for root in roots}
        body.params += params.values()
        return params

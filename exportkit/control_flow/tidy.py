"""Passes over a graph: sizes are read directly; without writes, what nothing reads goes, what no step changes leaves its loop."""

from exportkit.control_flow.graph import Block, Graph, Node

# What may raise, or draw numbers, stays where it is: the loop may take no step at all.
_STAYS = frozenset({
    "select", "index", "gather", "embedding", "narrow", "item", "Bool", "Int", "Float", "__getitem__", "index_select", "slice",
    "dropout", "rand", "randn", "rand_like", "randn_like", "take", "randint", "bernoulli", "multinomial", "normal", "warn",
    "stack", "cat", "tensor", "unbind", "split", "chunk",
})  # fmt: skip
_COUNTS = ("size", "__range_length", "add", "sub", "mul", "neg")  # of ints, which raise nothing and cost nothing
_EFFECTS = ("prim::RaiseException", "prim::Print", "aten::warn")


OUTSIDE = "outside"  # of the branch that asks whether the tensor has the axis whose size this is


def tidy(graph: Graph) -> None:
    """Rewrites a graph, in place, into a shorter one that computes the same."""
    sweep(graph)
    _leave_loops(graph, graph.block, set(graph.block.params) | graph.weights.keys())
    _merge_reads(graph, graph.block)
    sweep(graph)


def sweep(graph: Graph) -> None:
    """Removes, in place, what nothing reads."""
    while _sweep(graph.block):
        pass


def read_sizes(graph: Graph) -> None:
    """Turns `x.size()[1]` into `x.size(1)`."""
    made = graph.definitions()
    for node in graph.block.walk():
        source = made.get(node.inputs[0]) if node.kind == "aten::__getitem__" else None
        if source is not None and source.kind == "aten::size" and len(source.inputs) == 1 and node.inputs[1] in graph.constants:
            node.kind, node.arguments = "aten::size", ()
            node.inputs = [source.inputs[0], node.inputs[1]]


def _sweep(block: Block) -> bool:
    """Removes nodes whose results nothing reads; returns whether there were any."""
    read = {name for node in block.walk() for name in node.inputs} | set(block.outputs)
    read |= {name for node in block.walk() for inner in node.blocks for name in inner.outputs}
    return _sweep_nodes(block, read)


def _sweep_nodes(block: Block, read: set[str]) -> bool:
    kept = [node for node in block.nodes if _has_effect(node) or any(name in read for name in node.outputs)]
    changed = len(kept) != len(block.nodes)
    block.nodes = kept
    for node in kept:
        for inner in node.blocks:
            changed |= _sweep_nodes(inner, read)
        if node.kind == "prim::If":
            changed |= _drop_results(node, read)
    return changed


def _drop_results(node: Node, read: set[str]) -> bool:
    dead = [place for place, name in enumerate(node.outputs) if name not in read]
    for place in reversed(dead):
        del node.outputs[place]
        for inner in node.blocks:
            del inner.outputs[place]
    return bool(dead)


def _has_effect(node: Node) -> bool:
    return node.kind in _EFFECTS or any(_has_effect(one) for inner in node.blocks for one in inner.nodes)


def _leave_loops(graph: Graph, block: Block, known: set[str], *, inside: bool = False) -> None:
    """Moves what depends on nothing in a loop's body in front of the loop."""
    known = known | set(block.params) | graph.constants.keys()
    nodes: list[Node] = []
    for node in block.nodes:
        for inner in node.blocks:
            _leave_loops(graph, inner, known, inside=inside or node.kind == "prim::Loop")
        if node.kind == "prim::Loop":
            nodes += _moved(graph, node.blocks[0], known, inside=inside)
        for inner in node.blocks if node.kind == "prim::If" else ():
            nodes += _moved_counts(graph, inner, known)
        nodes.append(node)
        known |= {name for one in nodes for name in one.outputs}
    block.nodes = nodes


def _moved_counts(graph: Graph, branch: Block, known: set[str]) -> list[Node]:
    """Takes the arithmetic of sizes out of a branch, so that the loops around it may know how long the loops inside are."""
    free, moved = set(known), []
    for node in branch.nodes:
        counts = node.operator in _COUNTS and all(graph.types[name] == "int" for name in node.outputs)
        if counts and all(name in free for name in node.inputs):
            node.value = OUTSIDE if node.operator == "size" else node.value
            moved.append(node)
            free |= set(node.outputs)
    branch.nodes = [node for node in branch.nodes if node not in moved]
    return moved


def _moved(graph: Graph, body: Block, known: set[str], *, inside: bool) -> list[Node]:
    free, moved = set(known), []
    for node in body.nodes:
        pure = node.kind.startswith(("aten::", "prim::dtype", "prim::device")) and node.operator not in _STAYS and not node.blocks
        row = inside and node.kind == "aten::select" and node.inputs[2] not in graph.constants  # of the loop around, at its step
        if (pure or row) and all(name in free for name in node.inputs):
            moved.append(node)
            free |= set(node.outputs)
    body.nodes = [node for node in body.nodes if node not in moved]
    return moved


def _merge_reads(graph: Graph, block: Block) -> None:
    """Turns `dp[i][j]` into one read of an element, `lift::element`."""
    made = {name: node for node in block.nodes for name in node.outputs}
    for node in block.nodes:
        for inner in node.blocks:
            _merge_reads(graph, inner)
        first = made.get(node.inputs[0]) if node.kind == "aten::select" and graph.constants.get(node.inputs[1]) == 0 else None
        if first is None or not (first.kind == "lift::element" or _is_first_select(graph, first)):
            continue
        outer = first.inputs[2:] if first.kind == "aten::select" else first.inputs[1:]
        node.kind, node.arguments = "lift::element", ()
        node.inputs = [first.inputs[0], *outer, node.inputs[2]]


def _is_first_select(graph: Graph, node: Node) -> bool:
    return node.kind == "aten::select" and graph.constants.get(node.inputs[1]) == 0

"""Views that a loop carries, and slices with a computed step, as places (places.py): numbers, beside the tensor that they show.

`a = a[:, 1::2]` in a loop is a view of one tensor, and another in each step. Carried as a place, it is a view of that tensor at computed
indices like any other, which writes can be followed through.
"""

from exportkit.control_flow.graph import Block, Graph, Node, is_endless

_NARROWS = ("aten::select", "aten::slice", "aten::narrow")
_VIEWS = (*_NARROWS, "aten::view")


def place_views(graph: Graph) -> None:
    """Rewrites a graph, in place: such views are read by `lift::at`, at a place that `lift::through` follows view by view."""
    _carry(graph, graph.block)
    _place_slices(graph, graph.block)


def compose(graph: Graph) -> None:
    """Reads a view of what is read at a place directly, at a place of its own. For a graph without writes."""
    _compose(graph, graph.block, {})


def _carry(graph: Graph, block: Block) -> None:
    nodes: list[Node] = []
    for node in block.nodes:
        for inner in node.blocks:
            _carry(graph, inner)
        after: list[Node] = []
        for place in range(len(node.outputs)) if node.kind == "prim::Loop" and _needs_places(graph, node) else ():
            chain = _chain(graph, node.blocks[0], place)
            if chain:
                before, behind = _as_place(graph, node, place, chain)
                nodes.append(before)
                after.append(behind)
        nodes += [node, *after]
    block.nodes = nodes


def _needs_places(graph: Graph, loop: Node) -> bool:
    """Says whether a loop has more or fewer steps, or writes: else it is written out, and its views are what they are."""
    writes = any(node.arguments and node.arguments[0].written for node in loop.blocks[0].walk())
    return writes or loop.inputs[0] not in graph.constants or is_endless(graph.constants[loop.inputs[0]])


def _chain(graph: Graph, body: Block, place: int) -> list[Node]:
    """Lists the views from a carried tensor to what it is in the next step; () where that is none of its parts."""
    param, name = body.params[1 + place], body.outputs[1 + place]
    made = {output: node for node in body.nodes for output in node.outputs}
    chain: list[Node] = []
    while name != param:
        node = made.get(name)
        if node is None or graph.types[name] != "Tensor":
            return []
        if node.kind in _VIEWS:
            chain.insert(0, node)
        elif not (node.arguments and node.arguments[0].written):  # what is written in place is the same object
            return []
        name = node.inputs[0]
    return chain if any(node.kind in _NARROWS for node in chain) else []


def _as_place(graph: Graph, loop: Node, place: int, chain: list[Node]) -> tuple[Node, Node]:
    body, base, where = loop.blocks[0], loop.inputs[2 + place], loop.where
    param, result = body.params[1 + place], loop.outputs[place]
    start, held, last = (graph.new("Place", param) for _ in range(3))
    before = Node("lift::whole", [base], [start], where=where)
    loop.inputs[2 + place], body.params[1 + place], loop.outputs[place] = start, held, last
    body.nodes.insert(0, Node("lift::at", [base, held], [param], where=where))
    for view in chain:
        body.nodes.append(_through(graph, base, held, view))
        held = body.nodes[-1].outputs[0]
    body.outputs[1 + place] = held
    return before, Node("lift::at", [base, last], [result], where=where)


def _through(graph: Graph, base: str, place: str, view: Node) -> Node:
    new = graph.new("Place", place)
    return Node("lift::through", [base, place, *view.inputs[1:]], [new], value=view.operator, where=view.where)


def _place_slices(graph: Graph, block: Block) -> None:
    nodes: list[Node] = []
    for node in block.nodes:
        for inner in node.blocks:
            _place_slices(graph, inner)
        if node.kind == "aten::slice" and graph.types[node.outputs[0]] == "Tensor" and node.inputs[4] not in graph.constants:
            base, start = node.inputs[0], graph.new("Place", node.outputs[0])
            nodes.append(Node("lift::whole", [base], [start], where=node.where))
            nodes.append(_through(graph, base, start, node))
            nodes.append(Node("lift::at", [base, nodes[-1].outputs[0]], node.outputs, where=node.where))
        else:
            nodes.append(node)
    block.nodes = nodes


def _compose(graph: Graph, block: Block, places: dict[str, Node]) -> None:
    nodes: list[Node] = []
    for node in block.nodes:
        for inner in node.blocks:
            _compose(graph, inner, places)
        read = places.get(node.inputs[0]) if node.kind in _VIEWS else None
        if read is not None:
            base, place = read.inputs
            nodes.append(_through(graph, base, place, node))
            node = Node("lift::at", [base, nodes[-1].outputs[0]], node.outputs, where=node.where)  # noqa: PLW2901 - in its place
        if node.kind == "lift::at":
            places[node.outputs[0]] = node
        nodes.append(node)
    block.nodes = nodes

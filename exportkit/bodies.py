"""Bodies of loops and branches in ONNX, rewritten so that a step costs onnxruntime less: it computes so little that each node counts."""

import onnx_ir as ir

_SMALL = 16  # elements of a weight of which each body gets a copy
# Operators of sizes, and what is asked of sizes. Of fixed shapes none stops, whatever the numbers are: a loop of no step may run them.
_OF_SIZES = {"Shape", "Reshape", "Unsqueeze", "Squeeze", "Concat", "Cast", "Add", "Sub", "Mul", "Greater", "Less", "Equal", "Not", "And"}


def make_cheap(graph: ir.Graph, *, shaped: bool) -> None:
    """Rewrites the bodies in a graph, in place.

    Args:
        shaped: the shapes of its values hold at every size, and its opset is 18 or later: torch's older exporter writes the example's.
    """
    _drop_unread_rows(graph)
    if shaped:
        _stack_at_once(graph)
    _compute_once(graph)
    _store_weights(graph)


def _drop_unread_rows(graph: ir.Graph) -> None:
    """Drops what a Scan cuts into rows that its body never reads, as the step's number: each costs a tensor a step."""
    for node in list(graph.all_nodes()):
        if node.op_type != "Scan":
            continue
        body, count = node.attributes["body"].as_graph(), node.attributes["num_scan_inputs"].as_int()
        held = len(node.inputs) - count
        unread = [place for place, row in enumerate(body.inputs[held:]) if not row.uses() and not row.is_graph_output()]
        unread = unread[len(unread) == count :]  # one has to tell how many steps there are
        for name in ("scan_input_axes", "scan_input_directions"):
            if given := node.attributes.get(name):
                kept = [one for place, one in enumerate(given.as_ints()) if place not in unread]
                node.attributes[name] = ir.AttrInt64s(name, kept)
        values = [value for place, value in enumerate(node.inputs) if place - held not in unread]
        for place, value in enumerate(values):
            node.replace_input_with(place, value)
        node.resize_inputs(len(values))
        body.inputs[:] = [row for place, row in enumerate(body.inputs) if place - held not in unread]
        node.attributes["num_scan_inputs"] = ir.AttrInt64("num_scan_inputs", count - len(unread))


def _compute_once(graph: ir.Graph) -> None:
    """Moves sizes that a body computes of values from outside in front of its loop: a step costs less, on CUDA a copy to the host less."""
    moved = 0
    for loop in list(graph.all_nodes()):
        if loop.op_type not in ("Scan", "Loop") or loop.graph is None:
            continue
        body = loop.attributes["body"].as_graph()
        # A state of a Scan keeps its shape from step to step, so that the shape of the first one tells it.
        states = body.inputs[: -loop.attributes["num_scan_inputs"].as_int()] if loop.op_type == "Scan" else []
        for node in [one for one in body if one.op_type in _OF_SIZES and _is_small(one)]:
            if node.op_type == "Shape" and (place := next((n for n, one in enumerate(states) if one is node.inputs[0]), None)) is not None:
                node.replace_input_with(0, loop.inputs[place])
            if not any(_is_of(body, one) for one in node.inputs if one is not None):
                body.remove(node)
                value = node.outputs[0]
                moved += 1  # other bodies may have the same names
                node.name, value.name = f"{node.name}.once.{moved}", f"exportkit.once.{moved}"
                loop.graph.insert_before(loop, node)


def _is_small(node: ir.Node) -> bool:
    """Says whether a node gives a size, a shape, or what is asked of sizes, and only to other nodes."""
    value = node.outputs[0]
    if value.dtype not in (ir.DataType.INT64, ir.DataType.BOOL) or value.shape is None or value.is_graph_output():
        return False
    if node.op_type == "Reshape" and (node.inputs[1] is None or node.inputs[1].const_value is None):
        return False
    known = node.op_type == "Shape" or all(one is None or (one.shape is not None and one.shape.is_static()) for one in node.inputs)
    return known and value.shape.rank() < 2  # noqa: PLR2004 - a number, or a row of them


def _is_of(body: ir.Graph, value: ir.Value) -> bool:
    made = value.producer()
    return made.graph is body if made else value.graph is body


def _stack_at_once(graph: ir.Graph) -> None:
    """Stacks by a Concat and a Reshape, in place of an Unsqueeze for each tensor, where the sizes of the result are an input's."""
    axes = [(value, axis) for value in graph.inputs for axis in range(value.shape.rank() if value.shape else 0)]
    places = {str(value.shape[axis]): (value, axis) for value, axis in axes if value.shape and not isinstance(value.shape[axis], int)}
    shapes: dict[tuple[str, ...], ir.Value] = {}
    for body in [one for one in graph.subgraphs() if one is not graph]:
        for node in [one for one in body if one.op_type == "Concat"]:
            [old] = node.outputs
            unsqueezed = _unsqueezed(node)
            if not unsqueezed or old.shape is None or not all(isinstance(size, int) or str(size) in places for size in old.shape):
                continue
            key = tuple(map(str, old.shape))
            if key not in shapes:
                shapes[key] = _vector(graph, [size if isinstance(size, int) else places[str(size)] for size in old.shape])
            joined, stacked = ir.Value(name=f"{old.name}.joined"), ir.Value(name=old.name, shape=old.shape, type=old.type)
            parts = [one.inputs[0] for one in unsqueezed]
            new = [
                ir.node("Concat", parts, node.attributes, outputs=[joined]),
                ir.node("Reshape", [joined, shapes[key]], {"allowzero": 1}, outputs=[stacked]),
            ]
            for one in new:
                one.metadata_props.update(node.metadata_props)
            ir.convenience.replace_nodes_and_values(body, node, [node, *dict.fromkeys(unsqueezed)], new, [old], [stacked])


def _unsqueezed(node: ir.Node) -> list[ir.Node]:
    """Returns what makes the tensors that a Concat stacks in front of one of their axes; none where something else reads one of them."""
    axis, shape, found = node.attributes["axis"].as_int(), node.outputs[0].shape, []
    if shape is None or not 0 <= axis < shape.rank() - 1:
        return []
    for value in node.inputs:
        made = value.producer() if value is not None else None
        if value is None or made is None or made.op_type != "Unsqueeze" or made.graph is not node.graph:
            return []
        if value.is_graph_output() or {use.node for use in value.uses()} != {node}:
            return []
        axes = made.inputs[1].const_value if made.inputs[1] is not None else None
        if axes is None or axes.numpy().tolist() != [axis]:
            return []
        found.append(made)
    return found


def _vector(graph: ir.Graph, sizes: list[int | tuple[ir.Value, int]]) -> ir.Value:
    """Writes a shape, int64[rank], in front of a graph's nodes; a size is a number, or an axis of an input."""
    name = f"exportkit.shape.{graph.num_nodes()}"
    pieces, nodes = [], []
    for at, size in enumerate(sizes):
        piece = ir.Value(name=f"{name}.{at}")
        if isinstance(size, int):
            piece.const_value = ir.tensor([size], ir.DataType.INT64)
            graph.register_initializer(piece)
        else:
            value, axis = size
            nodes.append(ir.node("Shape", [value], {"start": axis, "end": axis + 1}, outputs=[piece]))
        pieces.append(piece)
    vector = ir.Value(name=name)
    nodes.append(ir.node("Concat", pieces, {"axis": 0}, outputs=[vector]))
    graph.insert_before(graph[0], nodes)
    return vector


def _store_weights(graph: ir.Graph) -> None:
    """Moves weights into the loop or branch that alone reads them, and copies small ones into each.

    onnxruntime packs a matrix for its products only where it is stored, and hands a body all that it reads from outside at each step.
    """
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        readers = list({id(use.node.graph): use.node.graph for use in value.uses()}.values())
        bodies = [one for one in readers if isinstance(one, ir.Graph) and one is not graph]
        if value.is_graph_output() or tensor is None:
            continue
        if len(bodies) == len(readers) == 1:
            del graph.initializers[name]
            bodies[0].register_initializer(value)
        elif tensor.size <= _SMALL:
            for number, body in enumerate(bodies):
                copied = ir.Value(name=f"exportkit.{name}.{number}", shape=value.shape, type=value.type, const_value=tensor)
                body.register_initializer(copied)
                for use in [one for one in value.uses() if one.node.graph is body]:
                    use.node.replace_input_with(use.idx, copied)
            if not value.uses():
                del graph.initializers[name]

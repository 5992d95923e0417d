"""bfloat16 in ONNX for onnxruntime's CPU provider, which moves such values and computes with none: computed in float32, then rounded.

Eager PyTorch computes in float32, too, and rounds what an operator gives; so the nodes of one operator hand on what is not rounded yet.
"""

import onnx_ir as ir

# What onnxruntime's CPU provider does with bfloat16 as it is.
MOVES = {
    "Cast", "CastLike", "Concat", "Constant", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "If", "Loop", "Reshape",
    "Scan", "ScatterElements", "ScatterND", "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
_OPERATOR = "pkg.torch.onnx.fx_node"  # torch's exporter: the operator of which a node is part


def compute_in_float32(graph: ir.Graph) -> None:
    """Rewrites what computes with bfloat16 in a graph and its bodies, in place; inputs, outputs and weights keep their type."""
    wide: dict[ir.Value, ir.Value] = {}  # a rounded value -> the same before
    casts: dict[ir.Value, ir.Value] = {}  # a bfloat16 value -> the same as float32
    for node in list(graph.all_nodes()):
        if _moves(node) or node.domain or not any(map(_is_narrow, (*node.inputs, *node.outputs))):
            continue
        for place, value in enumerate(node.inputs):
            if value is None or not _is_narrow(value):
                continue
            before = wide.get(value)
            if before is None or not _are_of_one_operator(before.producer(), node):
                if value not in casts:
                    casts[value] = _cast(value, ir.DataType.FLOAT, f"{value.name}.float32")
                before = casts[value]
            node.replace_input_with(place, before)
        for name in ("dtype", "value"):
            _widen_attribute(node, name)
        for value in node.outputs:
            untyped = value.dtype is None and bool(value.uses())  # as torch's exporter leaves an LSTM's: it is that of what is read
            if _is_narrow(value) or untyped:
                wide[_rounded(value)] = value


def _moves(node: ir.Node) -> bool:
    reduction = node.attributes.get("reduction")
    return node.op_type in MOVES and (reduction is None or reduction.as_string() == "none")


def _is_narrow(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.BFLOAT16


def _are_of_one_operator(one: ir.Node | None, other: ir.Node) -> bool:
    if one is None or one.graph is not other.graph:  # names in a body are its own
        return False
    operator = one.metadata_props.get(_OPERATOR)
    return operator is not None and operator == other.metadata_props.get(_OPERATOR)


def _rounded(value: ir.Value) -> ir.Value:
    """Rounds what a node gives now as float32; returns the value that everything else reads in its place."""
    readers, name = list(value.uses()), value.name
    value.name, value.type = f"{name}.unrounded", ir.TensorType(ir.DataType.FLOAT)
    rounded = _cast(value, ir.DataType.BFLOAT16, name)
    for use in readers:
        use.node.replace_input_with(use.idx, rounded)
    graph = _home(value)
    graph.outputs[:] = [rounded if one is value else one for one in graph.outputs]
    return rounded


def _cast(value: ir.Value, dtype: ir.DataType, name: str | None) -> ir.Value:
    """Casts a value where it is made, so that no step of a loop casts it again."""
    made = ir.Value(name=name, shape=value.shape, type=ir.TensorType(dtype))
    node, maker, graph = ir.node("Cast", [value], {"to": dtype}, outputs=[made]), value.producer(), _home(value)
    if maker is None:
        graph.insert_before(graph[0], node)
    else:
        node.metadata_props.update(maker.metadata_props)  # a fault of either is the same line's
        graph.insert_after(maker, node)
    return made


def _home(value: ir.Value) -> ir.Graph:
    if not isinstance(value.graph, ir.Graph):
        raise TypeError(f"{value.name} belongs to no graph")
    return value.graph


def _widen_attribute(node: ir.Node, name: str) -> None:
    """Has a node that makes values by an attribute make float32."""
    attribute = node.attributes.get(name)
    if attribute is None:
        return
    if attribute.type == ir.AttributeType.INT and attribute.as_int() == ir.DataType.BFLOAT16:
        node.attributes[name] = ir.AttrInt64(name, ir.DataType.FLOAT)
    elif attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == ir.DataType.BFLOAT16:
        node.attributes[name] = ir.AttrTensor(name, ir.tensor(attribute.as_tensor().numpy().astype("float32")))

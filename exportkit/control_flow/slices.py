"""Lists of a tensor's slices, `for x_t in x.unbind(1)`, read from the tensor itself: its length may vary, a list's may not."""

import torch

from exportkit.control_flow.graph import Block, Graph, Node, arguments_of

_READS = ("aten::len", "aten::__getitem__")
_UNSQUEEZE = arguments_of(str(torch.ops.aten.unsqueeze.default._schema))  # noqa: SLF001 - where torch keeps it


def without_lists_of_slices(graph: Graph) -> None:
    """Turns, in place, the length and the elements of such a list into a size and slices of the tensor, where it is used for no more."""
    made = graph.definitions()
    for cut in list(graph.block.walk()):
        axis = _axis(graph, cut, made)
        if axis and _is_only_read(graph, cut.outputs[0]):
            _rewrite(graph, graph.block, cut, axis)


def _axis(graph: Graph, node: Node, made: dict[str, Node]) -> str:
    """Names the axis along which a node cuts a tensor into all of its slices; "" for any other node."""
    if node.kind == "aten::unbind":
        return node.inputs[1]
    if node.kind == "aten::split" and graph.constants.get(node.inputs[1]) == 1:
        return node.inputs[2]
    if node.kind == "aten::chunk":
        count, axis = made.get(node.inputs[1]), node.inputs[2]
        whole = count is not None and count.kind == "aten::size" and count.inputs[0] == node.inputs[0] and len(count.inputs) > 1
        if whole and graph.constants.get(axis, 0) == graph.constants.get(count.inputs[1], 1):  # type: ignore[union-attr]
            return axis
    return ""


def _is_only_read(graph: Graph, name: str) -> bool:
    nodes = list(graph.block.walk())
    handed_on = any(name in block.outputs for block in [graph.block, *(inner for node in nodes for inner in node.blocks)])
    return not handed_on and all(node.kind in _READS for node in nodes if name in node.inputs)


def _rewrite(graph: Graph, block: Block, cut: Node, axis: str) -> None:
    nodes: list[Node] = []
    for node in block.nodes:
        for inner in node.blocks:
            _rewrite(graph, inner, cut, axis)
        if cut.outputs[0] not in node.inputs:
            nodes.append(node)
        elif node.kind == "aten::len":
            nodes.append(Node("aten::size", [cut.inputs[0], axis], node.outputs, where=node.where))
        else:
            select = Node("aten::select", [cut.inputs[0], axis, node.inputs[1]], node.outputs, where=node.where)
            if cut.kind != "aten::unbind":  # split and chunk keep the axis
                select.outputs = [graph.new("Tensor", "slice")]
                nodes.append(select)
                select = Node("aten::unsqueeze", [select.outputs[0], axis], node.outputs, arguments=_UNSQUEEZE, where=node.where)
            nodes.append(select)
    block.nodes = nodes

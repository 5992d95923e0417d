"""What a loop's step computes from its row alone, and can be computed for all rows at once: a recurrence's input projections."""

from collections.abc import Callable, Sequence

from exportkit.control_flow.graph import Block, Node

# Operators that let any axes stand in front of those that they work on -> the place of the argument that has them.
_ANY_AXES = {
    "linear": 0, "embedding": 1, "layer_norm": 0, "relu": 0, "tanh": 0, "sigmoid": 0, "gelu": 0, "silu": 0, "leaky_relu": 0, "elu": 0,
    "exp": 0, "log": 0, "neg": 0,
}  # fmt: skip
_WORTH_IT = ("linear", "embedding")  # what is cheap alone stays in the loop: all its rows at once would take memory for little


def projections(rows: Sequence[Node], body: Block, is_outer: Callable[[str], bool]) -> list[Node]:
    """Finds the nodes of a body that hang on one row and on what stands outside of the loop, and lead to a matrix product or a table.

    Args:
        rows: the nodes that read a row.
        is_outer: says whether a value is the same in every step.
    """
    of_row = {node.outputs[0] for node in rows}
    found: list[tuple[Node, str]] = []
    for node in body.nodes:
        place = _ANY_AXES.get(node.operator) if node.kind.startswith("aten::") else None
        if place is None or node.inputs[place] not in of_row:
            continue
        if all(is_outer(name) for name in node.inputs[:place] + node.inputs[place + 1 :]):
            found.append((node, node.inputs[place]))
            of_row.add(node.outputs[0])
    leading: set[str] = set()
    kept: list[Node] = []
    for node, row in reversed(found):
        if node.operator in _WORTH_IT or node.outputs[0] in leading:
            leading.add(row)
            kept.insert(0, node)
    return kept

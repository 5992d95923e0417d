"""Operators whose attributes point into each other: read here, as not every kernel of every onnxruntime looks before it reads.

Of onnxruntime 1.31 all kernels tried refuse what is out of range, but for those that go on with another meaning (an index of
GatherBlockQuantized, the intercepts of LinearRegressor, the values of Imputer); earlier releases read out of bounds.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from exportkit.errors import RejectedError
from exportkit.screening.model import domain_of, walk_nodes
from exportkit.screening.wire import shown

Attributes = Mapping[str, Any]
Stored = Mapping[str, Any]

_BRANCHES = 2


def check_kernels(model: Any) -> None:
    """Checks the nodes of a model that check_model found whole.

    Raises:
        RejectedError: an attribute points outside of another, or of a stored tensor.
    """
    stored = {one.name: one for one in model.graph.initializer}
    for node in walk_nodes([model.graph, *model.functions]):
        if rule := _RULES.get((domain_of(node.domain), node.op_type)):
            rule(node, {one.name: one for one in node.attribute if not one.ref_attr_name}, stored)


def _check_ensemble(node: Any, attributes: Attributes, stored: Stored) -> None:
    """Checks trees in parallel lists, where nodes name each other by (tree, node)."""
    del stored
    nodes = list(zip(_ints(attributes, "nodes_treeids"), _ints(attributes, "nodes_nodeids"), strict=False))
    for name in attributes:
        if name.startswith("nodes_") and 0 < _length(attributes[name]) != len(nodes):
            _refuse(node, f"{name} has {_length(attributes[name])} entries for {len(nodes)} nodes")
    known, modes = set(nodes), attributes["nodes_modes"].strings if "nodes_modes" in attributes else ()
    sides = [_ints(attributes, name) for name in ("nodes_truenodeids", "nodes_falsenodeids")]
    for (tree, _), mode, *children in zip(nodes, modes, *sides, strict=False):
        if mode != b"LEAF" and not all((tree, child) in known for child in children):
            _refuse(node, "a branch leads to a node that is not there")
    if any(feature < 0 for feature in _ints(attributes, "nodes_featureids")):
        _refuse(node, "a branch asks for a negative feature")
    kind = "target" if node.op_type == "TreeEnsembleRegressor" else "class"
    leaves = [_ints(attributes, f"{kind}_{what}") for what in ("treeids", "nodeids", "ids")]
    if len({len(one) for one in leaves}) != 1 or not set(zip(leaves[0], leaves[1], strict=True)) <= known:
        _refuse(node, f"a {kind} belongs to a leaf that is not there")
    count = _count_results(attributes)
    if any(not 0 <= one < count for one in leaves[2]):
        _refuse(node, f"a leaf names one of more than {count} {kind}s")


def _count_results(attributes: Attributes) -> int:
    labels = max(_length(attributes[name]) if name in attributes else 0 for name in ("classlabels_int64s", "classlabels_strings"))
    return int(attributes["n_targets"].i) if "n_targets" in attributes else labels


def _check_imputer(node: Any, attributes: Attributes, stored: Stored) -> None:
    counts = {_length(one) for name, one in attributes.items() if name.startswith("imputed_value")}
    shape = stored[node.input[0]].dims if node.input[0] in stored else ()
    if counts == {0} or (shape and not counts <= {1, shape[-1]}):
        _refuse(node, "gives values for another number of features")


def _check_linear(node: Any, attributes: Attributes, stored: Stored) -> None:
    del stored
    targets = attributes["targets"].i if "targets" in attributes else 1
    coefficients, intercepts = (len(attributes[name].floats) if name in attributes else 0 for name in ("coefficients", "intercepts"))
    if targets < 1 or coefficients % targets or intercepts not in (0, targets):
        _refuse(node, f"has {coefficients} coefficients and {intercepts} intercepts for {targets} targets")


def _check_block_gather(node: Any, attributes: Attributes, stored: Stored) -> None:
    from onnx import numpy_helper

    data, indices = (stored.get(name) for name in node.input[:_BRANCHES])
    if data is None or indices is None or indices.data_location:
        return
    axis = attributes["gather_axis"].i if "gather_axis" in attributes else 0
    if not -len(data.dims) <= axis < len(data.dims):
        _refuse(node, f"has no axis {axis}")
    rows, places = data.dims[axis], numpy_helper.to_array(indices)
    if places.size and not -rows <= int(places.min()) <= int(places.max()) < rows:
        _refuse(node, f"gathers at an index outside of its {rows} rows")


_RULES: Mapping[tuple[str, str], Callable[[Any, Attributes, Stored], None]] = {
    ("ai.onnx.ml", "TreeEnsembleRegressor"): _check_ensemble,
    ("ai.onnx.ml", "TreeEnsembleClassifier"): _check_ensemble,
    ("ai.onnx.ml", "Imputer"): _check_imputer,
    ("ai.onnx.ml", "LinearRegressor"): _check_linear,
    ("com.microsoft", "GatherBlockQuantized"): _check_block_gather,
}


def _ints(attributes: Attributes, name: str) -> Sequence[int]:
    return attributes[name].ints if name in attributes else ()


def _length(attribute: Any) -> int:
    return len(attribute.ints) + len(attribute.floats) + len(attribute.strings) + (attribute.t.dims[0] if attribute.t.dims else 0)


def _refuse(node: Any, why: str) -> None:
    raise RejectedError(f"node {shown(node.name or node.op_type)}: {why}")

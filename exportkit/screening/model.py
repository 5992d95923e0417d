"""Is an ONNX model whole? Versions, names, scopes, functions, attributes, types: what the specification says of every file."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from exportkit.errors import RejectedError
from exportkit.screening.tensors import KINDS, check_tensor
from exportkit.screening.wire import shown

_OLDEST_IR = 3
_MOST_NODES = 500_000  # with every call of a function spelled out
_MOST_LEVELS = 16  # of graphs in graphs
_MOST_NESTED_TYPES = 8

Scopes = tuple[set[str], ...]


def check_model(model: Any, folder: Path, newest_ir: int, newest_opset: int) -> None:
    """Checks a ModelProto.

    Args:
        folder: where it lies.
        newest_ir: the newest IR version that onnx knows.
        newest_opset: the newest version of its own operators.

    Raises:
        RejectedError: it breaks a rule of the specification; names the first.
    """
    if not _OLDEST_IR <= model.ir_version <= newest_ir:
        raise RejectedError(f"has IR version {model.ir_version}; {_OLDEST_IR} to {newest_ir} are known")
    if not model.HasField("graph"):
        raise RejectedError("holds no graph")
    imports = _check_imports(model.opset_import, "the model")
    if imports.get("", 1) > newest_opset:
        raise RejectedError(f"imports opset {imports['']}; 1 to {newest_opset} are known")
    _check_functions(model.functions)
    _refuse_bomb(model)
    for function in model.functions:
        _check_function(function, folder)
    _check_graph(model.graph, (), imports, folder, frozenset())
    if not model.graph.output:
        raise RejectedError("gives no output")
    for spec in chain(model.graph.input, model.graph.output):
        _check_type(spec.type, shown(spec.name))


def walk_nodes(graphs: Iterable[Any]) -> Iterator[Any]:
    """Yields every node of graphs or functions and of the graphs inside them."""
    for graph in graphs:
        for node in graph.node:
            yield node
            for attribute in node.attribute:
                yield from walk_nodes((*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs))


def locations(model: Any) -> set[str]:
    """Lists the files that tensors lie in, wherever in the model they are."""
    nodes = [*walk_nodes([model.graph, *model.functions])]
    attributes = [one for node in nodes for one in node.attribute]
    graphs = [model.graph, *(one.g for one in attributes if one.HasField("g")), *(graph for one in attributes for graph in one.graphs)]
    sparse = [one for graph in graphs for one in graph.sparse_initializer]
    sparse += [one for attribute in attributes for one in (attribute.sparse_tensor, *attribute.sparse_tensors)]
    tensors = [*(one for graph in graphs for one in graph.initializer), *(part for one in sparse for part in (one.values, one.indices))]
    tensors += [one for attribute in attributes for one in (attribute.t, *attribute.tensors)]
    return {entry.value for one in tensors for entry in one.external_data if entry.key == "location"}


def domain_of(name: str) -> str:
    """Returns "" for ONNX's own domain, which has two names."""
    return "" if name == "ai.onnx" else name


def _check_imports(entries: Sequence[Any], where: str) -> dict[str, int]:
    imports: dict[str, int] = {}
    for entry in entries:
        domain = domain_of(entry.domain)
        if domain in imports:
            raise RejectedError(f"{where} imports the operators of {_named(domain)} twice")
        if entry.version < 1:
            raise RejectedError(f"{where} imports version {entry.version} of {_named(domain)}")
        imports[domain] = entry.version
    if not imports:
        raise RejectedError(f"{where} does not say which operator set it uses")
    return imports


def _check_functions(functions: Sequence[Any]) -> None:
    _refuse_twice([_identity(one) for one in functions], "function")
    for one in functions:
        where = f"function {shown(one.name)}"
        if not one.name:
            raise RejectedError("holds a function without a name")
        _refuse_twice(one.input, f"{where}: input")
        _refuse_twice(one.output, f"{where}: output")
        _refuse_twice([*one.attribute, *(default.name for default in one.attribute_proto)], f"{where}: attribute")


def _identity(function: Any) -> str:
    parts = (domain_of(function.domain), function.name, function.overload)
    return ".".join(part for part in parts if part)


def _calls(node: Any) -> str:
    parts = (domain_of(node.domain), node.op_type, node.overload)
    return ".".join(part for part in parts if part)


def _refuse_bomb(model: Any) -> None:
    """Counts the nodes with every call spelled out: functions that call functions grow as a power."""
    bodies = {_identity(one): Counter(_calls(node) for node in walk_nodes([one])) for one in model.functions}
    sizes: dict[str, int] = {}

    def size(name: str, callers: tuple[str, ...]) -> int:
        if name in callers:
            raise RejectedError(f"function {shown(name)} calls itself")
        if name not in sizes:
            if len(callers) > _MOST_LEVELS * 4:
                raise RejectedError(f"functions call functions more than {_MOST_LEVELS * 4} deep")
            calls = bodies[name].items()
            sizes[name] = 1 + sum(many * (size(one, (*callers, name)) if one in bodies else 1) for one, many in calls)
        return sizes[name]

    total = sum(size(name, ()) if name in bodies else 1 for name in map(_calls, walk_nodes([model.graph])))
    if max(total, *(size(name, ()) for name in bodies), 0) > _MOST_NODES:
        raise RejectedError(f"holds more than {_MOST_NODES:,} nodes once its functions are spelled out")


def _check_function(function: Any, folder: Path) -> None:
    imports = _check_imports(function.opset_import, f"function {shown(function.name)}")
    known = frozenset(function.attribute) | {one.name for one in function.attribute_proto}
    made = _check_nodes(function.node, (set(function.input),), imports, folder, known)
    for default in function.attribute_proto:
        _check_attribute(default, (made,), imports, folder, frozenset(), f"function {shown(function.name)}")
    _check_outputs(function.output, (made,), f"function {shown(function.name)}")


def _check_graph(graph: Any, outer: Scopes, imports: Mapping[str, int], folder: Path, known: frozenset[str]) -> None:
    where = f"graph {shown(graph.name)}"
    if len(outer) > _MOST_LEVELS:
        raise RejectedError(f"holds graphs in graphs more than {_MOST_LEVELS} deep")
    inputs = [one.name for one in graph.input]
    stored = [*(one.name for one in graph.initializer), *(one.values.name for one in graph.sparse_initializer)]
    _refuse_twice(inputs, f"{where}: input", empty=False)
    _refuse_twice(stored, f"{where}: initializer", empty=False)
    _refuse_twice([one.name for one in graph.output], f"{where}: output", empty=False)
    for tensor in graph.initializer:
        check_tensor(tensor, folder)
    for sparse in graph.sparse_initializer:
        check_sparse(sparse, folder)
    for spec in chain(graph.input, graph.output, graph.value_info):
        if spec.HasField("type"):
            _check_dimensions(spec.type, f"{where}: {shown(spec.name)}")
    made = _check_nodes(graph.node, (*outer, set(inputs) | set(stored)), imports, folder, known)
    _check_outputs([one.name for one in graph.output], (*outer, made), where)


def check_sparse(sparse: Any, folder: Path) -> None:
    """Checks a SparseTensorProto: its parts, and that its indices lie inside its dimensions.

    Raises:
        RejectedError: they do not.
    """
    check_tensor(sparse.values, folder)
    check_tensor(sparse.indices, folder)
    count = sparse.values.dims[0] if len(sparse.values.dims) == 1 else -1
    if list(sparse.indices.dims) not in ([count], [count, len(sparse.dims)]):
        raise RejectedError(f"sparse tensor {shown(sparse.values.name)} has indices of another number than values")
    if any(size <= 0 for size in sparse.dims):
        raise RejectedError(f"sparse tensor {shown(sparse.values.name)} has a dimension below 1")


def _check_nodes(nodes: Sequence[Any], scopes: Scopes, imports: Mapping[str, int], folder: Path, known: frozenset[str]) -> set[str]:
    """Checks nodes in order; returns the names that are visible after the last one."""
    here = scopes[-1]
    for node in nodes:
        where = f"node {shown(node.name or node.op_type)}"
        if not node.op_type:
            raise RejectedError(f"{where} names no operator")
        if domain_of(node.domain) not in imports:
            raise RejectedError(f"{where} is of {_named(domain_of(node.domain))}, which is not imported")
        for name in node.input:
            if name and not any(name in scope for scope in scopes):
                raise RejectedError(f"{where} reads {shown(name)}, which nothing before it makes")
        _refuse_twice([one.name for one in node.attribute], f"{where}: attribute", empty=False)
        for attribute in node.attribute:
            _check_attribute(attribute, scopes, imports, folder, known, where)
        for name in filter(None, node.output):
            if name in here:
                raise RejectedError(f"{where} makes {shown(name)}, which is there already")
            here.add(name)
    return here


def _check_outputs(names: Iterable[str], scopes: Scopes, where: str) -> None:
    for name in names:
        if not any(name in scope for scope in scopes):
            raise RejectedError(f"{where}: nothing makes the output {shown(name)}")


def _check_attribute(one: Any, scopes: Scopes, imports: Mapping[str, int], folder: Path, known: frozenset[str], where: str) -> None:
    where = f"{where}: attribute {shown(one.name)}"
    wanted = _FIELDS.get(one.type)
    if wanted is None:
        raise RejectedError(f"{where} has no known type")
    given = [field for field in _FIELDS.values() if (one.HasField(field) if field in _SINGLE else len(getattr(one, field)))]
    if one.ref_attr_name:
        if given or one.ref_attr_name not in known:
            raise RejectedError(f"{where} refers to {shown(one.ref_attr_name)}, which is no attribute of the function around it")
        return
    # A zero may be left out: proto3 writes none.
    if given not in ([wanted], [] if wanted not in ("t", "g", "sparse_tensor", "tp") else [wanted]):
        raise RejectedError(f"{where} holds {' and '.join(given) or 'nothing'}, its type needs {wanted}")
    for tensor in (*([one.t] if wanted == "t" else []), *one.tensors):
        check_tensor(tensor, folder)
    for sparse in (*([one.sparse_tensor] if wanted == "sparse_tensor" else []), *one.sparse_tensors):
        check_sparse(sparse, folder)
    for graph in (*([one.g] if wanted == "g" else []), *one.graphs):
        _check_graph(graph, scopes, imports, folder, known)


# By ONNX's numbers (onnx.proto, AttributeProto.AttributeType).
_FIELDS = {
    1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings", 9: "tensors", 10: "graphs",
    11: "sparse_tensor", 12: "sparse_tensors", 13: "tp", 14: "type_protos",
}  # fmt: skip
_SINGLE = ("f", "i", "s", "t", "g", "sparse_tensor", "tp")


def _check_type(kind: Any, where: str, depth: int = 0) -> None:
    """Checks that a type is whole."""
    which = kind.WhichOneof("value")
    if which is None or depth > _MOST_NESTED_TYPES:
        raise RejectedError(f"{where} has no type" if which is None else f"{where} has a type nested too deep")
    inner = getattr(kind, which)
    if which in ("tensor_type", "sparse_tensor_type") and inner.elem_type not in KINDS:
        raise RejectedError(f"{where} has an unknown element type ({inner.elem_type})")
    if which in ("sequence_type", "optional_type"):
        _check_type(inner.elem_type, where, depth + 1)


def _check_dimensions(kind: Any, where: str, depth: int = 0) -> None:
    which = kind.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type") and any(one.dim_value < 0 for one in getattr(kind, which).shape.dim):
        raise RejectedError(f"{where} has a negative dimension")
    if which in ("sequence_type", "optional_type") and depth <= _MOST_NESTED_TYPES:
        _check_dimensions(getattr(kind, which).elem_type, where, depth + 1)


def _refuse_twice(names: Iterable[str], what: str, *, empty: bool = True) -> None:
    seen: set[str] = set()
    for name in names:
        if not name and not empty:
            raise RejectedError(f"{what} without a name")
        if name in seen:
            raise RejectedError(f"{what} {shown(name)} is there twice")
        seen.add(name)


def _named(domain: str) -> str:
    return f"domain {shown(domain)}" if domain else "ONNX's own domain"

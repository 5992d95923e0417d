"""Cuts ONNX models apart at named values: what lies between known values becomes a model of its own. Needs no torch."""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedOpsetsPass

_SCOPES, _CLASSES, _TRACE = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy", "pkg.torch.onnx.stack_trace"
_INFER_LIMIT = 1 << 30  # bytes; onnx's shape inference serialises the model


def load(file: Path) -> ir.Model:
    """Loads a model, with the element types of its values."""
    if file.stat().st_size < _INFER_LIMIT:
        return ir.from_proto(onnx.shape_inference.infer_shapes(onnx.load(file)))
    return ir.load(file)


def written(graph: ir.Graph) -> dict[str, ir.Value]:
    """Lists the values that a graph's own nodes write, by name, in the graph's order."""
    return {str(value.name): value for node in graph for value in node.outputs if value.name}


def reads(node: ir.Node) -> Iterator[ir.Value]:
    """Yields the values that a node reads, those that its bodies take from outside included."""
    yield from (value for value in node.inputs if value is not None)
    for body in bodies(node).values():
        inside = {id(value) for one in body.all_nodes() for value in one.outputs} | {id(value) for value in body.inputs}
        for one in body.all_nodes():
            inside |= {id(value) for deeper in bodies(one).values() for value in deeper.inputs}
        outer = [value for one in body.all_nodes() for value in one.inputs if value is not None]
        yield from (value for value in [*outer, *body.outputs] if id(value) not in inside)


def bodies(node: ir.Node) -> dict[str, ir.Graph]:
    """Returns the graphs that a node holds, by attribute."""
    return {name: one.as_graph() for name, one in node.attributes.items() if one.type == ir.AttributeType.GRAPH}


def segment(value: ir.Value, known: Mapping[str, object]) -> tuple[list[ir.Node], list[ir.Value]]:
    """Finds the nodes that compute a value from known ones, in the graph's order, and the known values and inputs that they read."""
    nodes: dict[ir.Node, None] = {}
    frontier: dict[ir.Value, None] = {}
    stack = [value]
    while stack:
        producer = stack.pop().producer()
        if producer is None or producer in nodes:
            continue
        nodes[producer] = None
        for one in reads(producer):
            if one.is_initializer():
                continue
            if one.producer() is None or str(one.name) in known:
                frontier[one] = None
            else:
                stack.append(one)
    graph = value.graph
    order = {node: place for place, node in enumerate(graph or ())}
    return sorted(nodes, key=lambda node: order.get(node, -1)), list(frontier)


def cut(model: ir.Model, given: Mapping[str, ir.DataType], wanted: Iterable[str]) -> ir.Model:
    """Returns a model that computes wanted values, and takes given ones as inputs wherever they are read.

    A value may be both: then it is computed from the others, and those that read it get the given one ("given/NAME").
    """
    copy = model.clone()
    graph = copy.graph
    values = written(graph)
    for name, dtype in given.items():
        taken = ir.Value(name=f"given/{name}", type=ir.TensorType(dtype))
        values[name].replace_all_uses_with(taken, replace_graph_outputs=True)
        graph.inputs.append(taken)
    for name in (outputs := list(wanted)):
        if values[name].type is None and name in given:
            values[name].type = ir.TensorType(given[name])
    graph.outputs[:] = [values[name] for name in outputs]
    return prune(copy)


def prune(model: ir.Model) -> ir.Model:
    """Removes what does not lead to an output; in place."""
    graph = model.graph
    needed: set[ir.Node] = set()
    stack = list(graph.outputs)
    while stack:
        producer = stack.pop().producer()
        if producer is not None and producer not in needed:
            needed.add(producer)
            stack.extend(reads(producer))
    graph.remove([node for node in graph if node not in needed])
    used = {id(value) for node in graph for value in reads(node)} | {id(value) for value in graph.outputs}
    graph.inputs[:] = [value for value in graph.inputs if id(value) in used]
    for name, value in list(graph.initializers.items()):
        if id(value) not in used:
            del graph.initializers[name]
    RemoveUnusedOpsetsPass()(model)
    return model


def unfold(model: ir.Model, node_output: str, attribute: str) -> tuple[ir.Model, list[str], dict[str, str]]:
    """Copies the body of an If, Loop or Scan into the main graph, before its node.

    Returns:
        The model; the names of the body's inputs, which are graph inputs now; value -> the torch node that it stands for.
    """
    copy = model.clone()
    node = written(copy.graph)[node_output].producer()
    assert node is not None
    body = bodies(node)[attribute].clone(allow_outer_scope_values=True)
    inputs, nodes = list(body.inputs), list(body)
    for value in list(body.initializers.values()):
        del body.initializers[str(value.name)]
        copy.graph.register_initializer(value)
    body.outputs[:] = []
    body.inputs[:] = []
    body.remove(nodes)
    copy.graph.insert_before(node, nodes)
    copy.graph.inputs.extend(inputs)
    names = {str(one.outputs[0].name): scope for one in nodes if (scope := torch_node(one)) and one.outputs}
    last = {scope: value for value, scope in names.items()}  # several nodes may stand for one of torch's: the last one writes its value
    return copy, [str(value.name) for value in inputs], {value: scope for scope, value in last.items()}


def torch_node(node: ir.Node) -> str:
    """Returns the name of the node of torch's program that an ONNX node was written for; "" where it does not say."""
    scopes = _listed(node, _SCOPES)
    return scopes[-1] if scopes else ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an ONNX node comes from.

    Attributes:
        module: the dotted name of the torch module; "" for the network's own forward.
        kind: the module's class.
        operator: torch's operator.
        where: "net.py:12", the user's line.
        code: the text of that line.
    """

    module: str = ""
    kind: str = ""
    operator: str = ""
    where: str = ""
    code: str = ""


def origin(node: ir.Node, user_file: str) -> Origin:
    """Reads where a node comes from out of the metadata that torch's exporter writes."""
    scopes, classes = _listed(node, _SCOPES), _listed(node, _CLASSES)
    where, code = _line(node.metadata_props.get(_TRACE, ""), user_file)
    return Origin(
        scopes[-2] if len(scopes) > 1 else "",
        classes[-2].rpartition(".")[2] if len(classes) > 1 else "",
        classes[-1] if classes else "",
        where,
        code,
    )


def _listed(node: ir.Node, key: str) -> Sequence[str]:
    try:
        value = ast.literal_eval(node.metadata_props.get(key, "[]"))
    except (ValueError, SyntaxError):
        return []
    return [str(one) for one in value] if isinstance(value, list) else []


def _line(trace: str, user_file: str) -> tuple[str, str]:
    """Finds the innermost line of the user's file in a stack trace, else the outermost of any file."""
    frames: list[tuple[str, str, str]] = []
    lines = trace.splitlines()
    for place, line in enumerate(lines):
        parts = line.strip().split(", ")
        if parts[0].startswith('File "') and len(parts) > 1:
            file = parts[0].removeprefix('File "').removesuffix('"')
            frames.append((file, parts[1].removeprefix("line "), lines[place + 1].strip() if place + 1 < len(lines) else ""))
    mine = [one for one in frames if one[0].rpartition("/")[2] == user_file]
    if not frames:
        return "", ""
    file, line, code = mine[-1] if mine else frames[0]
    return f"{file}:{line}", code

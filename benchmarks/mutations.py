"""Faults to seed into good artifacts: each is what a wrong translation, a wrong attribute or a lost weight would look like.

`mutants(model, seed)` yields faults of an ONNX model, `scripted_mutants(module, seed)` of a loaded TorchScript one. A seed gives the same
faults again. Of each kind a model gets a few, chosen by the seed, as large models would hold thousands.
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

Edit = Callable[[ModelProto], None]

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
_INT64_MAX = np.iinfo(np.int64).max
# operator -> the near relative that takes its place, and the attributes to set; those not named stay where the relative has them
_RELATIVES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "Relu": [("LeakyRelu", {"alpha": 0.01})],
    "LeakyRelu": [("Relu", {})],
    "Elu": [("Relu", {})],
    "Erf": [("Tanh", {})],
    "Sigmoid": [("HardSigmoid", {})],
    "HardSigmoid": [("Sigmoid", {})],
    "Softplus": [("Relu", {})],
    "Softmax": [("LogSoftmax", {}), ("Hardmax", {})],
    "ReduceMean": [("ReduceSum", {})],
    "ReduceSum": [("ReduceMean", {})],
    "ReduceMax": [("ReduceMean", {}), ("ReduceMin", {})],
    "ReduceMin": [("ReduceMax", {})],
    "ReduceL2": [("ReduceL1", {})],
    "ReduceLogSumExp": [("ReduceMax", {})],
    "Floor": [("Round", {}), ("Ceil", {})],
    "Ceil": [("Round", {}), ("Floor", {})],
    "Round": [("Floor", {})],
    "Less": [("LessOrEqual", {})],
    "LessOrEqual": [("Less", {})],
    "Greater": [("GreaterOrEqual", {})],
    "GreaterOrEqual": [("Greater", {})],
    "ArgMax": [("ArgMin", {})],
    "ArgMin": [("ArgMax", {})],
    "Max": [("Min", {})],
    "Min": [("Max", {})],
    "And": [("Or", {})],
    "Or": [("And", {})],
    "Add": [("Sub", {})],
    "MaxPool": [("AveragePool", {})],
    "AveragePool": [("MaxPool", {})],
    "GlobalAveragePool": [("GlobalMaxPool", {})],
    "Sin": [("Cos", {})],
    "Cos": [("Sin", {})],
}
# operator, attribute -> its other values
_CHOICES: dict[tuple[str, str], list[Any]] = {
    ("Gelu", "approximate"): ["tanh", "none"],
    ("CumSum", "exclusive"): [0, 1],
    ("CumSum", "reverse"): [0, 1],
    ("TopK", "largest"): [0, 1],
    ("Trilu", "upper"): [0, 1],
    ("ArgMax", "select_last_index"): [0, 1],
    ("AveragePool", "count_include_pad"): [0, 1],
    ("Resize", "mode"): ["nearest", "linear", "cubic"],
    ("Resize", "coordinate_transformation_mode"): ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"],
    ("GridSample", "align_corners"): [0, 1],
    ("GridSample", "padding_mode"): ["zeros", "border"],
    ("Pad", "mode"): ["constant", "reflect", "edge"],
    ("ScatterND", "reduction"): ["none", "add", "max"],
    ("ScatterElements", "reduction"): ["none", "add", "max"],
    ("GRU", "linear_before_reset"): [0, 1],
    ("LSTM", "direction"): ["forward", "reverse"],
    ("GRU", "direction"): ["forward", "reverse"],
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A model with one fault.

    Attributes:
        kind: the family of the fault, by which rates are told.
        name: what was done to what; unique within a model and seed.
        node: the node that computes something else than it should; of a weight the first one that reads it.
    """

    kind: str
    name: str
    node: str
    model: ModelProto


@dataclass(frozen=True, slots=True)
class _Fault:
    kind: str
    name: str
    node: str
    edit: Edit


def mutants(model: ModelProto, seed: int, each: int = 4, sizes: Mapping[str, int] | None = None) -> Iterator[Mutant]:
    """Yields faults of a model: at most `each` of a kind.

    Args:
        model: with inline weights; it stays as it is. Its nodes get names where they have none.
        sizes: the sizes at which an exporter might have frozen the symbolic dimensions.
    """
    model = prepared(model)
    by_kind: dict[str, list[_Fault]] = {}
    for fault in _faults(model, np.random.default_rng([seed, 1]), dict(sizes or {})):
        by_kind.setdefault(fault.kind, []).append(fault)
    for kind, faults in by_kind.items():
        rng = np.random.default_rng([seed, *kind.encode()])
        for place in sorted(rng.permutation(len(faults))[:each]):
            mutated = _copy(model)
            faults[place].edit(mutated)
            del mutated.graph.value_info[:]  # they tell the shapes of the good model
            yield Mutant(kind, faults[place].name, faults[place].node, mutated)


def prepared(model: ModelProto) -> ModelProto:
    """Returns a copy whose nodes all have names of their own, with shapes inferred and constants as initializers."""
    model = onnx.shape_inference.infer_shapes(model)
    seen: set[str] = set()
    for number, graph in enumerate(_graphs(model.graph)):
        for place, node in enumerate(graph.node):
            if not node.name or node.name in seen:
                node.name = f"{node.op_type}_{number}_{place}"
            seen.add(node.name)
    _hoist_constants(model)
    return model


def _copy(model: ModelProto) -> ModelProto:
    copied = ModelProto()
    copied.CopyFrom(model)
    return copied


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def _hoist_constants(model: ModelProto) -> None:
    """Turns Constant nodes into initializers, which the faults of weights find."""
    for graph in _graphs(model.graph):
        outputs = {value.name for value in graph.output}
        for node in list(graph.node):
            tensors = [one.t for one in node.attribute if one.name == "value"]
            if node.op_type == "Constant" and tensors and node.output[0] not in outputs:
                tensor = graph.initializer.add()
                tensor.CopyFrom(tensors[0])
                tensor.name = node.output[0]
                graph.node.remove(node)


def _faults(model: ModelProto, rng: np.random.Generator, sizes: Mapping[str, int]) -> Iterator[_Fault]:
    types = _types(model)
    for place, graph in enumerate(_graphs(model.graph)):
        yield from _weight_faults(place, graph, model, rng)
        for number, node in enumerate(graph.node):
            edit = _Editor(place, number)
            yield from _attribute_faults(edit, node)
            yield from _relative_faults(edit, node)
            yield from _operand_faults(edit, node)
            yield from _bypass_faults(edit, node, types)
            yield from _size_faults(edit, node, types, sizes)
            yield from _control_faults(edit, node)
            yield from _rounding_faults(edit, node, types)
    yield from _output_faults(model, types)


def _types(model: ModelProto) -> dict[str, tuple[int, tuple[int | str, ...] | None]]:
    """Collects each value's element type and shape, None where the rank is unknown."""
    found: dict[str, tuple[int, tuple[int | str, ...] | None]] = {}
    for graph in _graphs(model.graph):
        for value in [*graph.value_info, *graph.input, *graph.output]:
            tensor = value.type.tensor_type
            known = tensor.HasField("shape")
            dims = (
                tuple(dim.dim_param or (dim.dim_value if dim.HasField("dim_value") else "?") for dim in tensor.shape.dim) if known else None
            )
            found[value.name] = (tensor.elem_type, dims)
        for tensor in graph.initializer:
            found[tensor.name] = (tensor.data_type, tuple(tensor.dims))
    return found


@dataclass(frozen=True, slots=True)
class _Editor:
    """Finds one node again in a copy of the model."""

    graph: int
    node: int

    def of(self, change: Callable[[GraphProto, NodeProto], None]) -> Edit:
        def edit(model: ModelProto) -> None:
            graph = list(_graphs(model.graph))[self.graph]
            change(graph, graph.node[self.node])

        return edit


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {one.name: helper.get_attribute_value(one) for one in node.attribute if one.type != AttributeProto.GRAPH}


def _set(node: NodeProto, **values: Any) -> None:
    for name, value in values.items():
        for place, one in enumerate(node.attribute):
            if one.name == name:
                del node.attribute[place]
                break
        node.attribute.append(helper.make_attribute(name, value))


# Weights


def _readers(model: ModelProto, name: str) -> list[str]:
    return [node.name for graph in _graphs(model.graph) for node in graph.node if name in node.input]


def _weight_faults(place: int, graph: GraphProto, model: ModelProto, rng: np.random.Generator) -> Iterator[_Fault]:
    read = {tensor.name: readers[0] for tensor in graph.initializer if (readers := _readers(model, tensor.name))}
    tensors = [tensor for tensor in graph.initializer if tensor.name in read and math.prod(tensor.dims)]
    for tensor in tensors:
        name, node, element = tensor.name, read[tensor.name], int(rng.integers(math.prod(tensor.dims)))
        if tensor.data_type in _FLOATS:
            for kind, factor in (("weight x1.001", 1.001), ("weight x1.01", 1.01), ("weight negated", -1.0)):
                yield _Fault(kind, f"{name}: {kind}", node, _rewrite(place, name, lambda values, factor=factor: values * factor))
            for kind, factor in (("element x1.01", 1.01), ("element negated", -1.0)):
                edit = _rewrite(place, name, lambda values, element=element, factor=factor: _scaled_at(values, element, factor))
                yield _Fault(kind, f"{name}[{element}]: {kind}", node, edit)
        elif tensor.data_type == TensorProto.INT64:
            for step in (-1, 1):
                edit = _rewrite(place, name, lambda values, element=element, step=step: _shifted_at(values, element, step))
                yield _Fault("constant off by one", f"{name}[{element}]: {step:+d}, read by {node}", node, edit)
    floats = [tensor for tensor in tensors if tensor.data_type in _FLOATS]
    for one, two in itertools.combinations(floats, 2):
        if one.dims == two.dims and one.data_type == two.data_type and one.raw_data != two.raw_data:
            yield _Fault("weights swapped", f"{one.name} <-> {two.name}", read[one.name], _swap(place, one.name, two.name))


def _rewrite(place: int, name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Edit:
    def edit(model: ModelProto) -> None:
        tensor = next(one for one in list(_graphs(model.graph))[place].initializer if one.name == name)
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(change(values.copy()), values.dtype).reshape(values.shape), name))

    return edit


def _scaled_at(values: NDArray[Any], element: int, factor: float) -> NDArray[Any]:
    values.reshape(-1)[element] *= factor
    return values


def _shifted_at(values: NDArray[Any], element: int, step: int) -> NDArray[Any]:
    flat = values.reshape(-1)
    flat[element] += step if abs(int(flat[element])) < _INT64_MAX - 1 else 0
    return values


def _swap(place: int, one: str, two: str) -> Edit:
    def edit(model: ModelProto) -> None:
        tensors = {tensor.name: tensor for tensor in list(_graphs(model.graph))[place].initializer}
        tensors[one].name, tensors[two].name = two, one

    return edit


# Attributes and operators


def _attribute_faults(editor: _Editor, node: NodeProto) -> Iterator[_Fault]:
    for name, value in _attributes(node).items():
        for other in _others(node.op_type, name, value):
            kind = f"attribute {name}" if name in ("axis", "perm", "pads", "strides", "epsilon", "alpha") else "attribute, other"
            text = f"{node.name} ({node.op_type}): {name} {_text(value)} -> {_text(other)}"
            yield _Fault(kind, text, node.name, editor.of(lambda _, n, name=name, other=other: _set(n, **{name: other})))
    given = {one.name for one in node.attribute}
    for (operator, name), values in _CHOICES.items():
        if operator == node.op_type and name not in given:
            for other in values[1:]:
                text = f"{node.name} ({operator}): {name} -> {_text(other)}"
                yield _Fault("attribute, other", text, node.name, editor.of(lambda _, n, name=name, other=other: _set(n, **{name: other})))


def _others(operator: str, name: str, value: Any) -> Iterator[Any]:
    """Yields the values that an attribute has by mistake."""
    if name == "axis":
        yield value + 1
        yield value - 1
    elif name == "perm" and len(value) > 1:
        for place in range(len(value) - 1):
            yield [*value[:place], value[place + 1], value[place], *value[place + 2 :]]
    elif name == "pads" and any(value):
        half = len(value) // 2
        yield [value[0] + 1, *value[1:]]
        yield [value[0] + 1, *value[1:half], value[half] - 1, *value[half + 1 :]] if value[half] else [*value[:-1], value[-1] + 1]
    elif name in ("strides", "dilations"):
        yield [value[0] + 1, *value[1:]]
        yield [*value[:-1], value[-1] + 1]
    elif name == "epsilon":
        yield value * 10
    elif name in ("alpha", "beta", "gamma") and isinstance(value, float):
        yield value * 1.1
    else:
        text = value.decode() if isinstance(value, bytes) else value
        yield from (other for other in _CHOICES.get((operator, name), []) if other != text)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    return (
        f"{value:g}"
        if isinstance(value, float)
        else str(list(value) if hasattr(value, "__len__") and not isinstance(value, str) else value)
    )


def _relative_faults(editor: _Editor, node: NodeProto) -> Iterator[_Fault]:
    for relative, attributes in _RELATIVES.get(node.op_type, []):
        known = set(onnx.defs.get_schema(relative).attributes)

        def replace(
            _: GraphProto, one: NodeProto, relative: str = relative, known: set[str] = known, new: dict[str, Any] = attributes
        ) -> None:
            one.op_type = relative
            for attribute in list(one.attribute):
                if attribute.name not in known:
                    one.attribute.remove(attribute)
            _set(one, **new)

        yield _Fault("near relative", f"{node.name}: {node.op_type} -> {relative}", node.name, editor.of(replace))


def _operand_faults(editor: _Editor, node: NodeProto) -> Iterator[_Fault]:
    if node.op_type in ("Sub", "Div", "Concat") and len(node.input) > 1 and node.input[0] != node.input[1]:

        def exchange(_: GraphProto, one: NodeProto) -> None:
            one.input[0], one.input[1] = one.input[1], one.input[0]

        yield _Fault("operands exchanged", f"{node.name} ({node.op_type}): operands exchanged", node.name, editor.of(exchange))


# Nodes that do nothing, sizes that are frozen, control flow, rounding


def _bypass_faults(editor: _Editor, node: NodeProto, types: Mapping[str, Any]) -> Iterator[_Fault]:
    if len(node.output) != 1 or node.op_type in ("Identity", "Constant", "If", "Loop", "Scan"):
        return
    wanted = types.get(node.output[0], (0, None))
    sources = node.input[1:3] if node.op_type == "Where" else node.input[:1]
    for source in sources:
        if wanted[1] is None or "?" in wanted[1] or types.get(source) != wanted:
            continue

        def bypass(_: GraphProto, one: NodeProto, source: str = source) -> None:
            one.op_type = "Identity"
            del one.input[:], one.attribute[:]
            one.input.append(source)

        masked = node.op_type in ("Where", "And", "Or", "Not", "Trilu")
        text = f"{node.name} ({node.op_type}): {source} passes through"
        yield _Fault("mask ignored" if masked else "node bypassed", text, node.name, editor.of(bypass))


def _size_faults(editor: _Editor, node: NodeProto, types: Mapping[str, Any], sizes: Mapping[str, int]) -> Iterator[_Fault]:
    shape = types.get(node.input[0], (0, None))[1] if node.input else None
    if node.op_type != "Shape" or not shape:
        return
    given = _attributes(node)
    span = shape[given.get("start", 0) : given.get("end", len(shape))]
    if not any(isinstance(dim, str) for dim in span) or not all(isinstance(dim, int) or dim in sizes for dim in span):
        return
    frozen = np.array([dim if isinstance(dim, int) else sizes[dim] for dim in span], np.int64)

    def freeze(_: GraphProto, one: NodeProto) -> None:
        one.op_type = "Constant"
        del one.input[:], one.attribute[:]
        one.attribute.append(helper.make_attribute("value", numpy_helper.from_array(frozen)))

    yield _Fault("dimension frozen", f"{node.name} (Shape): {span} -> {frozen.tolist()}", node.name, editor.of(freeze))


def _control_faults(editor: _Editor, node: NodeProto) -> Iterator[_Fault]:
    if node.op_type == "If":
        for branch in (True, False):
            constant = np.array(branch)
            edit = editor.of(lambda g, n, c=constant: _insert_constant(g, n, 0, c))
            yield _Fault("branch forced", f"{node.name} (If): always {branch}", node.name, edit)
    if node.op_type == "Loop" and node.input[0]:
        for step in (-1, 1):
            edit = editor.of(lambda g, n, s=step: _insert_step(g, n, s))
            yield _Fault("trip count off by one", f"{node.name} (Loop): {step:+d}", node.name, edit)
    if node.op_type == "Scan":
        edit = editor.of(lambda _, n: _set(n, scan_input_directions=[1] * _attributes(n)["num_scan_inputs"]))
        yield _Fault("trip count off by one", f"{node.name} (Scan): reversed", node.name, edit)


def _insert(graph: GraphProto, before: NodeProto, new: NodeProto) -> None:
    graph.node.insert(next(place for place, node in enumerate(graph.node) if node.name == before.name), new)


def _insert_constant(graph: GraphProto, node: NodeProto, place: int, value: NDArray[Any]) -> None:
    name = f"{node.name}_seeded"
    node.input[place] = name
    _insert(graph, node, helper.make_node("Constant", [], [name], name, value=numpy_helper.from_array(value)))


def _insert_step(graph: GraphProto, node: NodeProto, step: int) -> None:
    name, count = f"{node.name}_trips", node.input[0]
    node.input[0] = name
    graph.initializer.append(numpy_helper.from_array(np.array(step, np.int64), f"{name}_step"))
    _insert(graph, node, helper.make_node("Add", [count, f"{name}_step"], [name], name))


def _rounding_faults(editor: _Editor, node: NodeProto, types: Mapping[str, Any]) -> Iterator[_Fault]:
    if not node.input or types.get(node.input[0], (0, None))[0] != TensorProto.FLOAT or node.op_type in ("Identity", "Shape", "Cast"):
        return

    def round_input(graph: GraphProto, one: NodeProto) -> None:
        half, wide = f"{one.name}_half", f"{one.name}_wide"
        source, one.input[0] = one.input[0], wide
        reader = copy.deepcopy(one)
        _insert(graph, reader, helper.make_node("Cast", [source], [half], half, to=TensorProto.FLOAT16))
        _insert(graph, reader, helper.make_node("Cast", [half], [wide], wide, to=TensorProto.FLOAT))

    yield _Fault("float16 in the middle", f"{node.name} ({node.op_type}): input rounded to float16", node.name, editor.of(round_input))


def _output_faults(model: ModelProto, types: Mapping[str, Any]) -> Iterator[_Fault]:
    writers = {name: node.name for node in model.graph.node for name in node.output}
    outputs = [value.name for value in model.graph.output if value.name in writers]
    for place, name in enumerate(outputs):
        shape = types[name][1] or ()
        for axis, dim in enumerate(shape):
            if dim != 1 and types[name][0] in (*_FLOATS, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL):
                text = f"{name}: axis {axis} reversed"
                yield _Fault("output permuted", text, writers[name], lambda m, n=name, a=axis: _reverse_output(m, n, a))
        for other in outputs[place + 1 :]:
            if types[name] == types[other]:
                text = f"{name} <-> {other}"
                yield _Fault("output permuted", text, writers[name], lambda m, a=name, b=other: _exchange_outputs(m, a, b))


def _rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Renames values everywhere but in the graph's inputs and outputs."""
    for inner in _graphs(graph):
        for node in inner.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]


def _reverse_output(model: ModelProto, name: str, axis: int) -> None:
    _rename(model.graph, {name: f"{name}_straight"})
    limits = {"starts": -1, "ends": -_INT64_MAX, "axes": axis, "steps": -1}
    for key, value in limits.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), f"{name}_{key}"))
    inputs = [f"{name}_straight", *(f"{name}_{key}" for key in limits)]
    model.graph.node.append(helper.make_node("Slice", inputs, [name], f"{name}_reversed"))


def _exchange_outputs(model: ModelProto, one: str, two: str) -> None:
    _rename(model.graph, {one: two, two: one})


# TorchScript


def scripted_mutants(file: str, seed: int, each: int = 4) -> Iterator[tuple[str, str, Any]]:
    """Yields (kind, name, module): the faults of weights in a TorchScript file, each in a freshly loaded module."""
    import torch

    values = torch.jit.load(file).state_dict()
    floats = [name for name, value in values.items() if value.is_floating_point() and value.numel()]
    rng = np.random.default_rng([seed, 2])
    for kind, factor in (("weight x1.001", 1.001), ("weight x1.01", 1.01), ("weight negated", -1.0)):
        for name in _some(floats, each, rng):
            yield kind, f"{name}: {kind}", _with_weights(file, {name: values[name] * factor})
    for name in _some(floats, each, rng):
        changed = values[name].clone().contiguous()
        changed.view(-1)[int(rng.integers(changed.numel()))] *= 1.01
        yield "element x1.01", f"{name}: element x1.01", _with_weights(file, {name: changed})
    alike = [
        (a, b)
        for n, a in enumerate(floats)
        for b in floats[n + 1 :]
        if values[a].shape == values[b].shape and not values[a].equal(values[b])
    ]
    for a, b in _some(alike, each, rng):
        yield "weights swapped", f"{a} <-> {b}", _with_weights(file, {a: values[b], b: values[a]})


def _some(items: list[Any], count: int, rng: np.random.Generator) -> list[Any]:
    return [items[place] for place in sorted(rng.permutation(len(items))[:count])]


def _with_weights(file: str, changed: Mapping[str, Any]) -> Any:
    import torch

    module = torch.jit.load(file)
    with torch.no_grad():
        for name, value in changed.items():
            module.state_dict()[name].copy_(value)
    return module

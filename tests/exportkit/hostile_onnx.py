"""Malformed and hostile .onnx files, one maker a file, by the class of what is wrong. Every one must be rejected.

Those of RUNTIME show only when a runtime loads or runs them; all others must fall to the reading alone.
"""

import os
import struct

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F, I64, I32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32
WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3) / 10
READING, RUNTIME = {}, {}


def value(name, kind=F, shape=(2, 4)):
    return helper.make_tensor_value_info(name, kind, shape)


def array(name, content):
    return numpy_helper.from_array(np.asarray(content), name)


def int64(name, *content):
    return array(name, np.array(content, np.int64))


def model(nodes, inputs=None, outputs=None, stored=(), functions=(), opset=18, ir=10, **imports):
    graph = helper.make_graph(
        nodes, "g", [value("x")] if inputs is None else inputs, [value("y", shape=None)] if outputs is None else outputs, list(stored)
    )
    domains = {"": opset, "ai.onnx.ml": 3, "com.microsoft": 1, **imports}
    opsets = [helper.make_opsetid(name, version) for name, version in domains.items() if version]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir, functions=list(functions))


def node(operator, inputs="x", outputs="y", **attributes):
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def linear():
    stored = [array("w", WEIGHTS), array("b", np.float32([1, 2, 3]))]
    return model([node("Gemm", "x w b", "h"), node("Relu", "h")], outputs=[value("y", shape=(2, 3))], stored=stored)


def reading(maker):
    READING[maker.__name__] = maker
    return maker


def runtime(maker):
    RUNTIME[maker.__name__] = maker
    return maker


def each(table, prefix, **makers):
    table.update({f"{prefix}_{name}": maker for name, maker in makers.items()})


# --- bytes: truncated, joined, flipped, written in two ways ---------------------------------------------------------------------------


def _bytes(change):
    return lambda folder: change(linear().SerializeToString())


def _key(number, wire):
    return bytes([number << 3 | wire])


def _wrap(number, content):
    return _key(number, 2) + struct.pack("B", len(content)) + content


each(
    READING,
    "bytes",
    empty=_bytes(lambda data: b""),
    half=_bytes(lambda data: data[: len(data) // 2]),
    last=_bytes(lambda data: data[:-1]),
    twice=_bytes(lambda data: data + data),
    other_model=_bytes(lambda data: data + model([node("Neg")]).SerializeToString()),
    second_graph=_bytes(lambda data: data + onnx.ModelProto(graph=linear().graph).SerializeToString()),
    second_version=_bytes(lambda data: data + onnx.ModelProto(ir_version=9).SerializeToString()),
    trailing_zero=_bytes(lambda data: data + b"\0"),
    trailing_text=_bytes(lambda data: data + b"hello world"),
    text=_bytes(lambda data: b"not a network"),
    zip=_bytes(lambda data: b"PK\x03\x04" + bytes(40)),
    zeros=_bytes(lambda data: bytes(4096)),
    unknown_field=_bytes(lambda data: data + _wrap(15, b"abc")),
    group=_bytes(lambda data: data + b"\x0b\x0c"),
    long_varint=_bytes(lambda data: data + _key(5, 0) + b"\xff" * 11 + b"\1"),
    huge_length=_bytes(lambda data: data + _key(6, 2) + b"\xff\xff\xff\xff\x0f"),
    bad_utf8=_bytes(lambda data: data + _wrap(2, b"\xff\xfe")),
    wrong_wire=_bytes(lambda data: data + _key(2, 0) + b"\1"),
)


@reading
def bytes_two_types(folder):
    """A type that is a tensor and a sequence at once: protobuf keeps the last."""
    proto = linear()
    kind = proto.graph.input[0].type
    second = onnx.TypeProto(sequence_type=onnx.TypeProto.Sequence(elem_type=kind))
    raw = kind.SerializeToString() + second.SerializeToString()
    info = _wrap(1, b"q") + _wrap(2, raw)
    graph = proto.graph.SerializeToString() + _wrap(13, info)
    proto.ClearField("graph")
    return proto.SerializeToString() + _key(7, 2) + _varint(len(graph)) + graph


def _varint(number):
    out = b""
    while True:
        number, low = number >> 7, number & 127
        out += bytes([low | (128 if number else 0)])
        if not number:
            return out


@reading
def bytes_deep(folder):
    """Graphs in attributes of nodes of graphs, a hundred deep."""
    graph = b""
    for _ in range(40):  # field 1 of a graph is a node, 5 of a node an attribute, 6 of an attribute a graph
        for number in (6, 5, 1):
            graph = _key(number, 2) + _varint(len(graph)) + graph
    return _key(1, 0) + b"\x08" + _key(7, 2) + _varint(len(graph)) + graph


# --- tensors that are not what they say ------------------------------------------------------------------------------------------------


def _weights(change):
    def make(folder):
        proto = linear()
        change(proto.graph.initializer[0])
        return proto

    return make


def _set(**fields):
    def change(tensor):
        for name, content in fields.items():
            if isinstance(content, list):
                tensor.ClearField(name)
                getattr(tensor, name).extend(content)
            else:
                setattr(tensor, name, content)

    return change


each(
    READING,
    "tensor",
    raw_long=_weights(lambda t: _set(raw_data=t.raw_data * 3)(t)),
    raw_short=_weights(lambda t: _set(raw_data=t.raw_data[:-1])(t)),
    raw_empty=_weights(_set(raw_data=b"")),
    negative=_weights(_set(dims=[-4, -3])),
    negative_one=_weights(_set(dims=[-1, 3])),
    huge=_weights(_set(dims=[2**62, 4])),
    overflow=_weights(_set(dims=[2**32, 2**32, 12])),  # the product is 12 in 64 bits
    overflow_zero=_weights(_set(dims=[2**32, 2**32])),
    type_unknown=_weights(_set(data_type=99)),
    type_undefined=_weights(_set(data_type=0)),
    type_double=_weights(_set(data_type=TensorProto.DOUBLE)),
    type_string=_weights(_set(data_type=TensorProto.STRING)),
    both=_weights(_set(float_data=[1.0] * 12)),
    both_other=_weights(_set(int64_data=[1] * 12)),
    typed_short=_weights(lambda t: (t.ClearField("raw_data"), _set(float_data=[1.0] * 11)(t))),
    typed_long=_weights(lambda t: (t.ClearField("raw_data"), _set(float_data=[1.0] * 13)(t))),
    typed_other=_weights(lambda t: (t.ClearField("raw_data"), _set(int32_data=[1] * 12)(t))),
    no_data=_weights(lambda t: t.ClearField("raw_data")),
    segment=_weights(lambda t: setattr(t.segment, "begin", 3)),
    int8_out_of_range=_weights(lambda t: (t.ClearField("raw_data"), _set(data_type=3, int32_data=[1000] * 12)(t))),
    bool_of_seven=_weights(_set(data_type=9, raw_data=b"\7" * 12)),
    dims_none=_weights(_set(dims=[])),
)


@reading
def tensor_in_attribute(folder):
    tensor = array("c", WEIGHTS)
    tensor.raw_data = tensor.raw_data[:5]
    return model([node("Constant", "", "c", value=tensor), node("MatMul", "x c")])


@reading
def tensor_in_subgraph(folder):
    bad = array("k", WEIGHTS)
    bad.dims[0] = 1000
    branch = helper.make_graph([node("MatMul", "x k", "r")], "b", [], [value("r", shape=None)], [bad])
    stored = [array("c", np.bool_(True))]
    return model([node("If", "c", then_branch=branch, else_branch=branch)], stored=stored)


@reading
def tensor_in_function(folder):
    tensor = array("c", WEIGHTS)
    tensor.raw_data = tensor.raw_data[:5]
    body = [node("Constant", "", "c", value=tensor), node("MatMul", "a c", "r")]
    return model(
        [node("f", "x", domain="local")],
        functions=[helper.make_function("local", "f", ["a"], ["r"], body, [helper.make_opsetid("", 18)])],
        local=1,
    )


@reading
def sparse_indices_of_other_number(folder):
    sparse = helper.make_sparse_tensor(array("s", np.float32([1, 2])), int64("", 0, 1, 2), [12])
    proto = model([node("Identity", "x")])
    proto.graph.sparse_initializer.append(sparse)
    return proto


@runtime
def sparse_index_outside(folder):
    sparse = helper.make_sparse_tensor(array("s", np.float32([1, 2])), int64("", 0, 10**9), [2, 4])
    proto = model([node("Add", "x s")])
    proto.graph.sparse_initializer.append(sparse)
    return proto


# --- external data ----------------------------------------------------------------------------------------------------------------------


CONTENT = WEIGHTS.tobytes()


def _external(*entries, data=CONTENT, prepare=None, dims=None):
    def make(folder):
        proto = linear()
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, content in entries:
            tensor.external_data.add(key=key, value=content)
        if dims:
            tensor.ClearField("dims")
            tensor.dims.extend(dims)
        if data is not None:
            (folder / "w.bin").write_bytes(data)
        if prepare:
            prepare(folder)
        return proto

    return make


def _outside(folder):
    other = folder.parent / f"{folder.name}-outside"
    other.mkdir(exist_ok=True)
    (other / "secret.bin").write_bytes(WEIGHTS.tobytes())
    return other


def _link(folder):
    (folder / "l.bin").symlink_to(_outside(folder) / "secret.bin")


def _link_of_folder(folder):
    (folder / "sub").symlink_to(_outside(folder))


def _hard_link(folder):
    (folder / "l.bin").hardlink_to(_outside(folder) / "secret.bin")


HERE = ("location", "w.bin")
each(
    READING,
    "external",
    up=_external(("location", "../w.bin")),
    up_inside=_external(("location", "sub/../w.bin")),
    up_later=_external(("location", "sub/../../w.bin")),
    absolute=_external(("location", "/etc/passwd")),
    device=_external(("location", "/dev/zero")),
    windows=_external(("location", "..\\w.bin")),
    drive=_external(("location", "C:/w.bin")),
    url=_external(("location", "file:///etc/passwd")),
    empty=_external(("location", "")),
    dot=_external(("location", ".")),
    null=_external(("location", "w.bin\0.txt")),
    memory=_external(("location", "*/_ORT_MEM_ADDR_/*"), ("offset", "4096"), ("length", "48")),
    missing=_external(("location", "nothing.bin")),
    no_location=_external(("offset", "0")),
    no_entries=_external(),
    folder=_external(("location", "sub"), prepare=lambda folder: (folder / "sub").mkdir()),
    pipe=_external(("location", "pipe"), prepare=lambda folder: os.mkfifo(folder / "pipe")),
    symbolic_link=_external(("location", "l.bin"), prepare=_link),
    link_of_folder=_external(("location", "sub/secret.bin"), prepare=_link_of_folder),
    hard_link=_external(("location", "l.bin"), prepare=_hard_link),
    negative_offset=_external(HERE, ("offset", "-48")),
    negative_length=_external(HERE, ("length", "-1")),
    huge_offset=_external(HERE, ("offset", str(2**62))),
    overflowing_offset=_external(HERE, ("offset", str(2**64))),
    huge_length=_external(HERE, ("length", str(2**50))),
    short_length=_external(HERE, ("length", "47")),
    odd_offset=_external(HERE, ("offset", "0x0")),
    spaced_offset=_external(HERE, ("offset", " 0")),
    plus_offset=_external(HERE, ("offset", "+0")),
    past_end=_external(HERE, ("offset", "8"), ("length", "48")),
    short_file=_external(HERE, data=bytes(47)),
    empty_file=_external(HERE, data=b""),
    huge_dims=_external(HERE, dims=[2**20, 2**20]),
    second_location=_external(HERE, ("location", "../w.bin")),
    second_length=_external(HERE, ("length", "48"), ("length", "48")),
    unknown_key=_external(HERE, ("path", "/etc/passwd")),
    holes=_external(
        ("location", "holes.bin"), dims=[2**15, 2**14], prepare=lambda folder: os.truncate(_touched(folder / "holes.bin"), 2**31)
    ),
)


def _touched(file):
    file.touch()
    return file


@reading
def external_and_raw(folder):
    proto = _external(HERE)(folder)
    proto.graph.initializer[0].raw_data = WEIGHTS.tobytes()
    return proto


@reading
def external_unsaid(folder):
    proto = _external(HERE)(folder)
    proto.graph.initializer[0].data_location = TensorProto.DEFAULT
    return proto


@reading
def external_in_attribute(folder):
    tensor = TensorProto(name="c", data_type=F, dims=[4, 3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret.bin")
    return model([node("Constant", "", "c", value=tensor), node("MatMul", "x c")])


# --- names, order, scopes ---------------------------------------------------------------------------------------------------------------

X4 = value("x"), value("x2")
each(
    READING,
    "names",
    two_inputs=lambda f: model([node("Neg")], inputs=[value("x"), value("x")]),
    two_outputs=lambda f: model([node("Neg")], outputs=[value("y", shape=None), value("y", shape=None)]),
    two_initializers=lambda f: model([node("MatMul", "x w")], stored=[array("w", WEIGHTS), array("w", WEIGHTS)]),
    two_makers=lambda f: model([node("Neg"), node("Abs")]),
    two_outputs_of_a_node=lambda f: model([node("Split", "x", "y y", axis=1, num_outputs=2)]),
    maker_of_an_input=lambda f: model([node("Neg", "x", "x"), node("Abs")]),
    maker_of_an_initializer=lambda f: model([node("Neg", "x", "w"), node("MatMul", "x w")], stored=[array("w", WEIGHTS)]),
    nobody_makes=lambda f: model([node("Add", "x ghost")]),
    nobody_makes_output=lambda f: model([node("Neg", "x", "z")]),
    unsorted=lambda f: model([node("Neg", "a"), node("Abs", "x", "a")]),
    cycle=lambda f: model([node("Add", "x b", "a"), node("Neg", "a", "b"), node("Abs", "a")]),
    itself=lambda f: model([node("Add", "x y")]),
    no_name_input=lambda f: model([node("Neg")], inputs=[value("x"), value("")]),
    no_name_output=lambda f: model([node("Neg")], outputs=[value("", shape=None)]),
    no_outputs=lambda f: model([node("Neg")], outputs=[]),
    no_operator=lambda f: model([node("")]),
    bell=lambda f: model([node("Neg", "x", "y\a"), node("Abs", "y\a")]),
    escape=lambda f: model([helper.make_node("Neg", ["x"], ["y"], name="\x1b[2Jgone")]),
    newline=lambda f: model([helper.make_node("Neg", ["x"], ["y"], name="a\nrejected: no")]),
    null=lambda f: model([helper.make_node("Neg", ["x"], ["y"], name="a\0b")]),
    right_to_left=lambda f: model([helper.make_node("Neg", ["x"], ["y"], name="a\u202eb")]),
    inner_of_a_branch=lambda f: _branch([node("Neg", "x", "r")], after=[node("Abs", "r")], out="z"),
    nobody_makes_in_a_branch=lambda f: _branch([node("Neg", "ghost", "r")]),
    later_in_a_branch=lambda f: _branch([node("Neg", "later", "r")], after=[node("Abs", "x", "later")]),
)


def _branch(nodes, after=(), out="y"):
    branch = helper.make_graph(nodes, "b", [], [value("r", shape=None)])
    stored = [array("c", np.bool_(True))]
    return model([node("If", "c", out, then_branch=branch, else_branch=branch), *after], stored=stored)


# --- attributes, operators, versions ----------------------------------------------------------------------------------------------------


def _attribute(change, operator="Softmax", name="axis"):
    def make(folder):
        proto = model([node(operator, **{name: 1})])
        change(proto.graph.node[0].attribute[0])
        return proto

    return make


def _imports(change):
    def make(folder):
        proto = linear()
        change(proto)
        return proto

    return make


each(
    READING,
    "attribute",
    unknown=lambda f: model([node("Relu", evil=3)]),
    string_for_int=lambda f: model([node("Softmax", axis="one")]),
    float_for_int=lambda f: model([node("Softmax", axis=1.5)]),
    ints_for_int=lambda f: model([node("Softmax", axis=[1, 2])]),
    twice=_attribute(lambda a: None, "Relu", "axis"),
    two_values=_attribute(lambda a: setattr(a, "f", 2.0)),
    other_value=_attribute(lambda a: (a.ClearField("i"), setattr(a, "f", 2.0))),
    no_type=_attribute(lambda a: setattr(a, "type", 0)),
    no_name=_attribute(lambda a: setattr(a, "name", "")),
    refers_outside=_attribute(lambda a: (a.ClearField("i"), setattr(a, "ref_attr_name", "axis"))),
    tensor_missing=_attribute(lambda a: (a.ClearField("i"), setattr(a, "type", 4))),
    graph_missing=_attribute(lambda a: (a.ClearField("i"), setattr(a, "type", 5))),
    required_missing=lambda f: model([node("Cast")]),
)


@reading
def attribute_there_twice(folder):
    proto = model([node("Softmax", axis=1)])
    proto.graph.node[0].attribute.append(helper.make_attribute("axis", 0))
    return proto


each(
    READING,
    "version",
    opset_none=_imports(lambda m: m.ClearField("opset_import")),
    opset_0=_imports(lambda m: setattr(m.opset_import[0], "version", 0)),
    opset_negative=_imports(lambda m: setattr(m.opset_import[0], "version", -1)),
    opset_9999=_imports(lambda m: setattr(m.opset_import[0], "version", 9999)),
    opset_huge=_imports(lambda m: setattr(m.opset_import[0], "version", 2**62)),
    opset_missing=_imports(lambda m: m.opset_import.pop(0)),
    opset_twice=_imports(lambda m: m.opset_import.append(helper.make_opsetid("", 17))),
    opset_two_names=_imports(lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 17))),
    ir_none=_imports(lambda m: m.ClearField("ir_version")),
    ir_0=_imports(lambda m: setattr(m, "ir_version", 0)),
    ir_2=_imports(lambda m: setattr(m, "ir_version", 2)),
    ir_negative=_imports(lambda m: setattr(m, "ir_version", -3)),
    ir_9999=_imports(lambda m: setattr(m, "ir_version", 9999)),
    no_graph=_imports(lambda m: m.ClearField("graph")),
)
each(
    READING,
    "operator",
    unknown=lambda f: model([node("NoSuchOperator")]),
    domain_not_imported=lambda f: model([node("FooBar", domain="evil.corp")]),
    too_few_inputs=lambda f: model([node("Add")]),
    too_many_inputs=lambda f: model([node("Neg", "x x")]),
    too_many_outputs=lambda f: model([node("Neg", "x", "y z")]),
    too_new=lambda f: model([node("Gelu")]),  # since opset 20
    of_removed_form=lambda f: model([node("ReduceSum", axes=[1])]),  # an input since opset 13
)
each(RUNTIME, "version", opset_1=_imports(lambda m: setattr(m.opset_import[0], "version", 1)))
each(
    RUNTIME,
    "operator",
    domain_unknown=lambda f: model([node("FooBar", domain="evil.corp")], **{"evil.corp": 1}),
    microsoft_unknown=lambda f: model([node("FooBar", domain="com.microsoft")]),
    microsoft_attribute=lambda f: model([node("Gelu", domain="com.microsoft", evil=3)]),
    microsoft_version=lambda f: model([node("Gelu", domain="com.microsoft")], **{"com.microsoft": 999}),
    ml_version=lambda f: model([node("Normalizer", domain="ai.onnx.ml")], **{"ai.onnx.ml": 999}),
    without_kernel=lambda f: model(
        [node("Adam", "x x x x x", "y z", domain="ai.onnx.preview.training")], **{"ai.onnx.preview.training": 1}
    ),
    context_of_a_provider=lambda f: model([node("EPContext", domain="com.microsoft", ep_cache_context="/etc/passwd", embed_mode=0)]),
)

# --- types that lie ---------------------------------------------------------------------------------------------------------------------

each(
    READING,
    "lie",
    output_type=lambda f: model([node("Neg")], outputs=[value("y", I64)]),
    output_shape=lambda f: model([node("Neg")], outputs=[value("y", F, (2, 5))]),
    output_rank=lambda f: model([node("Neg")], outputs=[value("y", F, (2, 4, 1))]),
    input_none=lambda f: model([node("Neg")], inputs=[onnx.ValueInfoProto(name="x")]),
    input_undefined=lambda f: model([node("Neg")], inputs=[value("x", 0)]),
    input_unknown=lambda f: model([node("Neg")], inputs=[value("x", 77)]),
    input_negative=lambda f: model([node("Neg")], inputs=[value("x", F, (2, -4))]),
    output_none=lambda f: model([node("Neg")], outputs=[onnx.ValueInfoProto(name="y")]),
    inner_type=lambda f: _inner(value("h", I64)),
    inner_shape=lambda f: _inner(value("h", F, (7, 7))),
)


def _inner(info):
    proto = model([node("Neg", "x", "h"), node("Abs", "h")])
    proto.graph.value_info.append(info)
    return proto


# --- functions --------------------------------------------------------------------------------------------------------------------------


def _function(name, nodes, inputs=("a",), outputs=("r",), **more):
    return helper.make_function(
        "local", name, list(inputs), list(outputs), nodes, [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)], **more
    )


def _call(name, *places):
    return helper.make_node(name, [places[0]], [places[1]], domain="local")


def _functions(*functions, first="f"):
    return lambda folder: model([_call(first, "x", "y")], functions=list(functions), local=1)


def _doubling(levels):
    last = _function("f0", [node("Neg", "a", "r")])
    rest = [_function(f"f{n}", [_call(f"f{n - 1}", "a", "m"), _call(f"f{n - 1}", "m", "r")]) for n in range(1, levels)]
    return [last, *rest]


def _reference(name):
    made = node("Softmax", "a", "r", axis=1)
    made.attribute[0].ClearField("i")
    made.attribute[0].ref_attr_name = name
    return made


each(
    READING,
    "function",
    itself=_functions(_function("f", [_call("f", "a", "r")])),
    in_a_circle=_functions(_function("f", [_call("g", "a", "r")]), _function("g", [_call("f", "a", "r")])),
    bomb=_functions(*_doubling(40), first="f39"),
    bomb_unused=lambda f: model([node("Neg")], functions=_doubling(40), local=1),
    long_chain=_functions(
        _function("f0", [node("Neg", "a", "r")]), *(_function(f"f{n}", [_call(f"f{n - 1}", "a", "r")]) for n in range(1, 400)), first="f399"
    ),
    twice=_functions(_function("f", [node("Neg", "a", "r")]), _function("f", [node("Abs", "a", "r")])),
    two_inputs=_functions(_function("f", [node("Neg", "a", "r")], inputs=("a", "a"))),
    nobody_makes=_functions(_function("f", [node("Add", "a ghost", "r")])),
    outer_value=_functions(_function("f", [node("Add", "a x", "r")])),
    unmade_output=_functions(_function("f", [node("Neg", "a", "q")])),
    unsorted=_functions(_function("f", [node("Neg", "q", "r"), node("Abs", "a", "q")])),
    domain_not_imported=lambda f: model([_call("f", "x", "y")], functions=[_function("f", [node("Neg", "a", "r")])]),
    unknown_attribute=_functions(_function("f", [_reference("axis")])),
)
each(RUNTIME, "function", missing=_functions(_function("f", [node("Neg", "a", "r")]), first="g"))


@reading
def subgraph_levels(folder):
    graph = helper.make_graph([node("Neg", "x", "r")], "b", [], [value("r", shape=None)])
    flat = graph
    for _ in range(20):
        graph = helper.make_graph([node("If", "c", "r", then_branch=graph, else_branch=flat)], "b", [], [value("r", shape=None)])
    return model([node("If", "c", then_branch=graph, else_branch=flat)], stored=[array("c", np.bool_(True))])


# --- bombs: of memory and of time, at load (all constant) and at run ----------------------------------------------------------------------


def _plain(operator, inputs, domain="", **stored):
    attributes = stored.pop("attributes", {})
    opset, kind = stored.pop("opset", 18), stored.pop("gives", F)
    return lambda folder: model(
        [node(operator, inputs, domain=domain, **attributes)],
        outputs=[value("y", kind, None)],
        stored=[array(name, content) for name, content in stored.items()],
        opset=opset,
    )


def _to_x(nodes, **stored):
    """Nodes over stored tensors alone, whose last value "q" meets x."""
    return lambda folder: model([*nodes, node("Cast", "q", "f", to=F), node("Add", "x f")], stored=[array(k, v) for k, v in stored.items()])


def _loop(trips, stacked=False):
    body = helper.make_graph(
        [node("Identity", "ci", "co"), node("Add", "vi vi", "vo"), *([node("Identity", "vi", "so")] if stacked else [])],
        "b",
        [value("it", I64, ()), value("ci", TensorProto.BOOL, ()), value("vi", F, ())],
        [value("co", TensorProto.BOOL, ()), value("vo", F, ()), *([value("so", F, ())] if stacked else [])],
    )
    loop = node("Loop", "m c k", "l s" if stacked else "l", body=body)
    stored = [array("m", np.int64(trips)), array("c", np.bool_(True)), array("k", np.float32(1))]
    return lambda folder: model([loop, node("Add", "x l")], stored=stored)


L = np.int64
each(
    RUNTIME,
    "bomb",
    constant_of_shape=_to_x([node("ConstantOfShape", "s", "q")], s=L([10**6, 10**6])),
    constant_of_shape_negative=_to_x([node("ConstantOfShape", "s", "q")], s=L([-5, 3])),
    constant_of_shape_overflow=_to_x([node("ConstantOfShape", "s", "q")], s=L([2**32, 2**32, 3])),
    range=_to_x([node("Range", "a b c", "r"), node("ReduceSum", "r", "q", keepdims=0)], a=L(0), b=L(10**12), c=L(1)),
    range_no_step=_to_x([node("Range", "a b c", "r"), node("ReduceSum", "r", "q", keepdims=0)], a=L(0), b=L(10), c=L(0)),
    pad=_plain("Pad", "x p", p=L([0, 0, 10**5, 10**6])),
    pad_overflow=_plain("Pad", "x p", p=L([0, 0, 2**62, 2**62])),
    expand=_plain("Expand", "x s", s=L([10**6, 10**6, 2, 4])),
    tile=_plain("Tile", "x r", r=L([10**6, 10**6])),
    tile_overflow=_plain("Tile", "x r", r=L([2**62, 2**62])),
    resize=_plain("Resize", "x roi k", roi=np.float32([]), k=np.float32([1e6, 1e6])),
    resize_sizes=_plain("Resize", "x roi k s", roi=np.float32([]), k=np.float32([]), s=L([10**6, 10**6])),
    upsample_nan=_plain("Resize", "x roi k", roi=np.float32([]), k=np.float32([np.nan, np.inf])),
    one_hot=_to_x([node("OneHot", "i d v", "q")], i=L([[0]]), d=L(10**12), v=np.float32([0, 1])),
    eye=_to_x([node("ConstantOfShape", "s", "z"), node("EyeLike", "z", "q")], s=L([10**6, 10**6])),
    outer=_to_x(
        [node("ConstantOfShape", "a", "p"), node("ConstantOfShape", "b", "w"), node("MatMul", "p w", "q")], a=L([10**6, 1]), b=L([1, 10**6])
    ),
    window=_to_x([node("HannWindow", "s", "q")], s=L(10**12)),
    loop=_loop(2**62),
    loop_stacked=_loop(2**40, stacked=True),
    doubling=lambda f: model(
        [
            node("Concat", "x x", "a0", axis=0),
            *(node("Concat", f"a{n} a{n}", f"a{n + 1}", axis=0) for n in range(40)),
            node("Identity", "a40"),
        ]
    ),
    input_by_signature=lambda f: model([node("Neg")], inputs=[value("x", F, (10**6, 10**6))], outputs=[value("y", F, (10**6, 10**6))]),
    conv_kernel=_plain(
        "ConvTranspose",
        "u w",
        u=np.ones((1, 1, 2, 4), np.float32),
        w=np.ones((1, 1, 2, 2), np.float32),
        attributes={"strides": [10**6, 10**6]},
    ),
)

# --- kernels: numbers that trap, places outside, sizes that lie ---------------------------------------------------------------------------


def _ints(a, b, operator):
    return _to_x([node(operator, "a b", "q")], a=a, b=b)


def _at_run(operator):
    nodes = [node("Cast", "x", "i", to=I32), node("Sub", "i i", "z"), node(operator, "i z")]
    return lambda folder: model(nodes, outputs=[value("y", I32, None)])


each(
    RUNTIME,
    "trap",
    int32_by_zero=_ints(np.int32([1]), np.int32([0]), "Div"),
    int64_by_zero=_ints(L([1]), L([0]), "Div"),
    uint8_by_zero=_ints(np.uint8([1]), np.uint8([0]), "Div"),
    int32_least=_ints(np.int32([-(2**31)]), np.int32([-1]), "Div"),
    int64_least=_ints(L([-(2**63)]), L([-1]), "Div"),
    mod_zero=_ints(np.int32([1]), np.int32([0]), "Mod"),
    mod_least=_ints(np.int32([-(2**31)]), np.int32([-1]), "Mod"),
    mod64_least=_ints(L([-(2**63)]), L([-1]), "Mod"),
    by_zero_at_run=_at_run("Div"),
    mod_zero_at_run=_at_run("Mod"),
)
U = np.ones((1, 1, 4, 4), np.float32)
each(
    RUNTIME,
    "kernel",
    gather=_plain("Gather", "x i", i=L([10**9])),
    gather_negative=_plain("Gather", "x i", i=L([-(10**9)])),
    gather_elements=_plain("GatherElements", "x i", i=L([[10**9]])),
    gather_nd=_plain("GatherND", "x i", i=L([[10**9, 0]])),
    scatter_elements=_plain("ScatterElements", "x i u", i=L([[10**9]]), u=np.float32([[1]])),
    scatter_nd=_plain("ScatterND", "x i u", i=L([[10**9, 0]]), u=np.float32([1])),
    slice_no_step=_plain("Slice", "x a b c d", a=L([0]), b=L([2]), c=L([0]), d=L([0])),
    slice_axis=_plain("Slice", "x a b c", a=L([0]), b=L([2]), c=L([77])),
    split_negative=lambda f: model([node("Split", "x s", "y z", axis=1)], stored=[int64("s", -1, 5)]),
    split_other_sum=lambda f: model([node("Split", "x s", "y z", axis=1)], stored=[int64("s", 3, 3)]),
    topk_negative=lambda f: model([node("TopK", "x k", "y z")], stored=[int64("k", -1)]),
    topk_many=lambda f: model([node("TopK", "x k", "y z")], stored=[int64("k", 10**9)]),
    reshape=_plain("Reshape", "x s", s=L([3, 3])),
    reshape_negative=_plain("Reshape", "x s", s=L([-2, -4])),
    reshape_two_unknown=_plain("Reshape", "x s", s=L([-1, -1])),
    reshape_overflow=_plain("Reshape", "x s", s=L([2**62, 2**62])),
    unsqueeze_axis=_plain("Unsqueeze", "x a", a=L([77])),
    unsqueeze_twice=_plain("Unsqueeze", "x a", a=L([0, 0])),
    squeeze=_plain("Squeeze", "x a", a=L([0])),
    transpose_twice=_plain("Transpose", "x", attributes={"perm": [0, 0]}),
    transpose_outside=_plain("Transpose", "x", attributes={"perm": [0, 9]}),
    softmax_axis=_plain("Softmax", "x", attributes={"axis": 77}),
    concat_axis=_plain("Concat", "x x", attributes={"axis": 77}),
    flatten_axis=_plain("Flatten", "x", attributes={"axis": 77}),
    pad_negative=_plain("Pad", "x p", p=L([-(10**6), 0, 0, 0])),
    pad_short=_plain("Pad", "x p", p=L([0, 0, 0])),
    pad_mode=_plain("Pad", "x p", p=L([0, 0, 1, 1]), attributes={"mode": "evil\x1b[2J"}),
    tile_negative=_plain("Tile", "x r", r=L([-1, 2])),
    tile_short=_plain("Tile", "x r", r=L([2])),
    expand_negative=_plain("Expand", "x s", s=L([-2, 4])),
    space_no_block=_plain("SpaceToDepth", "u", u=U, attributes={"blocksize": 0}),
    depth_no_block=_plain("DepthToSpace", "u", u=U, attributes={"blocksize": 0}),
    depth_negative_block=_plain("DepthToSpace", "u", u=U, attributes={"blocksize": -1}),
    conv_no_group=_plain("Conv", "u w", u=U, w=U, attributes={"group": 0}),
    conv_no_stride=_plain("Conv", "u w", u=U, w=np.ones((1, 1, 2, 2), np.float32), attributes={"strides": [0, 0]}),
    conv_negative_stride=_plain("Conv", "u w", u=U, w=np.ones((1, 1, 2, 2), np.float32), attributes={"strides": [-1, -1]}),
    conv_channels=_plain("Conv", "u w", u=U, w=np.ones((1, 3, 2, 2), np.float32)),
    conv_short_bias=_plain("Conv", "u w b", u=U, w=np.ones((64, 1, 2, 2), np.float32), b=np.ones(1, np.float32)),
    conv_pads=_plain("Conv", "u w", u=U, w=np.ones((1, 1, 2, 2), np.float32), attributes={"pads": [-9, -9, -9, -9]}),
    conv_kernel=_plain("Conv", "u w", u=U, w=np.ones((1, 1, 2, 2), np.float32), attributes={"kernel_shape": [9, 9]}),
    pool_no_stride=_plain("MaxPool", "u", u=U, attributes={"kernel_shape": [2, 2], "strides": [0, 0]}),
    pool_no_kernel=_plain("AveragePool", "u", u=U, attributes={"kernel_shape": [0, 0]}),
    pool_negative_kernel=_plain("MaxPool", "u", u=U, attributes={"kernel_shape": [-1, -1]}),
    unpool=_plain("MaxUnpool", "u i", u=U, i=np.full((1, 1, 4, 4), 10**9), attributes={"kernel_shape": [2, 2], "strides": [2, 2]}),
    unpool_negative=_plain(
        "MaxUnpool", "u i", u=U, i=np.full((1, 1, 4, 4), -(10**6)), attributes={"kernel_shape": [2, 2], "strides": [2, 2]}
    ),
    roi=_plain("RoiAlign", "u r i", u=U, r=np.float32([[0, 0, 1, 1]]), i=L([10**6])),
    roi_negative=_plain("RoiAlign", "u r i", u=U, r=np.float32([[0, 0, 1, 1]]), i=L([-5])),
    norm_scale=_plain("BatchNormalization", "u s s s s", u=np.ones((1, 64, 2, 2), np.float32), s=np.ones(1, np.float32)),
    instance_norm=_plain("InstanceNormalization", "u s s", u=np.ones((1, 64, 2, 2), np.float32), s=np.ones(1, np.float32)),
    layer_norm=_plain("LayerNormalization", "x s", s=np.ones(99, np.float32)),
    group_norm_odd=_plain(
        "GroupNormalization", "u s s", u=np.ones((1, 4, 2, 2), np.float32), s=np.ones(3, np.float32), attributes={"num_groups": 3}, opset=21
    ),
    lrn=_plain("LRN", "u", u=U, attributes={"size": 0}),
    lstm=_plain(
        "LSTM",
        "u w r",
        u=np.ones((2, 1, 4), np.float32),
        w=np.ones((1, 4, 4), np.float32),
        r=np.ones((1, 4, 1), np.float32),
        attributes={"hidden_size": 4096},
    ),
    lstm_lengths=lambda f: model(
        [node("LSTM", "u w r b l", hidden_size=1)],
        stored=[
            array("u", np.ones((2, 1, 4), np.float32)),
            array("w", np.ones((1, 4, 4), np.float32)),
            array("r", np.ones((1, 4, 1), np.float32)),
            array("b", np.ones((1, 8), np.float32)),
            array("l", np.int32([10**9])),
        ],
    ),
    gru_no_hidden=_plain(
        "GRU",
        "u w r",
        u=np.ones((2, 1, 4), np.float32),
        w=np.ones((1, 3, 4), np.float32),
        r=np.ones((1, 3, 1), np.float32),
        attributes={"hidden_size": -1},
    ),
    rnn=_plain(
        "RNN",
        "u w r",
        u=np.ones((2, 1, 4), np.float32),
        w=np.ones((1, 9, 4), np.float32),
        r=np.ones((1, 1, 1), np.float32),
        attributes={"hidden_size": 9},
    ),
    gemm=_plain("Gemm", "x w", w=np.ones((5, 3), np.float32)),
    gemm_bias=_plain("Gemm", "x w b", w=WEIGHTS, b=np.ones(7, np.float32)),
    matmul=_plain("MatMul", "x w", w=np.ones((5, 3), np.float32)),
    einsum=_plain("Einsum", "x", attributes={"equation": "ijk->i"}),
    einsum_text=_plain("Einsum", "x", attributes={"equation": "((((->"}),
    one_hot=_to_x([node("OneHot", "i d v", "q")], i=L([[0]]), d=L(-5), v=np.float32([0, 1])),
    one_hot_values=_to_x([node("OneHot", "i d v", "q")], i=L([[0]]), d=L(4), v=np.float32([0])),
    cumsum=_plain("CumSum", "x a", a=L(77)),
    trilu=_plain("Trilu", "v", v=np.ones(3, np.float32)),
    reverse=_plain("ReverseSequence", "x l", l=L([10**9, 1, 1, 1]), attributes={"batch_axis": 1, "time_axis": 0}),
    compress=_plain("Compress", "x c", c=np.ones(99, np.bool_), attributes={"axis": 7}),
    quantize=_plain(
        "QuantizeLinear", "x s z", s=np.ones(9, np.float32), z=np.zeros(9, np.uint8), attributes={"axis": 1}, gives=TensorProto.UINT8
    ),
    dequantize=_plain("DequantizeLinear", "q s", q=np.ones((2, 4), np.int8), s=np.ones(9, np.float32), attributes={"axis": 1}),
    dequantize_block=_plain(
        "DequantizeLinear",
        "q s",
        q=np.ones((2, 4), np.int8),
        s=np.ones((2, 1), np.float32),
        attributes={"axis": 1, "block_size": 3},
        opset=21,
    ),
    grid=_plain("GridSample", "u g", u=U, g=np.ones((9, 2, 2, 3), np.float32)),
    col2im=_plain("Col2Im", "c s b", c=np.ones((1, 4, 9), np.float32), s=L([10**6, 10**6]), b=L([2, 2])),
    dft=_plain("DFT", "s n", s=np.ones((1, 8, 1), np.float32), n=L(-4)),
    stft=_plain("STFT", "s p", s=np.ones((1, 8, 1), np.float32), p=L(0), attributes={}),
    mel=_to_x([node("MelWeightMatrix", "a b c d e", "q")], a=L(-1), b=L(8), c=L(8000), d=np.float32(0), e=np.float32(1)),
    nms=_to_x([node("NonMaxSuppression", "b s", "q")], b=np.ones((1, 2, 4), np.float32), s=np.ones((3, 1, 7), np.float32)),
    sequence_at=_to_x([node("SequenceConstruct", "s", "q1"), node("SequenceAt", "q1 i", "q")], s=np.float32([1]), i=L(99)),
    sequence_erase=_to_x(
        [node("SequenceConstruct", "s", "q1"), node("SequenceErase", "q1 i", "q2"), node("SequenceAt", "q2 z", "q")],
        s=np.float32([1]),
        i=L(-99),
        z=L(0),
    ),
    cast_text=_to_x([node("Cast", "t", "q", to=I64)], t=np.array(["evil"], object)),
    cast_unknown=_plain("Cast", "x", attributes={"to": 9999}),
    tfidf_counts=_plain(
        "TfIdfVectorizer",
        "i",
        i=np.int32([1, 2, 3]),
        attributes={
            "mode": "TF",
            "min_gram_length": 1,
            "max_gram_length": 2,
            "max_skip_count": 0,
            "ngram_counts": [0, 10**6],
            "ngram_indexes": [0, 1],
            "pool_int64s": [1, 2],
        },
    ),
    bernoulli=_plain("RandomNormal", "", attributes={"shape": [10**6, 10**6]}),
    multinomial=_plain("Multinomial", "x", attributes={"sample_size": -1}, gives=I32),
)


def _tree(**changes):
    attributes = {
        "n_targets": 1,
        "nodes_falsenodeids": [2, 0, 0],
        "nodes_featureids": [0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_nodeids": [0, 1, 2],
        "nodes_treeids": [0, 0, 0],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_values": [0.0, 0.0, 0.0],
        "target_ids": [0, 0],
        "target_nodeids": [1, 2],
        "target_treeids": [0, 0],
        "target_weights": [1.0, 2.0],
    }
    return lambda folder: model([node("TreeEnsembleRegressor", domain="ai.onnx.ml", **{**attributes, **changes})])


def _learned(operator, **attributes):
    return lambda folder: model([node(operator, domain="ai.onnx.ml", **attributes)])


def _nbits(b=(3, 1, 16), scales=3, **changes):
    attributes = {"K": 4, "N": 3, "bits": 4, "block_size": 32, **changes}
    stored = [array("b", np.zeros(b, np.uint8)), array("s", np.ones(scales, np.float32))]
    return lambda folder: model([node("MatMulNBits", "x b s", domain="com.microsoft", **attributes)], stored=stored)


def _gather_blocks(index, scales=(2, 2), **changes):
    attributes = {"block_size": 32, **changes}
    stored = [array("d", np.zeros((2, 32), np.uint8)), int64("i", index), array("s", np.ones(scales, np.float32))]
    return lambda folder: model([node("GatherBlockQuantized", "d i s", domain="com.microsoft", **attributes)], stored=stored)


each(
    READING,
    "kernel",
    tree_target=_tree(target_ids=[0, 10**6]),
    tree_target_negative=_tree(target_ids=[0, -3]),
    tree_feature_negative=_tree(nodes_featureids=[-5, 0, 0]),
    tree_branch=_tree(nodes_truenodeids=[77, 0, 0]),
    tree_short=_tree(nodes_values=[0.0]),
    tree_short_features=_tree(nodes_featureids=[0]),
    tree_missing=_tree(nodes_missing_value_tracks_true=[1]),
    tree_leaf=_tree(target_nodeids=[1, 77]),
    tree_no_targets=_tree(n_targets=0),
    tree_negative_targets=_tree(n_targets=-1),
    linear_intercepts=_learned("LinearRegressor", coefficients=[1.0] * 8, targets=2, intercepts=[1.0]),
    linear_coefficients=_learned("LinearRegressor", coefficients=[1.0] * 3, targets=2),
    gather_blocks=_gather_blocks(10**9),
    gather_blocks_negative=_gather_blocks(-(10**6)),
    gather_blocks_axis=_gather_blocks(0, gather_axis=77),
)
each(
    RUNTIME,
    "kernel",
    tree_feature=_tree(nodes_featureids=[10**6, 0, 0]),
    tree_loop=_tree(nodes_truenodeids=[0, 0, 0]),
    tree_mode=_tree(nodes_modes=["EVIL", "LEAF", "LEAF"]),
    svm_coefficients=_learned(
        "SVMRegressor", coefficients=[1.0], support_vectors=[1.0, 2.0], n_supports=1000, rho=[0.0], kernel_type="LINEAR"
    ),
    svm_vectors=_learned(
        "SVMRegressor",
        coefficients=[1.0],
        support_vectors=[1.0] * 3,
        n_supports=1,
        rho=[0.0],
        kernel_type="RBF",
        kernel_params=[0.1, 0.0, 0.0],
    ),
    linear_features=_learned("LinearRegressor", coefficients=[1.0, 2.0], targets=1),
    classifier_labels=lambda f: model(
        [node("LinearClassifier", "x", "q y", domain="ai.onnx.ml", coefficients=[1.0] * 12, intercepts=[0.0] * 3, classlabels_ints=[0])]
    ),
    scaler=_learned("Scaler", scale=[1.0] * 3, offset=[0.0] * 3),
    extractor=lambda f: model([node("ArrayFeatureExtractor", "x i", domain="ai.onnx.ml")], stored=[int64("i", 10**9)]),
    nbits_short_weights=_nbits(b=(1, 1, 16)),
    nbits_short_block=_nbits(b=(3, 1, 1)),
    nbits_short_scales=_nbits(scales=1),
    nbits_many_rows=_nbits(N=3000),
    nbits_long_rows=_nbits(K=400),
    nbits_no_block=_nbits(block_size=0),
    nbits_bits=_nbits(bits=7),
    gather_blocks_scales=_gather_blocks(0, scales=(1, 1)),
    gather_blocks_bits=_gather_blocks(0, bits=3),
    gather_blocks_block=_gather_blocks(0, block_size=0),
)

"""Good .onnx files as others make them: every one must be accepted. One maker a file."""

import numpy as np
from hostile_onnx import I32, I64, WEIGHTS, F, L, array, int64, model, node, value
from onnx import TensorProto, helper

f32 = np.float32
GOOD = {}
U8, I8, BF16, F16, BOOL, STR = (getattr(TensorProto, name) for name in ("UINT8", "INT8", "BFLOAT16", "FLOAT16", "BOOL", "STRING"))
IMAGE = ("n", 3, 16, 16)


def ones(*shape, kind=f32):
    return np.ones(shape, kind)


def plain(nodes, gives=F, x=(F, (2, 4)), more=(), stored=None, shape=None, **options):
    """A network of x, and of further inputs, to y."""
    inputs = [value("x", *x), *(value(name, *one) for name, one in more)]
    tensors = [array(name, content) for name, content in (stored or {}).items()]
    return lambda folder: model(nodes, inputs, [value("y", gives, shape)], tensors, **options)


def one(operator, inputs="x", domain="", gives=F, x=(F, (2, 4)), more=(), opset=18, stored=None, outs="y", **attributes):
    return plain([node(operator, inputs, outs, domain=domain, **attributes)], gives, x, more, stored, opset=opset)


for number in range(13, 24):
    GOOD[f"opset_{number}"] = plain(
        [node("MatMul", "x w", "h"), node("Softmax", "h", axis=-1)], x=(F, ("batch", 4)), stored={"w": WEIGHTS}, opset=number, ir=8
    )
GOOD["opset_6"] = plain([node("Relu", "x", "h"), node("Softmax", "h", axis=1)], opset=6, ir=3)
for number in (4, 5, 6, 7, 8, 9, 10, 11):
    GOOD[f"ir_{number}"] = plain([node("MatMul", "x w", "h"), node("Relu", "h")], stored={"w": WEIGHTS}, opset=13, ir=number)

MS = "com.microsoft"
SEQUENCE = (F, ("batch", "time", 8))
GOOD |= {
    # arithmetic, shapes, indices
    "elementwise": plain([node("Mul", "x x", "a"), node("Sqrt", "a", "b"), node("Sub", "b x", "c"), node("Erf", "c")]),
    "compare": plain([node("Greater", "x x", "a"), node("Not", "a", "b"), node("Where", "b x x")]),
    "integers": plain(
        [node("Cast", "x", "a", to=I32), node("Div", "a k", "b"), node("Mod", "b k")], gives=I32, stored={"k": np.int32([3])}
    ),
    "bits": one("BitShift", "x k", gives=U8, x=(U8, (4,)), stored={"k": np.uint8([1])}, direction="LEFT"),
    "reduce": plain([node("ReduceMean", "x a", "h", keepdims=1), node("ReduceMax", "h", keepdims=0)], stored={"a": L([1])}),
    "reshape": one("Reshape", "x s", stored={"s": L([0, 2, -1])}),
    "reshape_by_input": one("Reshape", "x s", more=[("s", (I64, (2,)))]),
    "transpose": one("Transpose", perm=[1, 0]),
    "slice": one("Slice", "x a b c d", stored={"a": L([0]), "b": L([3]), "c": L([1]), "d": L([2])}),
    "split": plain([node("Split", "x", "a b", axis=1, num_outputs=2), node("Concat", "b a", axis=1)]),
    "pad": one("Pad", "x p", stored={"p": L([1, 1, 0, 0])}, mode="reflect"),
    "tile": one("Tile", "x r", stored={"r": L([2, 3])}),
    "expand": one("Expand", "x s", stored={"s": L([3, 2, 4])}),
    "squeeze": plain([node("Unsqueeze", "x a", "h"), node("Squeeze", "h a")], stored={"a": L([0])}),
    "range": plain([node("Range", "a b c", "r"), node("Mul", "r x")], x=(F, (1,)), stored={"a": f32(0), "b": f32(5), "c": f32(1)}),
    "size_of_input": plain([node("Shape", "x", "s"), node("ConstantOfShape", "s", "z"), node("Add", "x z")], x=(F, ("a", "b"))),
    "embedding": one("Gather", "w x", x=(I64, ("batch", "time")), stored={"w": WEIGHTS}),
    "gather_elements": one("GatherElements", "x i", stored={"i": L([[0, 1, 0, 1]])}),
    "gather_nd": one("GatherND", "x i", stored={"i": L([[0, 1]])}),
    "scatter": one("ScatterElements", "x i u", stored={"i": L([[1, 0]]), "u": f32([[1, 2]])}, axis=1),
    "scatter_nd": one("ScatterND", "x i u", stored={"i": L([[1, 0]]), "u": f32([3])}),
    "top_k": one("TopK", "x k", outs="y i", stored={"k": L([2])}),
    "arg_max": one("ArgMax", gives=I64, axis=1),
    "non_zero": one("NonZero", gives=I64),
    "cumsum": one("CumSum", "x a", stored={"a": np.int32(1)}),
    "one_hot": plain([node("ArgMax", "x", "i", axis=1, keepdims=0), node("OneHot", "i d v")], stored={"d": L(4), "v": f32([0, 1])}),
    "einsum": one("Einsum", "x w", stored={"w": WEIGHTS}, equation="bi,ij->bj"),
    "trilu": one("Trilu", upper=0),
    "random": plain([node("RandomNormalLike", "x", "r"), node("Add", "x r")]),
    "dropout": one("Dropout"),
    "constant": plain([node("Constant", "", "c", value=array("", WEIGHTS)), node("MatMul", "x c")]),
    "constant_of_floats": plain([node("Constant", "", "c", value_floats=[1.0, 2.0, 3.0, 4.0]), node("Add", "x c")]),
    # images, sequences, norms
    "convolution": plain(
        [
            node("Conv", "x w b", "h", pads=[1, 1, 1, 1]),
            node("MaxPool", "h", "p", kernel_shape=[2, 2], strides=[2, 2]),
            node("GlobalAveragePool", "p"),
        ],
        x=(F, IMAGE),
        stored={"w": ones(4, 3, 3, 3), "b": ones(4)},
    ),
    "depthwise": one("Conv", "x w", x=(F, IMAGE), stored={"w": ones(3, 1, 3, 3)}, group=3),
    "transposed": one("ConvTranspose", "x w", x=(F, IMAGE), stored={"w": ones(3, 2, 2, 2)}, strides=[2, 2]),
    "any_image": plain(
        [node("Conv", "x w", "h", strides=[4, 4], kernel_shape=[7, 7]), node("AveragePool", "h", kernel_shape=[3, 3])],
        x=(F, ("n", 3, "height", "width")),
        stored={"w": ones(4, 3, 7, 7)},
    ),
    "resize": one("Resize", "x e s", x=(F, IMAGE), stored={"e": f32([]), "s": f32([1, 1, 2, 2])}, mode="linear"),
    "space_to_depth": one("SpaceToDepth", x=(F, IMAGE), blocksize=2),
    "grid_sample": one("GridSample", "x g", x=(F, (1, 3, 4, 4)), stored={"g": ones(1, 2, 2, 2)}),
    "batch_norm": one("BatchNormalization", "x s s s s", x=(F, IMAGE), stored={"s": ones(3)}),
    "layer_norm": one("LayerNormalization", "x s s", x=SEQUENCE, stored={"s": ones(8)}),
    "instance_norm": one("InstanceNormalization", "x s s", x=(F, IMAGE), stored={"s": ones(3)}),
    "group_norm": one("GroupNormalization", "x s s", x=(F, ("n", 4, 8, 8)), stored={"s": ones(4)}, num_groups=2, opset=21),
    "mean_variance": one("MeanVarianceNormalization", x=(F, IMAGE)),
    "lstm": one("LSTM", "x w r", x=(F, ("time", "batch", 4)), stored={"w": ones(1, 12, 4), "r": ones(1, 12, 3)}, hidden_size=3),
    "gru": one("GRU", "x w r", x=(F, ("time", "batch", 4)), stored={"w": ones(1, 9, 4), "r": ones(1, 9, 3)}, hidden_size=3),
    "rnn": one("RNN", "x w r", x=(F, ("time", "batch", 4)), stored={"w": ones(1, 3, 4), "r": ones(1, 3, 3)}, hidden_size=3),
    "attention_23": one("Attention", "x x x", x=(F, (1, 2, 3, 8)), opset=23),
    "rms_norm_23": one("RMSNormalization", "x s", x=SEQUENCE, stored={"s": ones(8)}, opset=23),
    "gelu_20": one("Gelu", opset=20),
    "nms": plain(
        [node("Sigmoid", "x", "s"), node("NonMaxSuppression", "b s m")],
        gives=I64,
        x=(F, (1, 1, 3)),
        stored={"b": f32([[[0, 0, 1, 1], [0, 0, 1, 1], [5, 5, 6, 6]]]), "m": L([2])},
    ),
    "spectrum": one("DFT", x=(F, (1, 8, 1)), axis=1, opset=19),
    # types
    "float16": one("MatMul", "x w", gives=F16, x=(F16, ("batch", 4)), stored={"w": WEIGHTS.astype(np.float16)}),
    "bfloat16": plain([node("Cast", "x", "h", to=F), node("Cast", "h", to=BF16)], gives=BF16, x=(BF16, ("batch", 4))),
    "double": one("Gemm", "x w", gives=11, x=(11, ("batch", 4)), stored={"w": WEIGHTS.astype(np.float64)}),
    "bool": one("And", "x x", gives=BOOL, x=(BOOL, (3,))),
    "strings": one("StringConcat", "x x", gives=STR, x=(STR, (3,)), opset=20),
    "mixed": plain(
        [node("Cast", "m", "f", to=F), node("Mul", "x f", "h"), node("Gather", "h i", axis=1)],
        more=[("m", (BOOL, (2, 4))), ("i", (I64, (3,)))],
    ),
    "scalar": plain([node("Mul", "x k")], more=[("k", (F, ()))]),
    # int8
    "quantised": plain(
        [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z")], stored={"s": f32(0.1), "z": np.uint8(128)}
    ),
    "quantised_by_channel": one("DequantizeLinear", "x s z", x=(I8, (2, 4)), stored={"s": ones(4), "z": np.zeros(4, np.int8)}, axis=1),
    "quantised_linear": plain(
        [
            node("DynamicQuantizeLinear", "x", "q s z"),
            node("MatMulInteger", "q w z", "i"),
            node("Cast", "i", "f", to=F),
            node("Mul", "f s"),
        ],
        stored={"w": ones(4, 3, kind=np.int8)},
    ),
    "quantised_matmul": one(
        "QLinearMatMul",
        "x s z w s v s z",
        gives=U8,
        x=(U8, (2, 4)),
        stored={"s": f32(0.1), "z": np.uint8(1), "v": np.int8(0), "w": ones(4, 3, kind=np.int8)},
    ),
    "quantised_convolution": one(
        "QLinearConv",
        "x s z w s v s z b",
        gives=U8,
        x=(U8, (1, 3, 8, 8)),
        stored={"s": f32(0.1), "z": np.uint8(1), "v": np.int8(0), "w": ones(4, 3, 3, 3, kind=np.int8), "b": ones(4, kind=np.int32)},
    ),
    # com.microsoft
    "ms_gelu": one("Gelu", domain=MS),
    "ms_bias_gelu": one("BiasGelu", "x b", MS, stored={"b": ones(4)}),
    "ms_fused": one("FusedMatMul", "x w", MS, stored={"w": WEIGHTS}, alpha=0.5),
    "ms_fused_conv": one("FusedConv", "x w", MS, x=(F, IMAGE), stored={"w": ones(4, 3, 3, 3)}, activation="Relu"),
    "ms_skip_norm": one("SkipLayerNormalization", "x x s s", MS, x=SEQUENCE, stored={"s": ones(8)}),
    "ms_attention": one("Attention", "x w b", MS, x=SEQUENCE, stored={"w": ones(8, 24), "b": ones(24)}, num_heads=2),
    "ms_multi_head": one("MultiHeadAttention", "x x x", MS, x=SEQUENCE, num_heads=2),
    "ms_rotary": one("RotaryEmbedding", "x p c c", MS, x=(F, (1, 1, 8)), stored={"p": L([[0]]), "c": ones(4, 4)}),
    "ms_bits": one("MatMulNBits", "x b s", MS, stored={"b": ones(3, 1, 16, kind=np.uint8), "s": ones(3)}, K=4, N=3, bits=4, block_size=32),
    "ms_blocks": one(
        "GatherBlockQuantized", "d x s", MS, x=(I64, ("n",)), stored={"d": ones(2, 32, kind=np.uint8), "s": ones(2, 2)}, block_size=32
    ),
    "ms_dynamic": one("DynamicQuantizeMatMul", "x w s", MS, stored={"w": ones(4, 3, kind=np.uint8), "s": f32([0.1])}),
    # ai.onnx.ml
    "ml_scaler": one("Scaler", domain="ai.onnx.ml", offset=[0.5], scale=[2.0]),
    "ml_linear": one("LinearRegressor", domain="ai.onnx.ml", coefficients=[1.0] * 4, intercepts=[0.5]),
    "ml_labels": one("LabelEncoder", domain="ai.onnx.ml", gives=I64, x=(STR, (3,)), keys_strings=["1", "2"], values_int64s=[5, 6]),
    "ml_normaliser": one("Normalizer", domain="ai.onnx.ml", norm="L2"),
    "ml_imputer": one("Imputer", domain="ai.onnx.ml", imputed_value_floats=[0.0]),
}


def good(maker):
    GOOD[maker.__name__] = maker
    return maker


@good
def ml_trees(folder):
    tree = node(
        "TreeEnsembleRegressor",
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[3, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_values=[0.5, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0],
        target_nodeids=[1, 2],
        target_ids=[0, 0],
        target_weights=[1.0, 2.0],
    )
    return model([tree])


@good
def if_else(folder):
    then, other = (helper.make_graph([node(name, "x", "r")], name, [], [value("r", F, (2, 4))]) for name in ("Neg", "Abs"))
    nodes = [node("ReduceSum", "x", "s", keepdims=0), node("Greater", "s z", "c"), node("If", "c", then_branch=then, else_branch=other)]
    return model(nodes, stored=[array("z", f32(0))])


def _body(nodes, stacked=()):
    states = [value("co", BOOL, ()), value("so", F, (2, 4)), *stacked]
    return helper.make_graph(nodes, "body", [value("i", I64, ()), value("ci", BOOL, ()), value("si", F, (2, 4))], states)


@good
def loop(folder):
    body = _body([node("Identity", "ci", "co"), node("Mul", "si k", "so")])
    return model([node("Loop", "m c x", body=body)], stored=[array("m", L(5)), array("c", np.bool_(True)), array("k", f32(0.5))])


@good
def loop_with_if_and_rows(folder):
    then, other = (helper.make_graph([node(name, "si", "r")], name, [], [value("r", F, (2, 4))]) for name in ("Neg", "Abs"))
    nodes = [node("Identity", "ci", "co"), node("If", "ci", "so", then_branch=then, else_branch=other), node("Identity", "so", "row")]
    body = _body(nodes, [value("row", F, (2, 4))])
    stored = [array("m", L(3)), array("c", np.bool_(True))]
    return model([node("Loop", "m c x", "last y", body=body)], stored=stored)


@good
def scan(folder):
    body = helper.make_graph(
        [node("Add", "si xi", "so"), node("Identity", "so", "yo")],
        "body",
        [value("si", F, (4,)), value("xi", F, (4,))],
        [value("so", F, (4,)), value("yo", F, (4,))],
    )
    return model([node("Scan", "s x", "last y", body=body, num_scan_inputs=1)], stored=[array("s", np.zeros(4, np.float32))])


@good
def sequences(folder):
    nodes = [
        node("SplitToSequence", "x", "s", axis=1),
        node("SequenceAt", "s i", "a"),
        node("SequenceInsert", "s a", "t"),
        node("ConcatFromSequence", "t", axis=1),
    ]
    return model(nodes, stored=[array("i", L(0))])


@good
def sequence_of_inputs(folder):
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(F, ["n", 4]))
    return model([node("ConcatFromSequence", "x", axis=0)], inputs=[helper.make_value_info("x", kind)])


@good
def optional_value(folder):
    nodes = [node("Optional", "x", "o"), node("OptionalGetElement", "o")]
    return model(nodes)


def _function(name, nodes, **more):
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["a"], ["r"], nodes, opsets, **more)


@good
def functions(folder):
    inner = _function("twice", [node("Add", "a a", "r")])
    outer = _function("four", [node("twice", "a", "m", domain="local"), node("twice", "m", "r", domain="local")])
    return model([node("four", domain="local")], functions=[inner, outer], local=1)


@good
def function_with_attribute(folder):
    soft = node("Softmax", "a", "r", axis=0)
    soft.attribute[0].ClearField("i")
    soft.attribute[0].ref_attr_name = "axis"
    return model([node("soft", domain="local", axis=1)], functions=[_function("soft", [soft], attributes=["axis"])], local=1)


@good
def unknown_rank(folder):
    return model([node("Neg")], inputs=[value("x", F, None)], outputs=[value("y", F, None)])


@good
def unnamed_sizes(folder):
    return model([node("Add", "x z")], inputs=[value("x", F, (None, 4)), value("z", F, (None, 4))], outputs=[value("y", F, (None, 4))])


@good
def sum_of_sizes(folder):
    """A cache and a mask over what is cached and what is new, as exporters write them."""
    inputs = [value("x", F, ("batch", 1)), value("past", F, ("batch", "past")), value("mask", F, ("batch", "past + 1"))]
    nodes = [node("Concat", "past x", "h", axis=1), node("Mul", "h mask")]
    return model(nodes, inputs=inputs, outputs=[value("y", F, ("batch", "past + 1"))])


@good
def initializers_are_inputs(folder):
    """As IR 3 wants them, and as some exporters still write them."""
    return model([node("MatMul", "x w")], inputs=[value("x"), value("w", F, (4, 3))], stored=[array("w", WEIGHTS)], opset=9, ir=3)


@good
def no_inputs(folder):
    return model([node("Neg", "k")], inputs=[], stored=[array("k", WEIGHTS)])


@good
def output_is_an_input(folder):
    return model([node("Neg", "x", "z")], outputs=[value("z", F, None), value("x", F, (2, 4))])


@good
def names_of_others(folder):
    """Slashes, colons, dots, spaces and letters of other alphabets."""
    return model(
        [
            helper.make_node("Neg", ["x"], ["/model/layer.0/Größe:0 出力"], name="ns::Neg"),
            helper.make_node("Abs", ["/model/layer.0/Größe:0 出力"], ["y"]),
        ]
    )


@good
def prose(folder):
    """Metadata and doc strings hold what they want."""
    proto = model([node("Neg")])
    proto.doc_string = "two\nlines\tand \x1b"
    proto.metadata_props.add(key="stack", value='File "net.py", line 3\n  return -x')
    return proto


@good
def typed_data(folder):
    tensors = [helper.make_tensor("w", F, [4, 3], WEIGHTS.ravel()), helper.make_tensor("k", I64, [1], [0])]
    return model([node("MatMul", "x w", "h"), node("Unsqueeze", "h k")], stored=tensors)


@good
def typed_halves(folder):
    tensors = [helper.make_tensor("w", F16, [4], [1.0, -2.0, 0.5, 3.0]), helper.make_tensor("q", I8, [4], [-128, 0, 5, 127])]
    nodes = [node("Cast", "w", "f", to=F), node("Cast", "q", "g", to=F), node("Add", "x f", "h"), node("Add", "h g")]
    return model(nodes, stored=tensors)


@good
def empty_tensor(folder):
    return model([node("Concat", "x e", axis=0)], stored=[array("e", np.zeros((0, 4), np.float32))])


@good
def sparse_weights(folder):
    proto = model([node("Add", "x s")])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(array("s", f32([1, 2])), int64("", 0, 5), [2, 4]))
    return proto


def _external(folder, *places):
    names = [f"w{number}" for number in range(len(places))]
    tensors = [array(name, WEIGHTS) for name in names]
    for tensor, (location, offset, length) in zip(tensors, places, strict=True):
        file = folder / location
        file.parent.mkdir(exist_ok=True)
        with file.open("ab") as stream:
            stream.truncate(offset or 0)
            stream.seek(offset or 0)
            stream.write(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": location, "offset": offset, "length": length}
        for key, content in entries.items():
            if content is not None:
                tensor.external_data.add(key=key, value=str(content))
    nodes = [node("Transpose", names[-1], "t"), node("MatMul", f"x {names[0]}", "h"), node("MatMul", "h t")]
    return model(nodes, stored=tensors)


GOOD |= {
    "external": lambda folder: _external(folder, ("w.bin", None, None)),
    "external_told": lambda folder: _external(folder, ("w.bin", 0, 48)),
    "external_shared": lambda folder: _external(folder, ("w.bin", 0, 48), ("w.bin", 4096, 48)),
    "external_in_a_folder": lambda folder: _external(folder, ("sub/w.bin", 16, None)),
}


def write(maker, folder):
    """Writes what a maker makes; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    made = maker(folder)
    file = folder / "m.onnx"
    file.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return file

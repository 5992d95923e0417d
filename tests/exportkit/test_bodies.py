"""Bodies of loops made cheap: the same results, at every size, from fewer tensors and nodes a step."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx.parser import parse_model

from exportkit import bodies

HEAD = '<ir_version: 8, opset_import: ["": 18]>'


def cheap(text, shaped=True):
    """Returns what a model gives, and gives when rewritten, as functions of its inputs; the nodes by kind, and the graph."""
    before = parse_model(text)
    model = ir.from_proto(parse_model(text))  # it shares its tensors with what it is made of
    bodies.make_cheap(model.graph, shaped=shaped)
    after = ir.to_proto(model)
    onnx.checker.check_model(after, full_check=True)

    def run(one):
        names = [value.name for value in one.graph.input]
        return lambda *arrays: onnxruntime.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, dict(zip(names, arrays, strict=True))
        )

    kinds = {}
    for node in model.graph.all_nodes():
        kinds.setdefault(node.op_type, []).append(node)
    return run(before), run(after), kinds, model.graph


def floats(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


SUMS = f"""{HEAD}
sums (float[n] x, float[n, 3] y) => (float last, float[n] all) {{
    zero = Constant <value: tensor = float {{0}}> ()
    last, all = Scan <num_scan_inputs: int = 3, scan_input_directions: ints = [0, 1, 0], body: graph = step
        (float total, float here, float back, float[3] unread) => (float next, float shown)
        {{ next = Add(total, back)  shown = Identity(next) }}> (zero, x, x, y)
}}"""


def test_rows_that_a_step_never_reads_are_not_cut():
    before, after, kinds, _ = cheap(SUMS)
    [scan] = kinds["Scan"]
    assert len(scan.inputs) == 2
    assert scan.attributes["scan_input_directions"].as_ints() == (1,), "the direction of the rows that are read"
    for length in (1, 5):
        x, y = floats(length), floats(length, 3)
        for got, expected in zip(after(x, y), before(x, y), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_a_loop_that_reads_no_rows_keeps_its_length():
    before, after, kinds, _ = cheap(SUMS.replace("Add(total, back)", "Cos(total)"))
    assert len(kinds["Scan"][0].inputs) == 2
    for got, expected in zip(after(floats(6), floats(6, 3)), before(floats(6), floats(6, 3)), strict=True):
        np.testing.assert_array_equal(got, expected)


def stacking(axis, shape="b, w", given="b, w"):
    """A loop that stacks its carried tensor and its row, and sums over the new axis."""
    return f"""{HEAD}
    stacks (float[{given}] start, float[n, {given}] x) => (float[{given}] last) <int64[1] axis = {{{axis}}}> {{
        last = Scan <num_scan_inputs: int = 1, body: graph = step (float[{shape}] held, float[{shape}] row) => (float[{shape}] next)
            <float[{", ".join([shape, "2"] if axis < 0 else [*shape.split(", ")[:axis], "2", *shape.split(", ")[axis:]])}] both> {{
                one = Unsqueeze(held, axis)
                two = Unsqueeze(row, axis)
                both = Concat <axis: int = {axis}> (one, two)
                waved = Sin(both)
                next = ReduceSum <keepdims: int = 0> (waved, axis)
            }}> (start, x)
    }}"""


@pytest.mark.parametrize("axis", [0, 1])
def test_what_a_step_stacks_is_joined_at_once(axis):
    before, after, kinds, _ = cheap(stacking(axis))
    assert "Unsqueeze" not in kinds
    for batch, width in ((2, 3), (4, 4), (1, 1), (0, 3), (3, 0)):
        start, x = floats(batch, width), floats(5, batch, width)
        np.testing.assert_array_equal(after(start, x)[0], before(start, x)[0])


def test_sizes_that_do_not_vary_are_written_down():
    before, after, kinds, _ = cheap(stacking(0, "2, 3", "2, 3"))
    assert "Unsqueeze" not in kinds
    assert "Shape" not in kinds
    np.testing.assert_array_equal(after(floats(2, 3), floats(5, 2, 3))[0], before(floats(2, 3), floats(5, 2, 3))[0])


@pytest.mark.parametrize(
    "text",
    [
        stacking(2),  # behind the last axis: joined along it, numbers would lie otherwise
        stacking(-1),
        stacking(0, "b, u"),  # a size that no input has
        stacking(0).replace("waved = Sin(both)", "waved = Sin(both)  other = Neg(one)"),
    ],
    ids=["behind", "from the end", "unknown size", "read elsewhere"],
)
def test_any_other_stack_stays(text):
    before, after, kinds, _ = cheap(text)
    assert len(kinds["Unsqueeze"]) == 2
    np.testing.assert_array_equal(after(floats(2, 3), floats(5, 2, 3))[0], before(floats(2, 3), floats(5, 2, 3))[0])


def test_shapes_of_an_example_are_not_taken_for_all():
    _, _, kinds, _ = cheap(stacking(0), shaped=False)
    assert len(kinds["Unsqueeze"]) == 2


def test_weights_are_stored_where_they_are_read():
    weights = ", ".join(["1"] * 32)
    _, after, kinds, graph = cheap(f"""{HEAD}
    chosen (float[n] x, bool flag) => (float[k] y)
        <float[32] own = {{{weights}}}, float[32] both = {{{weights}}}, float[1] number = {{2}}> {{
            y = If <then_branch: graph = yes () => (float[k] a) {{ o = Mul(own, number)  p = Add(o, both)  a = Add(p, x) }},
                    else_branch: graph = no () => (float[k] b) {{ q = Sub(both, number)  b = Sub(q, x) }}> (flag)
    }}""")
    assert set(graph.initializers) == {"both"}, "a large one that two branches read is stored once"
    [chosen] = kinds["If"]
    assert "own" in chosen.attributes["then_branch"].as_graph().initializers
    assert all(len(chosen.attributes[name].as_graph().initializers) == count for name, count in (("then_branch", 2), ("else_branch", 1)))
    x = floats(32)
    np.testing.assert_array_equal(after(x, np.array(True))[0], x + 3)
    np.testing.assert_array_equal(after(x, np.array(False))[0], -1 - x)


def padding(name="step"):
    """A loop that pads its carried row with zeros, as many as a size from outside says, and cuts them off again."""
    return f"""{name} (float[b, w] held, float[b, w] row) => (float[b, w] next)
        <int64[1] of_held, int64[2] form, bool more> {{
            of_held = Shape <start: int = 0, end: int = 1> (held)
            form = Concat <axis: int = 0> (of_held, extra)
            more = Greater (count, none)
            zeros = Expand (nothing, form)
            wide = Concat <axis: int = 1> (held, zeros)
            cut = Slice (wide, first, width, second)
            next = If (more) <
                then_branch = yes () => (float[b, w] a) {{ a = Add (cut, row) }},
                else_branch = no () => (float[b, w] c) {{ c = Sub (cut, row) }}
            >
        }}"""


def test_sizes_of_values_from_outside_are_computed_once():
    text = f"""{HEAD}
    pads (float[b, w] start, float[n, b, w] x, int64 count) => (float[b, w] one, float[b, w] two) <
        int64[1] extra = {{2}}, int64 none = {{0}}, float nothing = {{0}}, int64[1] first = {{0}}, int64[1] second = {{1}}, int64[1] width
    > {{
        width = Shape <start: int = 1, end: int = 2> (start)
        one = Scan <num_scan_inputs: int = 1, body: graph = {padding("here")}> (start, x)
        two = Scan <num_scan_inputs: int = 1, body: graph = {padding("there")}> (one, x)
    }}"""
    before, after, kinds, graph = cheap(text)
    assert {node.op_type for scan in kinds["Scan"] for node in scan.attributes["body"].as_graph()} == {"Expand", "Concat", "Slice", "If"}
    assert [node.op_type for node in graph].count("Greater") == 2
    for rows, width, steps, count in ((2, 3, 4, 1), (1, 5, 1, 0)):
        inputs = (floats(rows, width), floats(steps, rows, width), np.array(count))
        for got, expected in zip(after(*inputs), before(*inputs), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_what_a_step_alone_knows_stays_in_its_body():
    text = f"""{HEAD}
    counts (float[n] x) => (int64 last, float[n] all) <int64 zero = {{0}}, int64 one = {{1}}> {{
        last, all = Scan <num_scan_inputs: int = 1, body: graph = step (int64 at, float row) => (int64 next, float shown)
            <int64 twice> {{
                next = Add (at, one)
                twice = Mul (next, next)
                t = Cast <to: int = 1> (twice)
                shown = Mul (t, row)
            }}> (zero, x)
    }}"""
    before, after, kinds, _ = cheap(text)
    assert len(kinds["Scan"][0].attributes["body"].as_graph()) == 4
    for got, expected in zip(after(floats(5)), before(floats(5)), strict=True):
        np.testing.assert_array_equal(got, expected)

"""bfloat16 in ONNX files for onnxruntime's CPU provider, which computes with none: as eager PyTorch rounds it, bit for bit where it can."""

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx.parser import parse_model
from torch import nn

import exportkit
from exportkit import rounding
from exportkit.backends import onnxruntime as runtime

HEAD = '<ir_version: 8, opset_import: ["": 18]>'
FORMS = {
    "Cast": "w = Cast <to: int = 1> (x)",
    "CastLike": "w = CastLike (x, f)",
    "Concat": "w = Concat <axis: int = 0> (x, x)",
    "Constant": "w = Constant <value: tensor = bfloat16[2] {1, 2}> ()",
    "Flatten": "w = Flatten (x)",
    "Gather": "w = Gather (x, i)",
    "GatherElements": "w = GatherElements (x, i)",
    "GatherND": "w = GatherND (x, i)",
    "Identity": "w = Identity (x)",
    "If": "w = If <then_branch: graph = one () => (bfloat16[2, 2] a) { a = Identity(x) }, "
    "else_branch: graph = two () => (bfloat16[2, 2] b) { b = Transpose(x) }> (flag)",
    "Loop": "w = Loop <body: graph = step (int64 n, bool on, bfloat16[2, 2] a) => (bool go, bfloat16[2, 2] b) "
    "{ go = Identity(on)  b = Transpose(a) }> (count, , x)",
    "Reshape": "w = Reshape (x, shape)",
    "Scan": "w = Scan <num_scan_inputs: int = 1, body: graph = step (bfloat16[2] a) => (bfloat16[2] b) { b = Identity(a) }> (x)",
    "ScatterElements": "w = ScatterElements (x, i, x)",
    "ScatterND": "w = ScatterND (x, rows, x)",
    "Shape": "w = Shape (x)",
    "Slice": "w = Slice (x, zero, one)",
    "Split": "w, v = Split <axis: int = 1, num_outputs: int = 2> (x)",
    "Squeeze": "w = Squeeze (thin, zero)",
    "Transpose": "w = Transpose (x)",
    "Unsqueeze": "w = Unsqueeze (x, zero)",
}


def session(model):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def values(made, *arrays):
    """Runs a session on bfloat16, and gives float32."""
    names = [one.name for one in made.get_inputs()]
    given = {name: runtime.to_value(array, "tensor(bfloat16)") for name, array in zip(names, arrays, strict=True)}
    return [runtime.to_array(one).astype(np.float32) for one in made.run_with_ort_values(None, given)]


def narrow(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(ml_dtypes.bfloat16)


def test_every_operator_that_is_left_alone_has_a_case():
    assert set(FORMS) == rounding.MOVES


@pytest.mark.parametrize("operator", FORMS)
def test_onnxruntime_moves_bfloat16_as_it_is(operator):
    text = f"""{HEAD} moves (bfloat16[2, 2] x, bfloat16[1, 2] thin, float[2] f, int64[2, 2] i, int64[2, 1] rows, bool flag) => (w)
        <int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[2] shape = {{1, 4}}, int64 count = {{3}}> {{ {FORMS[operator]} }}"""
    model = onnx.shape_inference.infer_shapes(parse_model(text))
    assert session(model).get_outputs()


def typed(text):
    return ir.from_proto(onnx.shape_inference.infer_shapes(parse_model(text)))


def rewritten(model):
    rounding.compute_in_float32(model.graph)
    made = ir.to_proto(model)
    onnx.checker.check_model(made, full_check=True)
    return made


def test_what_two_operators_compute_is_rounded_between_them_and_what_one_does_is_not():
    text = f"{HEAD} sums (bfloat16[n] x, bfloat16[n] y) => (bfloat16[n] z) {{ a = Mul(x, y)  z = Add(a, x) }}"
    x, y = narrow(1000), narrow(1000, seed=1)
    wide = [one.astype(np.float32) for one in (x, y)]
    product = wide[0] * wide[1]
    rounded = product.astype(ml_dtypes.bfloat16).astype(np.float32)
    for same, middle in ((False, rounded), (True, product)):
        model = typed(text)
        for place, node in enumerate(model.graph):
            node.metadata_props["pkg.torch.onnx.fx_node"] = "one" if same else str(place)
        [got] = values(session(rewritten(model)), x, y)
        np.testing.assert_array_equal(got, (middle + wide[0]).astype(ml_dtypes.bfloat16).astype(np.float32))


def test_a_value_from_outside_is_cast_once_and_not_at_each_step_of_a_loop():
    text = f"""{HEAD} loops (bfloat16[n, 3] x, bfloat16[3] w) => (bfloat16[3] last) <bfloat16[3] zero = {{0, 0, 0}}> {{
        last = Scan <num_scan_inputs: int = 1, body: graph = step (bfloat16[3] h, bfloat16[3] row) => (bfloat16[3] next)
            {{ a = Mul(h, w)  next = Add(a, row) }}> (zero, x)
    }}"""
    model = typed(text)
    [scan] = [node for node in model.graph if node.op_type == "Scan"]
    for value in (*scan.attributes["body"].as_graph().inputs, *(node.outputs[0] for node in scan.attributes["body"].as_graph())):
        value.type = ir.TensorType(ir.DataType.BFLOAT16)
    made = rewritten(model)
    assert [node.op_type for node in model.graph if node.op_type == "Cast"] == ["Cast"], "of w, before the loop"
    x, w = narrow(4, 3), narrow(3, seed=1)
    h = np.zeros(3, ml_dtypes.bfloat16)
    for row in x:
        h = (h.astype(np.float32) * w.astype(np.float32)).astype(ml_dtypes.bfloat16)
        h = (h.astype(np.float32) + row.astype(np.float32)).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(values(session(made), x, w)[0], h.astype(np.float32))


class Recurrence(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.keep = nn.Linear(8, 16), nn.Linear(16, 16)

    def forward(self, x):
        h, out = torch.zeros_like(self.enter(x[:, 0])), []
        for t in range(x.shape[1]):
            h = torch.tanh(self.enter(x[:, t]) + self.keep(h))
            out.append(h)
        return torch.stack(out, 1)


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend, self.fold = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Conv1d(8, 4, 3, padding=1)

    def forward(self, x):
        x = self.fold(self.attend(x).transpose(1, 2)).mean(2)
        return x.softmax(1), torch.where(x > 0, x, torch.full_like(x, -1)).float()


class LongMemory(nn.Module):
    """torch's exporter leaves what an LSTM gives without a type."""

    def __init__(self):
        super().__init__()
        self.remember = nn.LSTM(8, 16, batch_first=True)

    def forward(self, x):
        return self.remember(x)[0]


class ScatteredSums(nn.Module):
    """onnxruntime moves bfloat16 into places, and adds none there."""

    def forward(self, x):
        places = (torch.arange(x.shape[1]) % 3)[None, :, None].expand(x.shape[0], -1, 8)
        return torch.zeros(x.shape[0], 3, 8, dtype=x.dtype).scatter_add(1, places, x)


@pytest.mark.parametrize("network", [Recurrence, Layers, LongMemory, ScatteredSums])
def test_networks_in_bfloat16_are_proven_on_the_cpu(network, tmp_path):
    torch.manual_seed(0)
    verdict = exportkit.export(
        network().eval().bfloat16(), torch.randn(2, 5, 8, dtype=torch.bfloat16), to=tmp_path, name="net", formats=("onnx",)
    )
    assert verdict.outcome.startswith("passed"), verdict
    model = onnx.load(verdict.folder / "net.onnx")
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16, "its signature is the network's"

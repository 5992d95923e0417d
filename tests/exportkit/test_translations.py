"""Operators that exportkit translates itself: in onnxruntime they give what eager gives, at sizes that the export never saw."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.export import Dim

from exportkit import translations
from exportkit.patches import as_eager_computes


class Recurrent(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.layer = nn.RNN(3, 4, 2, **options)

    def forward(self, x, state):
        return self.layer(x, state)


@pytest.mark.filterwarnings("ignore")  # torch's exporter warns of its own deprecations
@pytest.mark.parametrize(
    "options",
    [{"nonlinearity": "relu", "bidirectional": True}, {"batch_first": True, "bias": False}, {"bidirectional": True, "batch_first": True}],
)
@torch.no_grad()
def test_rnn(options):
    torch.manual_seed(0)
    net = Recurrent(**options).eval()
    shapes = ({0: Dim.DYNAMIC, 1: Dim.DYNAMIC}, {1: Dim.DYNAMIC})

    def inputs(time, batch):
        x = torch.randn(time, batch, 3)
        return x.transpose(0, 1) if net.layer.batch_first else x, torch.randn(4 if net.layer.bidirectional else 2, batch, 4)

    with as_eager_computes():
        program = torch.export.export(net, inputs(5, 2), dynamic_shapes=shapes)
        model = torch.onnx.export(program, dynamo=True, custom_translation_table=translations.table(), verbose=False).model_proto
    assert {node.op_type for node in model.graph.node} >= {"RNN"}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for x, state in (inputs(5, 2), inputs(11, 3), inputs(1, 1)):
        got = session.run(None, {one.name: value.numpy() for one, value in zip(session.get_inputs(), (x, state), strict=True)})
        for one, want in zip(got, net(x, state), strict=True):
            torch.testing.assert_close(torch.from_numpy(one), want)


class LogSum(nn.Module):
    def forward(self, x):
        return torch.logsumexp(x, 1), torch.logsumexp(x, (0, -1), keepdim=True)


def hard(dtype):
    x = torch.randn(4, 3, 5).to(dtype)
    largest = torch.finfo(dtype).max
    x[0], x[1, 0, 0], x[2, 1, 1], x[3] = -torch.inf, torch.inf, -torch.inf, -largest
    return x


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_logsumexp_keeps_infinities_and_extremes(dtype, tmp_path):
    shapes = (dict.fromkeys(range(3), Dim.DYNAMIC),)
    made = torch.onnx.export(
        LogSum().eval(),
        (torch.randn(4, 3, 5).to(dtype),),
        dynamic_shapes=shapes,
        custom_translation_table=translations.table(),
        verbose=False,
    )
    made.save(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    name, tolerance = session.get_inputs()[0].name, 4 * torch.finfo(dtype).eps
    x = hard(dtype)
    for got, expected in zip(session.run(None, {name: x.numpy()}), LogSum()(x), strict=True):
        np.testing.assert_allclose(got, expected.numpy(), rtol=tolerance, atol=tolerance)
    empty = session.run(None, {name: np.zeros((2, 0, 3), x.numpy().dtype)})[0]
    np.testing.assert_array_equal(empty, np.full((2, 3), -np.inf))
    assert "ReduceLogSumExp" not in {node.op_type for node in made.model.graph.all_nodes()}


class Pads(nn.Module):
    def forward(self, x):
        pad, large = nn.functional.pad, 1 << 60
        wide = pad(x, (0, 2, 3, 1), value=large if x.dtype == torch.int64 else 7)
        return (
            pad(x, (1, 0)),
            wide,
            pad(x, (0, 0, 0, 0, 1, 1)),
            pad(x, (x.shape[1], 0)),
            pad(x, (4 - x.shape[2], 3 - x.shape[1])),
            pad(x, (-1, 2)),
        )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool, torch.float32])
def test_padding_for_cuda_gives_what_eager_gives_and_cuda_runs_it(dtype, tmp_path, hollow_cuda):
    shapes = (dict.fromkeys(range(3), Dim.DYNAMIC),)
    example = torch.randint(0, 2, (4, 3, 5)).to(dtype)
    table = translations.table("cuda")
    made = torch.onnx.export(Pads().eval(), (example,), dynamic_shapes=shapes, custom_translation_table=table, verbose=False)
    made.save(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for x in (example, torch.randint(0, 2, (2, 2, 7)).to(dtype), torch.zeros((1, 1, 2), dtype=dtype)):
        for got, expected in zip(session.run(None, {session.get_inputs()[0].name: x.numpy()}), Pads()(x), strict=True):
            np.testing.assert_array_equal(got, expected.numpy())
    told = hollow_cuda(
        "import onnxruntime\n"
        "options = onnxruntime.SessionOptions()\n"
        "options.log_severity_level = 4\n"
        "options.add_session_config_entry('session.record_ep_graph_assignment_info', '1')\n"
        "session = onnxruntime.InferenceSession('net.onnx', options, providers=['CUDAExecutionProvider', 'CPUExecutionProvider'])\n"
        "for part in session.get_provider_graph_assignment_info():\n"
        "    print(*(f'{part.ep_name}:{node.op_type}' for node in part.get_nodes()))",
        tmp_path,
    )
    integers = not dtype.is_floating_point and dtype != torch.bool
    assert told.count("CPUExecutionProvider:Pad") == (1 if integers else 0), "the one that cuts off stays"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [
        {"output_size": (4, 5), "kernel_size": (2, 3)},
        {"output_size": (9, 8), "kernel_size": 3, "stride": (2, 3), "padding": (1, 0), "dilation": (1, 2)},
        {"output_size": 7, "kernel_size": 2, "stride": 2, "padding": 1},
    ],
)
def test_folding_for_cuda_gives_what_eager_gives_and_cuda_runs_it(options, tmp_path, placed_on_cuda):
    fold = nn.Fold(**options)
    unfold = nn.Unfold(**{name: value for name, value in options.items() if name != "output_size"})
    size = options["output_size"]
    image = torch.randn(2, 3, *((size, size) if isinstance(size, int) else size))
    example = unfold(image)
    options = {"dynamic_shapes": ({0: Dim.DYNAMIC},), "custom_translation_table": translations.table("cuda"), "verbose": False}
    torch.onnx.export(fold, (example,), **options).save(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for x in (example, torch.randn(5, *example.shape[1:])):
        (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        np.testing.assert_allclose(got, fold(x).numpy(), rtol=1e-6, atol=1e-6)
    assert not placed_on_cuda(tmp_path / "net.onnx")["on_cpu"]

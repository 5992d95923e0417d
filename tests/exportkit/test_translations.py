"""Operators that exportkit translates itself: in onnxruntime they give what eager gives, at sizes that the export never saw."""

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

"""Packed sequences are exported for any lengths: outputs, states and lengths are eager's."""

import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.nn.utils import rnn

from exportkit.patches import as_eager_computes

pytestmark = pytest.mark.filterwarnings("ignore:The tensor attributes self.layer._flat_weights")


class Packed(nn.Module):
    """Packs, changes the packed values, runs a layer, and pads again."""

    def __init__(self, layer, total, **how):
        super().__init__()
        self.layer, self.total, self.how = layer, total, how

    def forward(self, x, lengths, states=None):
        packed = rnn.pack_padded_sequence(x, lengths.cpu(), self.layer.batch_first, **self.how)
        packed = rnn.PackedSequence(packed.data * 2, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        output, last = self.layer(packed, states)
        total = x.shape[1 if self.layer.batch_first else 0] + 1 if self.total else None
        return rnn.pad_packed_sequence(output, self.layer.batch_first, -1.0, total), last


def flat(results):
    return [one for part in results for one in (flat(part) if isinstance(part, tuple) else [part])]


@pytest.mark.parametrize(
    ("layer", "total", "how", "states"),
    [
        pytest.param(nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True), True, {"enforce_sorted": False}, 0, id="lstm"),
        pytest.param(nn.LSTM(3, 4, bias=False, proj_size=2, bidirectional=True), False, {"enforce_sorted": False}, 2, id="projected"),
        pytest.param(nn.GRU(3, 4, bidirectional=True), False, {}, 0, id="gru of sorted sequences"),
        pytest.param(nn.RNN(3, 4, nonlinearity="relu", batch_first=True), False, {"enforce_sorted": False}, 1, id="rnn"),
    ],
)
@torch.no_grad()
def test_packed_sequences_of_any_lengths(layer, total, how, states):
    net = Packed(layer.eval(), total, **how)

    def inputs(*lengths):
        torch.manual_seed(len(lengths))
        x = torch.randn(len(lengths), max(lengths) + 1, 3)  # none is as long as the tensor
        ways = 2 if layer.bidirectional else 1
        widths = (layer.proj_size or layer.hidden_size, layer.hidden_size)[:states]
        given = tuple(torch.randn(ways, len(lengths), width) for width in widths)
        given = given[0] if len(given) == 1 else given or None
        return x if layer.batch_first else x.transpose(0, 1), torch.tensor(lengths), given

    of_states = {0: None, 1: {1: Dim.AUTO}, 2: ({1: Dim.AUTO}, {1: Dim.AUTO})}[states]
    with as_eager_computes():
        program = torch.export.export(net, inputs(5, 3, 2), dynamic_shapes=({0: Dim.AUTO, 1: Dim.AUTO}, {0: Dim.AUTO}, of_states))
    for lengths in ((5, 3, 2), (8, 8, 4, 1), (9, 2), *([(2, 7, 1), (1, 1, 6, 6)] if how else [])):
        given = inputs(*lengths)
        for got, want in zip(flat(program.module(check_guards=False)(*given)), flat(net(*given)), strict=True):
            torch.testing.assert_close(got, want)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@torch.no_grad()
def test_a_trace_holds_torchs_own_operators():
    net, x, lengths = Packed(nn.GRU(3, 4).eval(), False), torch.randn(5, 2, 3), torch.tensor([5, 2])
    with as_eager_computes():
        traced = torch.jit.trace(net, (x, lengths), check_trace=False)
    assert "aten::_pack_padded_sequence" in str(traced.inlined_graph)

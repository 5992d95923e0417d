"""An LSTM with projections is one without, of other weights."""

import itertools

import pytest
import torch
from torch import nn

from exportkit.decompositions import recurrent

LSTM = torch.ops.aten.lstm.input


@pytest.mark.parametrize(("bias", "both", "rows"), list(itertools.product([False, True], repeat=3)))
@torch.no_grad()
def test_projections(bias, both, rows):
    torch.manual_seed(0)
    layer = nn.LSTM(3, 5, 2, bias=bias, batch_first=rows, bidirectional=both, proj_size=2)
    states = [torch.randn(4 if both else 2, 4, width) for width in (2, 5)]
    args = (torch.randn(*((4, 6) if rows else (6, 4)), 3), states, layer._flat_weights, bias, 2, 0.0, False, both, rows)
    for got, want in zip(recurrent.table()[LSTM](*args), LSTM(*args), strict=True):
        torch.testing.assert_close(got, want)


def test_others_are_left_alone():
    layer, states = nn.LSTM(3, 5), [torch.zeros(1, 4, 5)] * 2
    args = (torch.randn(6, 4, 3), states, layer._flat_weights, True, 1, 0.0, False, False, False)
    assert recurrent.table()[LSTM](*args) is NotImplemented

"""How far an exported program is right."""

import pytest
import torch
from fakes import Net, live
from torch import nn
from torch.export import Dim

from exportkit.errors import ExportError
from exportkit.reach import reach, refuse_short_reach
from exportkit.spec import Symbol


def exported(function, high=None):
    net = live(Net(function, nn.Linear(4, 2)).eval(), (torch.randn(3, 4),))
    program = torch.export.export(net.module, (net.example["x"],), dynamic_shapes=({0: Dim.AUTO},))
    return net, (Symbol("batch", (("x", 0, 0),), 3, high=high),), program


def halved(net, x):
    return net.parts[0](x[:20] if x.shape[0] > 20 else x)


def refused(net, x):
    if x.shape[0] > 20:
        raise ValueError("too long")
    return net.parts[0](x)


@pytest.mark.parametrize(
    ("function", "high", "bounds"),
    [
        (lambda net, x: net.parts[0](x), None, {}),
        (halved, None, {"batch": 20}),
        (halved, 20, {}),  # no more was asked for
        (refused, None, {}),  # eager itself goes no further
    ],
)
def test_a_branch_on_a_size_ends_the_reach_of_an_export(function, high, bounds):
    with torch.no_grad():
        assert reach(*exported(function, high)) == bounds


def test_what_would_answer_beyond_its_reach_is_refused_with_the_bound():
    with torch.no_grad(), pytest.raises(ExportError, match="right up to 20 only"):
        refuse_short_reach(*exported(halved))

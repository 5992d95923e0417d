"""Operators spelled out compute what they stand for."""

import pytest
import torch
from torch import nn

from exportkit import simplify

aten = torch.ops.aten


@pytest.mark.parametrize("reduce", ["sum", "mean", "prod", "amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_scatter_reduce(reduce, include_self, dtype):
    torch.manual_seed(0)
    x, source = (torch.randint(-9, 9, shape).to(dtype) for shape in ((5, 3), (14, 3)))
    index = torch.randint(0, 4, (14, 3))  # row 4 is never hit
    told = simplify._scatter_reduce(x, 0, index, source, reduce, include_self=include_self)
    if told is not NotImplemented:
        assert torch.equal(told, x.scatter_reduce(0, index, source, reduce, include_self=include_self))


def test_histc_and_vdot():
    torch.manual_seed(0)
    x = torch.randint(0, 8, (50,)).float()
    assert torch.equal(simplify._histc(x, 8, 0, 7), torch.histc(x, 8, 0, 7))
    a, b = torch.randn(9), torch.randn(9)
    assert torch.allclose(simplify._vdot(a, b), torch.vdot(a, b))


def test_grouped_mm_gives_each_row_its_own_matrix():
    torch.manual_seed(0)
    a, b, ends = torch.randn(7, 4), torch.randn(3, 4, 5), torch.tensor([2, 2, 7], dtype=torch.int32)
    want = torch.cat([a[:2] @ b[0], a[2:2] @ b[1], a[2:] @ b[2]])
    assert torch.allclose(simplify._grouped_mm(a, b, ends), want)


class Parametrised(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4))

    def forward(self, x):
        return self.linear(x) + torch.rand_like(x) * 0


def test_what_depends_on_weights_alone_is_computed_once_and_randomness_is_not():
    net, x = Parametrised().eval(), torch.randn(3, 4)
    with torch.no_grad():
        program = torch.export.export(net, (x,))
        plain = simplify.simplified(program, (x,), {}, None)
        operators = [str(node.target) for node in plain.graph.nodes if node.op == "call_function"]
        assert not any("householder" in name for name in operators)
        assert any("rand" in name for name in operators)
        assert torch.allclose(plain.module()(x), net(x), atol=1e-6)

"""Complex operators on parts agree with torch's own."""

import pytest
import torch
from torch import nn

from exportkit import simplify
from exportkit.decompositions import complex_numbers

aten = torch.ops.aten
RULES = complex_numbers.table()
Z = torch.randn(3, 4, 2, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("operator", "args"),
    [
        (aten.exp.default, ()),
        (aten.log.default, ()),
        (aten.sqrt.default, ()),
        (aten.tanh.default, ()),
        (aten.pow.Tensor_Scalar, (2,)),
        (aten.pow.Tensor_Scalar, (-0.5,)),
        (aten.cumprod.default, (1,)),
        (aten.cumsum.default, (1,)),
        (aten.unsqueeze.default, (0,)),
        (aten.gather.default, (1, torch.tensor([[[1, 0]], [[2, 3]], [[0, 0]]]))),
        (aten.constant_pad_nd.default, ([1, 1],)),
        (aten.constant_pad_nd.default, ([1, 1], 3)),
        (aten.masked_fill.Scalar, (torch.ones(3, 4, 2).bool(), 2)),
        (aten.masked_fill.Tensor, (torch.ones(3, 4, 2).bool(), torch.tensor(2))),
        (aten.unbind.int, (1,)),
        (aten.mul.Scalar, (1 + 2j,)),
        (aten.reciprocal.default, ()),
        *((operator, (1 + 2j,)) for operator in (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor)),
        *((operator, (Z.real,)) for operator in (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor)),
        (aten.bmm.default, (Z.mT.contiguous(),)),
    ],
    ids=str,
)
def test_operators(operator, args):
    want, got = operator(Z, *args), RULES[operator](Z, *args)
    for one, other in zip(*((pair if isinstance(pair, list | tuple) else [pair]) for pair in (want, got)), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5)


def test_real_operands_have_no_imaginary_part():
    assert torch.allclose(torch.where(Z.real > 0, Z, Z.real), RULES[aten.where.self](Z.real > 0, Z, Z.real))
    want = torch.einsum("abc,dbc->ad", Z, Z.real.to(Z.dtype))
    assert torch.allclose(want, RULES[aten.einsum.default]("abc,dbc->ad", [Z, Z.real]), atol=1e-5)
    assert torch.allclose(1j * Z.real, RULES[aten.mul.Scalar](Z.real, 1j))


@pytest.mark.parametrize("operator", [aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor], ids=str)
def test_a_real_tensor_meets_a_complex_one(operator):
    for other in (0.5j, Z):
        assert torch.allclose(operator(Z.real, other), RULES[operator](Z.real, other), rtol=1e-5, atol=1e-5)
    for one, two in ((Z, Z), (Z, 2.0), (Z.real, Z.imag)):
        assert RULES[operator](one, two) is NotImplemented  # the exporter knows them


def test_a_quotient_of_large_numbers_does_not_overflow():
    large = torch.complex(torch.tensor([3e30]), torch.tensor([-2e30]))
    assert torch.allclose(RULES[aten.reciprocal.default](large), 1 / large)


def is_complex(node):
    return isinstance(node.meta.get("val"), torch.Tensor) and node.meta["val"].is_complex()


def test_real_programs_are_left_alone():
    assert RULES[aten.exp.default](Z.real) is NotImplemented
    assert RULES[aten.unsqueeze.default](Z.real, 0) is NotImplemented


def test_a_complex_program_holds_real_operators():
    class Net(nn.Module):
        def forward(self, x):
            z = torch.exp(torch.complex(x, x)[:, None]) ** 2
            return torch.view_as_real(torch.einsum("abc,adc->bd", z, z.cumsum(-1)))

    x = torch.randn(3, 4)
    with torch.no_grad():
        plain = simplify.simplified(torch.export.export(Net(), (x,)), (x,), {}, None)
        names = {str(node.target) for node in plain.graph.nodes if any(is_complex(one) for one in node.all_input_nodes)}
        assert names <= {"aten.view_as_real.default", "aten.mul.Tensor"}  # the exporter knows both
        assert torch.allclose(plain.module()(x), Net()(x), rtol=1e-4, atol=1e-4)

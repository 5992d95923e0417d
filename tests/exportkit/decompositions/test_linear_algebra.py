"""Factorisations spelled out agree with torch.linalg."""

import pytest
import torch

from exportkit import simplify
from exportkit.decompositions import linear_algebra

aten = torch.ops.aten
RULES = linear_algebra.table()


def agree(operator, *args, **options):
    want, got = operator(*args, **options), RULES[operator](*args, **options)
    pairs = zip(want, got, strict=True) if isinstance(want, tuple) else [(want, got)]
    return all(one.dtype == other.dtype and torch.allclose(one, other, rtol=1e-4, atol=1e-4) for one, other in pairs)


@pytest.mark.parametrize("size", [1, 2, 6])
def test_factors_and_solutions(size):
    torch.manual_seed(size)
    a, b = torch.randn(3, size, size) + 2 * torch.eye(size), torch.randn(3, size, 4)
    positive = a @ a.mT + torch.eye(size)
    lower = torch.linalg.cholesky(positive)
    assert agree(aten.linalg_cholesky_ex.default, positive)
    assert agree(aten.linalg_cholesky_ex.default, positive, upper=True)
    assert agree(aten.cholesky_solve.default, b, lower)
    assert agree(aten.cholesky_solve.default, b, lower.mT.contiguous(), True)
    assert agree(aten.linalg_solve_triangular.default, lower, b, upper=False)
    assert agree(aten.linalg_solve_triangular.default, lower, b.mT, upper=False, left=False)
    assert agree(aten.linalg_solve_triangular.default, lower[0].mT, b, upper=True, unitriangular=True)
    assert agree(aten._linalg_solve_ex.default, a, b)
    assert agree(aten._linalg_solve_ex.default, a, b[..., 0])
    assert agree(aten.linalg_inv_ex.default, a)
    assert agree(aten.linalg_lu_factor_ex.default, a)
    assert agree(aten.linalg_cholesky.default, positive)
    assert agree(aten.linalg_solve.default, a, b)
    assert agree(aten.linalg_inv.default, a)
    assert agree(aten.linalg_slogdet.default, a)
    sign, magnitude = RULES[aten._linalg_slogdet.default](a)[:2]
    assert torch.equal(sign, torch.linalg.slogdet(a)[0])
    assert torch.allclose(magnitude, torch.linalg.slogdet(a)[1], atol=1e-5)


def test_rows_are_swapped_where_a_pivot_is_zero():
    a = torch.tensor([[0.0, 2], [3, 4]])
    assert torch.allclose(RULES[aten.linalg_inv_ex.default](a)[0] @ a, torch.eye(2), atol=1e-6)


def test_what_is_too_large_to_write_out_is_left_to_the_exporter():
    assert RULES[aten.linalg_inv_ex.default](torch.eye(linear_algebra.LARGEST + 1)) is NotImplemented


def test_a_program_of_a_network_holds_plain_operators():
    class Net(torch.nn.Module):
        def forward(self, x):
            positive = x @ x.mT + torch.eye(3)
            return torch.linalg.cholesky(positive), torch.linalg.solve(positive, x), torch.linalg.inv(positive), torch.logdet(positive)

    x = torch.randn(2, 3, 4)
    plain = simplify.simplified(torch.export.export(Net(), (x,)), (x,), {}, None)
    names = {str(node.target) for node in plain.graph.nodes if node.op == "call_function"}
    assert not any("linalg" in name for name in names), names
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(plain.module()(x), Net()(x), strict=True))

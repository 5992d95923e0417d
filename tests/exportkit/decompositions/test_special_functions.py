"""Series and polynomials agree with torch's own functions."""

import pytest
import torch

from exportkit.decompositions import special_functions

aten = torch.ops.aten
RULES = special_functions.table()


def test_erfinv_passes_the_gate_by_torchs_own_error():
    ends = RULES[aten.erfinv.default](torch.tensor([-1.0, 0, 1, 1.5]))
    assert torch.equal(ends.nan_to_num(9), torch.tensor([-torch.inf, 0, torch.inf, 9]).nan_to_num(9))
    for low, high in ((1e-7, 1e-3), (1e-3, 0.5), (0.5, 0.9), (0.9, 0.99999)):
        x = torch.linspace(low, high, 2000)
        want = torch.erfinv(x.double())
        own, got = (((one - want) / want).abs() for one in (torch.erfinv(x), RULES[aten.erfinv.default](x)))
        assert got.max() <= 5 * own.max()


def test_sides_and_signs():
    x, y = torch.tensor([3.0, -0.0, 0.0, 3e38, -2]), torch.tensor([-4.0, -0.0, 0.0, -3e38, 0])
    assert torch.allclose(torch.hypot(x / 3, y / 3), RULES[aten.hypot.default](x / 3, y / 3))
    assert torch.equal(torch.signbit(x), RULES[aten.signbit.default](x))
    assert torch.equal(torch.copysign(x, y).signbit(), RULES[aten.copysign.Tensor](x, y).signbit())
    assert torch.equal(torch.copysign(x, y), RULES[aten.copysign.Tensor](x, y))


@pytest.mark.parametrize("operator", [aten.lgamma.default, aten.digamma.default], ids=str)
def test_gamma_functions_are_exact_in_double(operator):
    x = torch.cat([torch.linspace(0.01, 60, 500), torch.linspace(-5.95, -0.05, 40)])
    want = operator(x.double())
    assert torch.allclose(want, RULES[operator](x).double(), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("operator", [aten.log1p.default, aten.expm1.default, aten.log_sigmoid.default], ids=str)
def test_what_is_small_keeps_its_digits(operator):
    x = torch.cat([sign * torch.logspace(-12, high, 4000) for sign, high in ((1, 1.9), (-1, -0.01))])
    want = operator(x.double())
    own, got = (((one - want) / want).abs().max() for one in (operator(x), RULES[operator](x)))
    assert got <= 5 * max(own, 2**-24)
    ends = torch.tensor([-torch.inf, -100, -1, 0, 100, torch.inf, torch.nan])
    assert torch.allclose(operator(ends), RULES[operator](ends), equal_nan=True)


@pytest.mark.parametrize("operator", [aten.logaddexp.default, aten.logaddexp2.default, aten.special_xlog1py.default], ids=str)
def test_pairs_at_the_ends_of_what_is_finite(operator):
    ends = torch.tensor([-torch.inf, -200, -1e-6, 0, 1e-6, 3, 200, torch.inf, torch.nan])
    x, y = (one.flatten() for one in torch.meshgrid(ends, ends, indexing="ij"))
    assert torch.allclose(operator(x, y), RULES[operator](x, y), equal_nan=True, rtol=1e-6)

"""Transforms as products with waves agree with torch's own, of every length, and of any length in one program."""

import pytest
import torch
from torch import nn
from torch.export import Dim

from exportkit import simplify
from exportkit.decompositions import fourier

aten = torch.ops.aten
RULES = fourier.table()


def drawn(*shape, complex_values=False):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, dtype=torch.complex64 if complex_values else torch.float32, generator=generator)


@pytest.mark.parametrize("normalization", [0, 1, 2])
@pytest.mark.parametrize("size", [1, 2, 7, 12])
def test_each_length_and_norm(size, normalization):
    real, z = drawn(3, size, 5), drawn(3, size, 5, complex_values=True)
    calls = [
        (aten._fft_r2c.default, (real, [1], normalization, True)),
        (aten._fft_r2c.default, (real, [2, 1], normalization, False)),
        (aten._fft_c2c.default, (z, [1, 0], normalization, True)),
        (aten._fft_c2c.default, (z, [1], normalization, False)),
        (aten._fft_c2r.default, (z[:, : size // 2 + 1], [2, 1], normalization, size)),
    ]
    for operator, args in calls:
        assert torch.allclose(RULES[operator](*args), operator(*args), atol=1e-4), operator


def test_a_long_prime_length_loses_no_digits():
    x = drawn(2, 1009)
    exact = torch.fft.rfft(x.double())
    assert (RULES[aten._fft_r2c.default](x, [1], 0, True) - exact).abs().max() < 1e-5 * exact.abs().max()


def test_what_would_take_a_large_matrix_is_left_alone():
    assert RULES[aten._fft_r2c.default](torch.randn(5000), [0], 0, True) is NotImplemented


class Filter(nn.Module):
    def forward(self, x):
        z = torch.fft.rfft(x, dim=1, norm="ortho")
        return torch.fft.irfft(z * z.abs(), n=x.shape[1], dim=1), torch.fft.fft2(x).imag


@torch.no_grad()
def test_one_program_takes_every_length():
    x = drawn(2, 6, 5)
    shapes = {"x": {1: Dim.AUTO}}
    plain = simplify.simplified(torch.export.export(Filter(), (x,), dynamic_shapes=shapes), (x,), {}, shapes)
    assert not any("fft" in str(node.target) for node in plain.graph.nodes)
    for size in (6, 7, 30):
        x = drawn(2, size, 5)
        for got, want in zip(plain.module()(x), Filter()(x), strict=True):
            assert torch.allclose(got, want, atol=1e-3)


def test_a_shifted_spectrum_of_any_size_is_rolled():
    class Net(torch.nn.Module):
        def forward(self, x):
            return torch.fft.fftshift(x, dim=1), torch.fft.ifftshift(x)

    program = torch.export.export(Net(), (torch.randn(4, 8),), dynamic_shapes=({1: torch.export.Dim.AUTO},))
    plain = program.run_decompositions(fourier.table())
    assert {str(node.target) for node in plain.graph.nodes if "fft" in str(node.target)} == set()
    for size in (8, 5):
        x = torch.randn(4, size)
        for got, want in zip(plain.module()(x), Net()(x), strict=True):
            assert torch.equal(got, want)

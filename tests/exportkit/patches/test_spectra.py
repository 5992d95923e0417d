"""The inverse short-time transform in a capture is torch's own, at any length."""

import pytest
import torch
from torch import nn
from torch.export import Dim

from exportkit import patches
from exportkit.patches import spectra

WINDOW = torch.hann_window(16)


@pytest.mark.filterwarnings("ignore:The length of signal", "ignore:A window was not provided")
@pytest.mark.parametrize(
    "options",
    [
        {"window": WINDOW},
        {"window": WINDOW, "length": 50},
        {"window": WINDOW, "length": 90},  # silence at the end
        {"window": WINDOW[:12], "win_length": 12, "normalized": True},
        {"hop_length": 8},
    ],
    ids=str,
)
def test_a_stand_in_gives_what_torch_gives(options):
    spectrum = torch.randn(2, 9, 17, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    options = {"hop_length": 4, "win_length": 16, **options}
    want = torch.istft(spectrum, 16, **options)
    with patches.as_eager_computes():
        assert torch.allclose(torch.istft(spectrum, 16, **options), want, atol=1e-5)
        assert torch.allclose(spectrum.istft(16, **options), want, atol=1e-5)


def test_the_length_stays_symbolic():
    class Net(nn.Module):
        def forward(self, x):
            spectrum = torch.stft(x, 16, 4, window=WINDOW, return_complex=True)
            return torch.istft(spectrum * 2, 16, 4, window=WINDOW, length=x.shape[-1])

    with patches.as_eager_computes():
        program = torch.export.export(Net(), (torch.randn(2, 64),), dynamic_shapes=({1: Dim.DYNAMIC},))
    x = torch.randn(2, 83)
    assert torch.allclose(program.module()(x), 2 * x, atol=1e-5)


def test_the_stand_in_has_the_name_that_torch_asks_of_its_functions():
    with spectra.any_length():
        assert torch.istft.__name__ == "istft"

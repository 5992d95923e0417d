"""einx's functions of single elements, captured with symbolic sizes."""

import sys
import types

import pytest
import torch
from torch import nn

from exportkit import patches


@pytest.fixture
def einx(monkeypatch):
    """Stands for the package: its own functions take plain integers only."""
    module = types.ModuleType("einx")
    for name in ("subtract", "multiply", "where"):
        setattr(module, name, lambda *_, **__: pytest.fail("einx would compile this call"))
    monkeypatch.setitem(sys.modules, "einx", module)
    return module


def test_axes_are_placed_as_the_description_says(einx):
    i, j, x = torch.arange(3.0), torch.arange(4.0), torch.randn(2, 5, 3)
    with patches.as_eager_computes():
        assert torch.equal(einx.subtract("j, i -> 1 i j", j, i), (j - i[:, None])[None])
        assert torch.equal(einx.subtract("... j, ... i -> ... i j", x, x), x[..., None, :] - x[..., None])
        assert torch.equal(einx.multiply("b n c, c b -> n b c", x, x[:, 0].T), x.transpose(0, 1) * x[:, 0])
        assert torch.equal(einx.where("b n, b n c, -> b n c", x[..., 0] > 0, x, 0.0), torch.where(x[..., :1] > 0, x, 0.0))


def test_a_size_stays_symbolic_and_einx_is_itself_again(einx):
    class Net(nn.Module):
        def forward(self, x):
            places = torch.arange(x.shape[0])
            return einx.subtract("i, j -> i j", places, places) + x.sum()

    own = einx.subtract
    with patches.as_eager_computes():
        program = torch.export.export(Net(), (torch.ones(5),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        assert einx.subtract is not own
    assert einx.subtract is own
    assert program.module()(torch.ones(7)).shape == (7, 7)


def test_what_no_stand_in_covers_goes_to_einx(monkeypatch):
    module = types.ModuleType("einx")
    module.add = lambda description, *_, **__: description
    monkeypatch.setitem(sys.modules, "einx", module)
    with patches.as_eager_computes():
        assert module.add("a (b c), b -> a b c", torch.ones(2, 6), torch.ones(2), c=3) == "a (b c), b -> a b c"
        assert module.add("... a, ... a -> ... a", torch.ones(2, 6), [1.0] * 6) == "... a, ... a -> ... a"

"""A .pt computes what the module computed before it was written."""

import pytest
import torch
from torch import nn

from exportkit.capture import Captures, Options
from exportkit.formats import torchscript
from tests.exportkit.fakes import live


class Ratio(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x / y


def test_integers_are_divided_as_eager_divides_them(tmp_path):
    example = {"x": torch.tensor([3, -7]), "y": torch.tensor([2, 2])}
    captures = Captures(live(Ratio(), example), example, (), ("output",))
    artifact = torchscript.write_scripted(captures, tmp_path, Options())
    loaded = torch.jit.load(tmp_path / artifact.files[0])
    assert loaded(**example).tolist() == [1.5, -3.5]


class Selection(nn.Module):
    def forward(self, x, mask):
        if x.shape[0] != mask.shape[0]:
            raise ValueError(f"{x.shape[0]} rows and {mask.shape[0]} in the mask: {mask.bool()}")
        return torch.where((mask - 1).bool(), x, -x)


def test_words_that_torchscript_lacks_are_replaced():
    example = {"x": torch.tensor([1.0, 2.0]), "mask": torch.tensor([1, 3])}
    scripted = Captures(live(Selection(), example), example, (), ("output",)).scripted()
    assert scripted(**example).tolist() == [-1.0, 2.0]


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.holds = nn.Linear(4, 4)  # weights that another module reads: no forward of it is traced

    def forward(self, x):
        x = x + self.holds.weight[0]
        return x * torch.arange(x.shape[0], device=x.device)[:, None] + torch.ones(x.shape, device=x.device)


@pytest.mark.parametrize("write", [torchscript.write_traced, torchscript.write_simplified])
def test_a_trace_runs_on_the_device_that_it_is_loaded_on(tmp_path, write):
    example = {"x": torch.randn(3, 4)}
    network = Counts().eval()
    artifact = write(Captures(live(network, example), example, (), ("output",)), tmp_path, Options())
    loaded = torch.jit.load(tmp_path / artifact.files[0], map_location="meta")
    assert torch.equal(torch.jit.load(tmp_path / artifact.files[0])(**example), network(**example))
    assert loaded(torch.zeros(3, 4, device="meta")).device.type == "meta"


class Places(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.zeros(x.shape, device=x.device)


@torch.jit.script
def chosen(x: torch.Tensor) -> torch.Tensor:
    return x + 1 if x.device == torch.device("cpu") else x - 1


class Scripted(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.device == torch.device("cpu") else x - 1


class Twice(nn.Module):
    """A part that is called twice, which has two forwards in a trace, and one that was scripted and asks for the device."""

    def __init__(self):
        super().__init__()
        self.places, self.scripted = Places(), torch.jit.script(Scripted())

    def forward(self, x):
        return self.scripted(chosen(self.places(self.places(x))))


def test_every_forward_of_a_part_follows_and_what_was_scripted_keeps_its_question(tmp_path):
    example = {"x": torch.randn(3, 4)}
    artifact = torchscript.write_traced(Captures(live(Twice().eval(), example), example, (), ("output",)), tmp_path, Options())
    loaded = torch.jit.load(tmp_path / artifact.files[0], map_location="meta")
    assert loaded(torch.zeros(3, 4, device="meta")).device.type == "meta"
    assert 'torch.device("cpu")' in loaded.scripted.code
    assert "prim.device" not in loaded.scripted.code.partition("torch.device")[2]

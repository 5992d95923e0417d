"""Numbers that Python computes from sizes: they follow the size in .pt2 and ONNX."""

import ast
import math

import onnxruntime
import pytest
import torch
from torch import nn
from torch.export import Dim

from exportkit.control_flow import arithmetic, guardless, numbers, outlined


class Crop(nn.Module):
    def forward(self, x):
        return x[:, : int(x.shape[1] * 0.5)]


class Mean(nn.Module):
    def forward(self, x):
        return x.sum(1) / float(x.shape[1]), x * (1 - float(x.shape[0] / 7))


class Temperature(nn.Module):
    def scale(self, size):
        return math.log(size) / math.sqrt(size) + math.log(size, 3) + math.exp(-size / 5)

    def forward(self, x):
        return torch.softmax(x * self.scale(x.shape[1]), -1)


class Windows(nn.Module):
    """Constants, tensors and texts are numbers as before."""

    def forward(self, x):
        half = math.ceil(x.shape[1] / 3) + int("1") + int(torch.tensor(1))
        return x[:, -half:] * float("2.5") * isinstance(float("1"), float), x[:, :: int(2.9)]


class Padded(nn.Module):
    """Rounds sizes up and down, and pads to a multiple, in the ways that people write."""

    def forward(self, x):
        size = x.shape[1]
        return (
            torch.nn.functional.pad(x, (0, -size % 4)),
            torch.nn.functional.pad(x, (0, (3 - size % 3) % 3)).unflatten(1, (-1, 3)),
            x.new_ones(-(-size // 3), math.ceil(size / 4), math.floor((size + 1) / 2), (size - 20) // 3 + 10),
        )


NETWORKS = [Crop, Mean, Temperature, Windows, Padded]


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_number_follows_the_size(kind, tmp_path):
    network = kind().eval()
    with torch.no_grad(), outlined(network, loops=False):
        program = torch.export.export(network, (torch.randn(2, 8),), dynamic_shapes=({0: Dim.AUTO, 1: Dim.AUTO},), strict=False)
    arithmetic.plain(program)
    torch.export.save(program, tmp_path / "net.pt2")
    loaded = torch.export.load(tmp_path / "net.pt2").module()
    torch.onnx.export(program, verbose=False).save(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    for size in (8, 5, 11, 12):
        x = torch.randn(3, size)
        want = as_tuple(network(x))
        for got, expected in zip(as_tuple(loaded(x)), want, strict=True):
            torch.testing.assert_close(got, expected)
        for got, expected in zip(session.run(None, {session.get_inputs()[0].name: x.numpy()}), want, strict=True):
            torch.testing.assert_close(torch.from_numpy(got), expected)


class Outlined(nn.Module):
    """A loop that is taken out, with numbers of sizes before and after it."""

    def forward(self, x, *nothing):
        rate, total = 1 / float(x.shape[1]), x[:, 0]
        for t in range(x.shape[1]):
            total = total + x[:, t] * rate * math.log(x.shape[1])
        return total.unsqueeze(1) * x[:, int(x.shape[1] * 0.4) :]


def test_both_are_done_to_one_function():
    network = Outlined()
    with torch.no_grad(), outlined(network, loops=False), guardless(), outlined(network) as loops:
        assert loops == 1
        program = torch.export.export(network, (torch.randn(2, 5),), dynamic_shapes=({1: Dim.AUTO},), strict=False)
    x = torch.randn(2, 9)
    torch.testing.assert_close(program.module(check_guards=False)(x), network(x))


def test_everything_is_left_as_it_was():
    before, code, names = {name: getattr(math, name) for name in dir(math)}, Crop.forward.__code__, set(globals())
    with pytest.raises(ZeroDivisionError), outlined(Crop(), loops=False):
        assert Crop.forward.__code__ is not code
        assert [math.sqrt(4.0), math.log(9, 3), math.exp(0)] == [2.0, 2.0, 1.0]
        _ = 1 / 0
    assert Crop.forward.__code__ is code
    assert {name: getattr(math, name) for name in dir(math)} == before
    assert set(globals()) == names


@pytest.mark.parametrize("text", ["isinstance(x, int)", "int()", "int(x, 16)", "x.int(1)", "dtype(float)"])
def test_what_is_no_conversion_of_one_number_is_left_alone(text):
    tree = ast.parse(text)
    assert not numbers.rewritten(tree)
    assert ast.unparse(tree) == text

import pytest
import torch
from torch import nn

from exportkit import baking, load
from exportkit.capture import Captures
from exportkit.errors import ExportError
from exportkit.load import Given
from exportkit.spec import Symbol

LENGTH = 50


class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.Linear(4, 4)

    def forward(self, x):
        h = x[:, 0]
        for t in range(x.shape[1]):
            h = torch.tanh(self.cell(h) + x[:, t])
        return h


class Unscriptable(Steps):
    def forward(self, x):
        h = {0: x[:, 0], "kind": None}  # a dict of unlike keys is nothing that TorchScript takes
        for t in range(x.shape[1]):
            h[0] = torch.tanh(self.cell(h[0]) + x[:, t])
        return h[0]


def captures(module):
    example = torch.randn(2, LENGTH, 4)
    live = load.hold_object(Given(module.eval(), example, {}), "steps")[1]
    return Captures(live, {"x": example}, (Symbol("time", (("x", 1, 0),), LENGTH),), ("output",))


def steps(program):
    return sum(node.target is torch.ops.aten.tanh.default for node in program.graph.nodes)


def test_a_loop_that_stays_one_is_not_written_out_first():
    capture = captures(Steps())
    with pytest.raises(ExportError, match="takes a size for a number") as told:
        capture.exported()
    assert told.value.where.startswith("test_baking.py:")
    assert steps(capture.lifted()) == 0  # they are in the loop's body


def test_a_loop_that_cannot_stay_one_is_written_out():
    assert steps(captures(Unscriptable()).exported()) == LENGTH


def test_what_is_written_out_stays_of_its_length_when_it_is_simplified():
    program = captures(Unscriptable()).simplified()
    [x] = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name == "x"]
    assert [size if isinstance(size, int) else size.node.maybe_as_int() for size in x.shape] == [2, LENGTH, 4]


def test_sizes_are_numbers_again_afterwards():
    def length(x):
        return x.sum() * int(x.shape[0])

    example, shapes = (torch.randn(3),), ({0: torch.export.Dim.AUTO},)
    module = type("Length", (nn.Module,), {"forward": lambda _, x: length(x)})()
    with baking.stopped() as baked, pytest.raises(RuntimeError):
        torch.export.export(module, example, dynamic_shapes=shapes)
    assert baked.found
    assert torch.export.export(module, example, dynamic_shapes=shapes) is not None

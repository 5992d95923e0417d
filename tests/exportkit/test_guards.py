"""The conditions that an exported program holds to, and sizes that break them."""

import math

import pytest
import torch
from torch import nn
from torch.export import Dim

from exportkit.guards import breakable
from exportkit.spec import Symbol


def guards(condition, *, low=1, high=None, step=1, offset=0, other=False):
    """Exports forward with a branch on the size `time`, 9 in the example; returns text -> the first sizes that break it."""

    class Branching(nn.Module):
        def forward(self, x, y):
            return (x if condition(x.shape[1] - offset, y.shape[0]) else x * 2).sum(1) + y.sum()

    axis = Dim.AUTO if step == 1 else step * Dim("steps")
    x, y = torch.randn(3, 8 + offset + step % 2, 4), torch.randn(5)
    program = torch.export.export(Branching(), (x, y), dynamic_shapes=({1: axis}, {0: Dim.AUTO}))
    tensors = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    symbols = [Symbol("time", (("x", 1, offset),), 8 + step % 2, step, low, high), Symbol("width", (("y", 0, 0),), 5)]
    usual = {"time": 8 + step % 2, "width": 5}
    found = breakable(program, tensors, symbols, usual)
    return {guard.text: (guard.alone[0]["time"], guard.alone[0]["width"]) if other else guard.alone[0]["time"] for guard in found}


@pytest.mark.parametrize(
    ("condition", "text", "size"),
    [
        (lambda time, _: time == 700, "time != 700", 700),
        (lambda time, _: time % 64 == 0, "(time % 64) != 0", 64),
        (lambda time, _: time // 7 == 31, "(time // 7) != 31", 217),
        (lambda time, _: math.ceil(time / 3) == 99, "math.ceil(time / 3) != 99", 296),
        (lambda time, _: time * time == 1024, "time*time != 1024", 32),
    ],
)
def test_a_condition_is_told_in_our_names_with_the_smallest_size_that_breaks_it(condition, text, size):
    assert guards(condition) == {text: size}


def test_a_condition_on_two_sizes_is_broken_by_either():
    assert guards(lambda time, width: time == 2 * width, other=True) == {"time != (2*width)": (10, 5)}
    assert guards(lambda time, width: width > 3 * time, other=True) == {"width <= 3*time": (1, 5)}


def test_a_size_that_the_user_rules_out_breaks_nothing():
    assert guards(lambda time, _: time == 700, high=600) == {}
    assert guards(lambda time, _: time == 3, low=4) == {}
    assert guards(lambda time, _: time == 701, step=2) == {}


def test_steps_and_offsets_are_counted():
    assert guards(lambda time, _: time == 700, step=2) == {"time != 700": 700}
    assert guards(lambda time, _: time == 700, offset=1) == {"time != 700": 700}


def test_a_bound_is_no_condition_of_its_own():
    """The program's ranges hold it."""
    assert guards(lambda time, _: time > 700) == {}


@pytest.mark.parametrize(
    ("condition", "alone", "together"),
    [
        (lambda height, width: height % 32 == 0 and width % 32 == 0, (32, 9), (32, 32)),  # the second of the two is never noted
        (lambda height, width: height * width > 4000, (445, 9), (64, 64)),
        (lambda height, width: height * width > 1_000_000, None, (1001, 1001)),  # beyond what one size alone may be
    ],
)
def test_sizes_that_move_together(condition, alone, together):
    class Windowed(nn.Module):
        def forward(self, x):
            return x.flip(2) if condition(x.shape[2], x.shape[3]) else x

    x = torch.randn(2, 3, 8, 9)
    program = torch.export.export(Windowed(), (x,), dynamic_shapes=({0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO},))
    symbols = [Symbol(name, (("x", axis, 0),), x.shape[axis]) for name, axis in (("batch", 0), ("height", 2), ("width", 3))]
    tensors = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    (guard,) = breakable(program, tensors, symbols, {"batch": 2, "height": 8, "width": 9})
    assert [(one["height"], one["width"]) for one in guard.alone[:1]] == ([alone] if alone else [])
    assert (guard.together[0]["height"], guard.together[0]["width"]) == together
    assert guard.together[0]["batch"] == 2

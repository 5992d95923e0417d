"""How far an exported program is right."""

import pytest
import torch
from fakes import Net, live
from torch import nn
from torch.export import Dim

from exportkit.capture import unguarded
from exportkit.errors import ExportError
from exportkit.reach import reach, refuse_other_beyond, refuse_other_side, refuse_short_reach, sides
from exportkit.spec import Symbol


def exported(function, high=None):
    net = live(Net(function, nn.Linear(4, 2)).eval(), (torch.randn(3, 4),))
    program = torch.export.export(net.module, (net.example["x"],), dynamic_shapes=({0: Dim.AUTO},))
    return net, (Symbol("batch", (("x", 0, 0),), 3, high=high),), program


def halved(net, x):
    return net.parts[0](x[:20] if x.shape[0] > 20 else x)


def refused(net, x):
    if x.shape[0] > 20:
        raise ValueError("too long")
    return net.parts[0](x)


@pytest.mark.parametrize(
    ("function", "high", "bounds"),
    [
        (lambda net, x: net.parts[0](x), None, {}),
        (halved, None, {"batch": 20}),
        (halved, 20, {}),  # no more was asked for
        (refused, None, {}),  # eager itself goes no further
    ],
)
def test_a_branch_on_a_size_ends_the_reach_of_an_export(function, high, bounds):
    with torch.no_grad():
        assert reach(*exported(function, high)) == bounds


def test_a_bound_that_no_input_reaches_is_not_tried():
    """An export of torch.quantile, by torch 2.13, notes that it takes 16 million elements: to try the next size took 4 GiB and minutes."""
    asked = []

    def bounded(net, x):
        asked.append(x.numel())
        torch._check(x.shape[0] <= 1 << 24)
        return net.parts[0](x)

    with torch.no_grad():
        assert reach(*exported(bounded)) == {}
    assert max(asked) < 1 << 26


def test_what_would_answer_beyond_its_reach_is_refused_with_the_bound():
    with torch.no_grad(), pytest.raises(ExportError, match="right up to 20 only"):
        refuse_short_reach(*exported(halved))


def positioned(net, x):
    places = torch.arange(20.0)[: x.shape[0]]  # an export's size is at most 20 from here on
    return net.parts[0](x) + 0 * places.sum()


def test_a_bound_is_no_branch_where_the_next_size_gives_what_eager_gives():
    with torch.no_grad():
        net, symbols, program = exported(positioned)
        assert reach(net, symbols, program) == {"batch": 20}
        refuse_other_beyond(net, symbols, program, lambda inputs: unguarded(program)(**inputs))


def test_a_branch_behind_a_bound_that_harms_nothing_is_found():
    def halved_later(net, x):
        return positioned(net, x[:30] if x.shape[0] > 30 else x)

    with torch.no_grad(), pytest.raises(ExportError, match="right up to 20 only"):
        net, symbols, program = exported(halved_later)
        refuse_other_beyond(net, symbols, program, lambda inputs: unguarded(program)(**inputs))


def test_a_module_with_one_side_of_a_branch_is_refused_though_its_own_bounds_are_gone():
    with torch.no_grad():
        net, symbols, program = exported(halved)
        module = unguarded(program)
        with pytest.raises(ExportError, match="right up to 20 only"):
            refuse_other_beyond(net, symbols, program, lambda inputs: module(**inputs))


def odd(net, x):
    return net.parts[0](x[:3] if x.shape[0] == 70 else x)


def parted(net, x):
    return net.parts[0](x.flip(0).flip(0) if x.shape[0] % 16 == 0 else x)


def test_a_branch_on_one_exact_size_is_refused_with_its_condition_and_line():
    with torch.no_grad():
        net, symbols, program = exported(odd)
        with pytest.raises(ExportError, match="right where batch != 70, eager computes something else at batch = 70") as refusal:
            refuse_other_side(net, symbols, program, lambda inputs: unguarded(program)(**inputs))
    assert refusal.value.where == f"test_reach.py:{odd.__code__.co_firstlineno + 1}"


def test_what_refuses_a_size_itself_is_left_to_the_judge():
    def run(inputs):
        if len(inputs["x"]) == 70:
            raise ValueError("not 70")
        return program.module()(**inputs)

    with torch.no_grad():
        net, symbols, program = exported(odd)
        refuse_other_side(net, symbols, program, run)


def test_two_ways_to_the_same_result_are_no_branch():
    with torch.no_grad():
        net, symbols, program = exported(parted)
        refuse_other_side(net, symbols, program, lambda inputs: unguarded(program)(**inputs))
        assert sides(net, symbols, program) == ({"batch": 16},)  # still compared there


@pytest.mark.parametrize(("function", "sizes"), [(halved, ({"batch": 21},)), (odd, ({"batch": 70},)), (positioned, ({"batch": 21},))])
def test_sizes_on_the_other_side_of_a_branch_become_cases(function, sizes):
    with torch.no_grad():
        assert sides(*exported(function)) == sizes

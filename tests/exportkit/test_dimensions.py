"""Which dimensions vary, found by running eager or read from the user."""

import pytest
import torch
from fakes import Net, live
from torch import nn
from torch.export import Dim

from exportkit import dimensions
from exportkit.errors import LoadError


def found(function, *example, shapes=None, parts=()):
    symbols = dimensions.find_symbols(live(Net(function, *parts), example, shapes), 1e-3).symbols
    return {symbol.name: {place[:2] for place in symbol.places} for symbol in symbols}, symbols


def test_a_free_batch_is_found_and_a_weight_fixes_its_axis():
    names, _ = found(lambda net, x: net.parts[0](x), torch.randn(4, 8), parts=[nn.Linear(8, 2)])
    assert names == {"batch": {("x", 0)}}


def test_axes_that_must_agree_move_together():
    names, _ = found(lambda net, x, y: x + y, torch.randn(4, 5), torch.randn(4, 5))
    assert set(map(frozenset, names.values())) == {frozenset({("x", 0), ("others_0", 0)}), frozenset({("x", 1), ("others_0", 1)})}


def test_unrelated_axes_are_free_of_each_other():
    names, _ = found(lambda net, x, y: x.sum() + y.sum(), torch.randn(4), torch.randn(4))
    assert len(names) == 2


def test_an_offset_between_axes_is_kept():
    names, symbols = found(lambda net, x, y: torch.cat([x, x[:1]]) * y, torch.randn(4), torch.randn(5))
    assert list(map(set, names.values())) == [{("x", 0), ("others_0", 0)}]
    assert dict(zip(["x", "others_0"], (place[2] for place in symbols[0].places), strict=True)) == {"x": 0, "others_0": 1}


def test_a_size_that_must_divide_gets_a_step():
    _, symbols = found(lambda net, x: x.reshape(-1, 4).sum(0), torch.randn(8))
    assert [(symbol.size, symbol.step) for symbol in symbols] == [(8, 4)]


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64])
def test_a_mask_that_eager_may_not_read_still_moves_with_its_tensor(dtype):
    def function(net, x, mask):
        return x if mask.all() else x.masked_fill(mask == 0, 0.0)

    names, _ = found(function, torch.randn(2, 6), torch.ones(2, 6, dtype=dtype))
    assert set(map(frozenset, names.values())) == {frozenset({("x", 0), ("others_0", 0)}), frozenset({("x", 1), ("others_0", 1)})}


def test_a_mask_that_eager_may_not_read_moves_with_all_that_move_together_only():
    def function(net, x, mask, y):
        return x + y + torch.stack([mask[row].sum() for row in range(x.shape[0])]).unsqueeze(1)

    example = (torch.randn(2, 6), torch.ones(2, 5), torch.randn(2, 6))
    names, _ = found(function, *example, shapes=({0: Dim.AUTO}, ({0: Dim.AUTO}, {0: Dim.AUTO})))
    assert set(map(frozenset, names.values())) == {frozenset({("x", 0), ("others_0", 0), ("others_1", 0)})}


def test_keys_and_values_move_together_although_the_fused_kernel_takes_less():
    def function(net, q, k, v):
        return nn.functional.scaled_dot_product_attention(q, k, v)

    names, _ = found(function, *(torch.randn(2, 2, n, 8) for n in (1, 7, 7)))
    assert {("others_0", 2), ("others_1", 2)} in names.values()


def test_a_size_at_which_eager_turns_nan_is_not_accepted():
    names, _ = found(lambda net, x: x / (x.shape[0] == 4), torch.randn(4, 3))
    assert ("x", 0) not in {place for places in names.values() for place in places}


def test_declared_dimensions_keep_their_names_and_bounds():
    batch = Dim("rows", min=2, max=64)
    _, symbols = found(lambda net, x: x * 2, torch.randn(4, 8), shapes={"x": {0: batch}})
    assert [(s.name, s.low, s.high, s.declared) for s in symbols] == [("rows", 2, 64, True)]


@pytest.mark.parametrize(
    ("shapes", "words"),
    [({"z": {0: "n"}}, "'z'"), ({"x": {5: "n"}}, "axis 5"), ({"x": {1: Dim.DYNAMIC}}, "axis 1 of x")],
)
def test_a_declaration_that_cannot_be_is_refused(shapes, words):
    with pytest.raises(LoadError, match=words):
        found(lambda net, x: net.parts[0](x), torch.randn(4, 8), shapes=shapes, parts=[nn.Linear(8, 2)])


def test_a_size_at_which_eager_returns_another_form_is_not_one_that_varies():
    def function(net, x):
        return x[0] if x.shape[0] == 1 else x

    _, symbols = found(function, torch.randn(3, 2))
    assert {symbol.name: symbol.low for symbol in symbols} == {"batch": 2, "x_1": 1}


def test_eager_may_refuse_values_between_those_of_the_example():
    def function(net, x):
        if (x == 0).any():
            raise ZeroDivisionError
        return 12 // x

    names, _ = found(function, torch.tensor([-3, 2, 1, -1]))
    assert list(names) == ["x_0"]


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (({0: "b"}, None, {0: "c"}), "holds 3 entries for forward, which takes 2"),
        (({0: "b"}, ({0: "b"}, None)), r"holds 2 entries for others, which takes 1"),
        ({"y": {0: "b"}}, "names 'y', which is no input"),
        (({3: "b"},), "names axis 3 of x, which has 2"),
        (({0: Dim("b", min=2, max=4)},), "lets b be 2 to 4, and it is 5 in the example"),
    ],
)
def test_dynamic_shapes_that_do_not_fit_are_refused(shapes, words):
    with pytest.raises(LoadError, match=words):
        found(lambda net, x, y: x + y, torch.randn(5, 4), torch.randn(5, 4), shapes=shapes)


def test_the_entry_of_star_args_is_one_as_torch_export_takes_it_or_one_each():
    one = {0: "b"}
    for shapes in ((one, (one, one)), (one, one, one), {"x": one, "others": [one, one]}):
        names, _ = found(lambda net, x, y, z: x + y + z, *torch.randn(3, 5, 4), shapes=shapes)
        assert names == {"b": {("x", 0), ("others_0", 0), ("others_1", 0)}}

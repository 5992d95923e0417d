"""Drawn cases: like the example, at sizes the export never saw, the same every time."""

import numpy as np
import pytest
import torch

from exportkit import sample
from exportkit.spec import Case, Network, Source, Symbol, TensorSpec

BATCH = Symbol("batch", (("x", 0, 0),), 4)
LENGTH = Symbol("length", (("x", 1, 0), ("mask", 1, 0)), 6)


def case(seed=5, kind="like", **sizes):
    return Case("drawn", sizes, kind, "inside", seed)


def network(*symbols):
    specs = (TensorSpec("x", "float32", (4, 6)), TensorSpec("mask", "bool", (4, 6)))
    return Network("net", specs, {}, Source("", "", "", ""), symbols)


def test_a_case_draws_the_same_bits_again_and_another_seed_others():
    x = torch.randn(4, 6)
    one, two, other = (sample.draw_one("x", x, (), case(seed)) for seed in (5, 5, 6))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_axes_take_their_symbols_size_and_offset():
    symbol = Symbol("t", (("x", 0, 0), ("x", 1, 2)), 4)
    assert sample.draw_one("x", torch.randn(4, 6), (symbol,), case(t=9)).shape == (9, 11)


def test_plan_holds_one_a_prime_and_a_larger_size_and_each_dimension_alone():
    cases = sample.plan(network(BATCH, LENGTH), checks=2)
    sizes = [(one.sizes["batch"], one.sizes["length"]) for one in cases if one.drawn]
    assert any(1 in size for size in sizes)
    assert any(batch > 4 and length > 6 for batch, length in sizes)
    assert any(batch != 4 and length == 6 for batch, length in sizes)
    assert any(batch == 4 and length != 6 for batch, length in sizes)
    assert sum(one.kind == "check" for one in cases) == 2
    assert sum(one.domain == "inside" for one in cases) >= 8
    assert {"like", "small", "large", "edges", "ties"} <= {one.kind for one in cases if one.drawn}
    assert {"zeros", "huge", "nan", "masked"} <= {one.kind for one in cases if one.domain == "outside"}


def test_sizes_keep_a_step_and_bounds():
    side = Symbol("side", (("x", 0, 0),), 64, step=32, low=32, high=128)
    for one in sample.plan(network(side), 0):
        assert one.sizes["side"] % 32 == 0
        assert 32 <= one.sizes["side"] <= 128


def test_sizes_for_capture_are_distinct_and_neither_zero_nor_one():
    symbols = [Symbol(name, ((name, 0, 0),), size) for name, size in (("a", 1), ("b", 2), ("c", 2), ("d", 1))]
    sizes = sample.sizes_for_capture(symbols)
    assert len(set(sizes.values())) == 4
    assert min(sizes.values()) >= 2


def test_integers_stay_in_the_examples_range():
    ids = torch.tensor([[3, 80], [17, 9]])
    drawn = sample.draw_one("ids", ids, (Symbol("n", (("ids", 0, 0),), 2),), case(n=50))
    assert drawn.dtype == torch.int64
    assert drawn.min() >= 3
    assert drawn.max() <= 80
    assert len(drawn.unique()) > 10


@pytest.mark.parametrize("kind", [np.tril, np.triu])
def test_a_causal_mask_stays_causal(kind):
    mask = torch.from_numpy(kind(np.ones((6, 6), bool)))
    symbol = Symbol("t", (("mask", 0, 0), ("mask", 1, 0)), 6)
    assert np.array_equal(sample.draw_one("mask", mask, (symbol,), case(t=9)).numpy(), kind(np.ones((9, 9), bool)))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64])
def test_a_mask_that_is_all_on_is_drawn_with_ragged_rows(dtype):
    drawn = sample.draw_one("mask", torch.ones(4, 6, dtype=dtype), (), case())
    assert drawn.dtype == dtype
    rows = drawn.bool()
    assert rows[0].all()
    assert not rows.all()
    assert rows[:, 0].all()
    assert (rows[:, :-1] >= rows[:, 1:]).all()


def test_positions_stay_positions():
    drawn = sample.draw_one("pos", torch.arange(6).expand(2, 6), (Symbol("t", (("pos", 1, 0),), 6),), case(t=9))
    assert torch.equal(drawn, torch.arange(9).expand(2, 9))


def test_lengths_are_at_most_their_size_and_one_reaches_it():
    drawn = sample.draw_one("lengths", torch.tensor([6, 3, 2]), (LENGTH,), case(length=20))
    assert drawn.max() == 20
    assert drawn.min() >= 2


def test_probabilities_sum_to_one_and_positive_values_stay_positive():
    weights = sample.draw_one("p", torch.softmax(torch.randn(5, 4), -1), (), case())
    assert torch.allclose(weights.sum(-1), torch.ones(5), atol=1e-6)
    assert (sample.draw_one("p", torch.rand(50) + 0.1, (), case()) > 0).all()


@pytest.mark.parametrize("example", [torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64), torch.tensor(3.0), torch.tensor(2)])
def test_empty_and_scalar_examples_are_drawn(example):
    drawn = sample.draw_one("x", example, (), case())
    assert drawn.shape == example.shape
    assert drawn.dtype == example.dtype


@pytest.mark.parametrize("example", [torch.randn(40, 30), torch.rand(40, 30) + 0.5], ids=["of either sign", "positive"])
def test_values_come_close_together_at_the_ends_of_the_range_and_alike(example):
    like, small, edges, ties = (sample.draw_one("x", example, (), case(kind=kind)) for kind in ("like", "small", "edges", "ties"))
    assert small.std() < like.std() / 10
    assert set(edges.unique().tolist()) == {example.min().item(), example.max().item()}
    assert len(ties.unique()) < 20
    if example.min() > 0:
        assert all(drawn.min() >= example.min() and drawn.max() <= example.max() for drawn in (like, small, edges, ties))


def test_values_of_either_sign_also_come_far_apart_and_tie_with_zero():
    example = torch.randn(40, 30)
    assert sample.draw_one("x", example, (), case(kind="large")).std() > 2 * example.std()
    assert (sample.draw_one("x", example, (), case(kind="ties")) == 0).any()


def test_integers_come_all_alike_at_the_ends_of_their_range_and_few():
    ids = torch.randint(3, 80, (10, 20))
    small, edges, ties = (sample.draw_one("ids", ids, (), case(kind=kind)) for kind in ("small", "edges", "ties"))
    assert len(small.unique()) == 1
    assert set(edges.unique().tolist()) == {int(ids.min()), int(ids.max())}
    assert len(ties.unique()) <= 3
    assert min(small.min(), ties.min()) >= ids.min()
    assert max(small.max(), ties.max()) <= ids.max()


@pytest.mark.parametrize(
    "mask", [torch.arange(6) < torch.tensor([[6], [4], [1]]), torch.tensor([[0, 1, 1, 0], [1, 0, 0, 1]]).bool()], ids=["prefixes", "any"]
)
def test_masks_come_with_one_on_in_each_row_and_all_on(mask):
    assert (sample.draw_one("mask", mask, (), case(kind="small")).sum(-1) == 1).all()
    assert sample.draw_one("mask", mask, (), case(kind="edges")).all()


def test_each_dimension_is_tried_far_beyond_the_example_and_at_the_largest_size_asked_for():
    bounded = Symbol("length", (("x", 1, 0), ("mask", 1, 0)), 6, high=90, declared=True)
    sizes = [(one.sizes["batch"], one.sizes["length"]) for one in sample.plan(network(BATCH, bounded), checks=0) if one.drawn]
    assert any(batch > 100 and length == 6 for batch, length in sizes)
    assert (4, 90) in sizes
    assert max(length for _, length in sizes) == 90


def test_a_dummy_of_zeros_is_drawn_with_ones_too_and_a_lone_flag_with_both_values():
    ids = [sample.draw_one("ids", torch.zeros(1, 6, dtype=torch.int64), (), case(seed)) for seed in range(4)]
    assert {int(value) for one in ids for value in one.flatten()} == {0, 1}
    flags = [sample.draw_one("flag", torch.tensor([True]), (), case(seed)) for seed in range(20)]
    assert {bool(flag) for flag in flags} == {True, False}


def test_whole_numbers_stay_whole_and_resampled_values_are_the_examples_own():
    grades = torch.tensor([[1.0, 5, 3], [2, 2, 4]])
    for kind in ("like", "small", "large", "edges", "ties"):
        drawn = sample.draw_one("x", grades, (), case(kind=kind))
        assert torch.equal(drawn, drawn.round())
    divisors = torch.tensor([-3, 7, 2, -1])
    assert set(sample.draw_one("x", divisors, (), case(kind="resampled")).tolist()) <= set(divisors.tolist())


def test_an_integer_that_is_no_index_does_not_leave_the_examples_range():
    rows = Symbol("rows", (("x", 0, 0),), 8)
    assert sample.draw_one("x", torch.tensor([2, 7, 3, 4, 5, 6, 2, 3]), (rows,), case(rows=1)).item() >= 2

"""Operators spelled out compute what they stand for."""

import pytest
import torch
from torch import nn

from exportkit.decompositions import operators

aten = torch.ops.aten
RULES = operators.table()
FLOATS = torch.tensor([[3.0, -1, 3, 0, 7, 7], [-2, 5, 5, 5, -9, 4]])  # with ties
INTEGERS = FLOATS.long()


def same(one, other):
    return torch.allclose(one, other, rtol=1e-6, atol=1e-6) and one.dtype == other.dtype and one.shape == other.shape


@pytest.mark.parametrize("x", [FLOATS, INTEGERS, FLOATS[:, :1]], ids=["float", "integer", "one"])
@pytest.mark.parametrize(
    ("operator", "args"),
    [
        (aten.cummax.default, (1,)),
        (aten.cummax.default, (0,)),
        (aten.cummin.default, (-1,)),
        (aten.cumprod.default, (1,)),
        (aten.amax.default, ()),
        (aten.amin.default, ([], True)),
        (aten.median.default, ()),
        (aten.median.dim, (0,)),
        (aten.median.dim, (1, True)),
        (aten.kthvalue.default, (1, 0)),
    ],
    ids=str,
)
def test_operators_along_an_axis(x, operator, args):
    want, got = operator(x, *args), RULES[operator](x, *args)
    if operator in (aten.median.dim, aten.kthvalue.default):  # which of equal elements is meant, torch leaves open
        dim, keepdim = (args[0], True in args) if operator is aten.median.dim else (args[1], False)
        index = got[1] if keepdim else got[1].unsqueeze(dim)
        assert torch.equal(want[0], got[0])
        assert torch.equal(x.gather(dim, index), want[0] if keepdim else want[0].unsqueeze(dim))
        return
    for one, other in zip(*((pair if isinstance(pair, tuple) else (pair,)) for pair in (want, got)), strict=True):
        assert same(one, other)


@pytest.mark.parametrize("operator", [aten.fmax.default, aten.fmin.default], ids=str)
def test_the_larger_and_the_smaller_one_where_one_is_no_number(operator):
    ends = torch.tensor([-torch.inf, -1, 0, 2, torch.inf, torch.nan])
    x, y = (one.flatten() for one in torch.meshgrid(ends, ends, indexing="ij"))
    assert torch.equal(operator(x, y).nan_to_num(9), RULES[operator](x, y).nan_to_num(9))


@pytest.mark.parametrize("dim", [0, 1])
def test_sums_of_powers_up_to_each_place(dim):
    x = torch.tensor([[300.0, -5, 0, 2, -torch.inf], [0, -20, 400, 399, torch.inf], [-torch.inf, -torch.inf, 0, -19, 1]])
    assert torch.allclose(torch.logcumsumexp(x, dim), RULES[aten.logcumsumexp.default](x, dim))


@pytest.mark.parametrize("reduction", [0, 1, 2])
def test_cross_entropy_of_large_numbers(reduction):
    torch.manual_seed(0)
    x, target, weight, positive = torch.randn(4, 5) * 80, torch.rand(4, 5), torch.rand(5), torch.rand(5)
    operator = aten.binary_cross_entropy_with_logits.default
    for given in [(None, None), (weight, None), (weight, positive)]:
        assert same(operator(x, target, *given, reduction), RULES[operator](x, target, *given, reduction))


def test_sums_that_leave_out_what_is_no_number():
    x = torch.tensor([[1.0, float("nan"), 2.0], [float("nan"), 4.0, 8.0]])
    for given in [(), (1,), ([0, 1], True)]:
        assert same(torch.nansum(x, *given), RULES[aten.nansum.default](x, *given))


@pytest.mark.parametrize("right", [False, True])
def test_searchsorted_and_bucketize(right):
    bounds, x = torch.tensor([-1.0, 0, 0, 3]), FLOATS
    assert same(torch.bucketize(x, bounds, right=right), RULES[aten.bucketize.Tensor](x, bounds, right=right))
    rows = torch.tensor([[-1.0, 0, 3], [4, 5, 5]])
    got = RULES[aten.searchsorted.Tensor](rows, x, side="right" if right else "left", out_int32=True)
    assert same(torch.searchsorted(rows, x, side="right" if right else "left", out_int32=True), got)


@pytest.mark.parametrize("p", [0.0, 1.0, 3.5, float("inf")])
def test_cdist(p):
    torch.manual_seed(0)
    x, y = torch.randn(2, 5, 3), torch.randn(2, 4, 3)
    assert torch.allclose(torch.cdist(x, y, p), RULES[aten.cdist.default](x, y, p), atol=1e-5)


@pytest.mark.parametrize("sizes", [(1, 1), (3, 2), (4, 7), (5, 9)])
def test_adaptive_pools_of_sizes_that_do_not_divide(sizes):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 7)
    assert torch.allclose(aten.adaptive_avg_pool2d(x, sizes), RULES[aten.adaptive_avg_pool2d.default](x, sizes), atol=1e-6)
    for one, other in zip(aten.adaptive_max_pool1d(x[0], sizes[:1]), RULES[aten.adaptive_max_pool1d.default](x[0], sizes[:1]), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(aten.adaptive_max_pool2d(x, sizes), RULES[aten.adaptive_max_pool2d.default](x, sizes), strict=True):
        assert torch.equal(one, other)


def test_int32_indices_of_index_put_are_widened_and_others_left():
    x, values = torch.zeros(5), torch.ones(2)
    index = torch.tensor([1, 3], dtype=torch.int32)
    got = RULES[aten.index_put.default](x, [index], values, accumulate=True)
    assert torch.equal(got, aten.index_put(x, [index], values, True))
    assert RULES[aten.index_put.default](x, [index.long()], values) is NotImplemented


@pytest.mark.parametrize("reduce", ["sum", "mean", "prod", "amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_scatter_reduce(reduce, include_self, dtype):
    torch.manual_seed(0)
    x, source = (torch.randint(-9, 9, shape).to(dtype) for shape in ((5, 3), (14, 3)))
    index = torch.randint(0, 4, (14, 3))  # row 4 is never hit
    told = RULES[aten.scatter_reduce.two](x, 0, index, source, reduce, include_self=include_self)
    if told is not NotImplemented:
        assert torch.equal(told, x.scatter_reduce(0, index, source, reduce, include_self=include_self))


def test_histc_and_vdot():
    torch.manual_seed(0)
    x = torch.randint(0, 8, (50,)).float()
    assert torch.equal(RULES[aten.histc.default](x, 8, 0, 7), torch.histc(x, 8, 0, 7))
    a, b = torch.randn(9), torch.randn(9)
    assert torch.allclose(RULES[aten.vdot.default](a, b), torch.vdot(a, b))


def test_grouped_mm_gives_each_row_its_own_matrix():
    torch.manual_seed(0)
    a, b, ends = torch.randn(7, 4), torch.randn(3, 4, 5), torch.tensor([2, 2, 7], dtype=torch.int32)
    want = torch.cat([a[:2] @ b[0], a[2:2] @ b[1], a[2:] @ b[2]])
    assert torch.allclose(operators._grouped_mm(a, b, ends), want)


@pytest.mark.parametrize("n", [1, 5, 8])
def test_sample_frequencies(n):
    assert same(torch.fft.fftfreq(n, 0.5), RULES[aten.fft_fftfreq.default](n, 0.5))
    assert same(torch.fft.rfftfreq(n, 0.5), RULES[aten.fft_rfftfreq.default](n, 0.5))


@pytest.mark.parametrize("rows", [4, 30])
def test_euclidean_distances(rows):
    torch.manual_seed(0)
    x, y = torch.randn(2, rows, 3), torch.randn(2, 5, 3)
    assert torch.allclose(torch.cdist(x, y), RULES[aten.cdist.default](x, y), atol=1e-5)


def test_attention_without_an_axis_of_heads():
    torch.manual_seed(0)
    q, mask = torch.randn(2, 4, 6), torch.ones(2, 4, 4).tril().bool()
    for given in (None, mask, mask[0]):
        want = aten.scaled_dot_product_attention.default(q, q, q, given)
        assert torch.allclose(want, RULES[aten.scaled_dot_product_attention.default](q, q, q, given), atol=1e-6)


def test_an_average_divided_by_another_number_than_the_windows_size():
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    args = ([2, 3], [2, 1], [1, 1], False, True, 5)
    assert torch.allclose(aten.avg_pool2d.default(x, *args), RULES[aten.avg_pool2d.default](x, *args))


@pytest.mark.filterwarnings("ignore:index_reduce", "ignore:The reduce argument")
def test_reductions_into_chosen_places():
    index, x = torch.tensor([2, 0, 2]), torch.ones(3, 3) * 2
    source = torch.tensor([[1.0, 5, 3], [4, 2, 0], [7, 9, 8]])
    want = x.index_reduce(1, index, source, "amax", include_self=False)
    assert same(want, RULES[aten.index_reduce.default](x, 1, index, source, "amax", include_self=False))
    places = index.expand(3, 3)
    assert same(x.scatter(1, places, source, reduce="multiply"), RULES[aten.scatter.reduce](x, 1, places, source, reduce="multiply"))


def test_bytes_are_shifted_as_bytes():
    x = torch.tensor([1, 127, 128, 255], dtype=torch.uint8)
    assert torch.equal(x << 1, RULES[aten.__lshift__.Scalar](x, 1))
    assert torch.equal(x >> 1, RULES[aten.__rshift__.Scalar](x, 1))


def test_a_size_is_a_number_to_operators():
    class Sized(nn.Module):
        def forward(self, x):
            return ((torch.arange(7) - 3) % x.shape[0] + (torch.arange(7) & x.shape[0])).sum() + x.roll(x.shape[0] // 2, 0)

    program = torch.export.export(Sized(), (torch.randn(5, 2),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    plain = program.run_decompositions(RULES)
    names = {str(node.target) for node in plain.graph.nodes}
    assert not names & {"aten.remainder.Scalar", "aten.bitwise_and.Scalar", "aten.roll.default"}
    x = torch.randn(8, 2)
    assert torch.equal(plain.module()(x), Sized()(x))

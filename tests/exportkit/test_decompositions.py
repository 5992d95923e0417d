"""Operators spelled out compute what they stand for."""

import pytest
import torch

from exportkit import decompositions

aten = torch.ops.aten
RULES = decompositions.table()
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


@pytest.mark.parametrize("right", [False, True])
def test_searchsorted_and_bucketize(right):
    bounds, x = torch.tensor([-1.0, 0, 0, 3]), FLOATS
    assert same(torch.bucketize(x, bounds, right=right), RULES[aten.bucketize.Tensor](x, bounds, right=right))
    rows = torch.tensor([[-1.0, 0, 3], [4, 5, 5]])
    got = RULES[aten.searchsorted.Tensor](rows, x, side="right" if right else "left", out_int32=True)
    assert same(torch.searchsorted(rows, x, side="right" if right else "left", out_int32=True), got)


def test_erfinv_passes_the_gate_by_torchs_own_error():
    ends = RULES[aten.erfinv.default](torch.tensor([-1.0, 0, 1, 1.5]))
    assert torch.equal(ends.nan_to_num(9), torch.tensor([-torch.inf, 0, torch.inf, 9]).nan_to_num(9))
    for low, high in ((1e-7, 1e-3), (1e-3, 0.5), (0.5, 0.9), (0.9, 0.99999)):
        x = torch.linspace(low, high, 2000)
        want = torch.erfinv(x.double())
        own, got = (((one - want) / want).abs() for one in (torch.erfinv(x), RULES[aten.erfinv.default](x)))
        assert got.max() <= 5 * own.max()


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
    assert torch.allclose(decompositions._grouped_mm(a, b, ends), want)

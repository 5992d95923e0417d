"""Equal values, whose order torch leaves open, taken in their order."""

import numpy as np
import pytest
import torch
from torch import nn

from exportkit import gaps, golden, load, reference, ties
from exportkit.spec import Case

X = torch.randint(0, 4, (2, 35), generator=torch.Generator().manual_seed(0))  # torch sorts more than 16 values in an order of its own


def order(descending):
    return np.argsort(-X.numpy() if descending else X.numpy(), axis=1, kind="stable")


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x: x.topk(4)[1], order(True)[:, :4]),
        (lambda x: x.topk(4, largest=False)[1], order(False)[:, :4]),
        (lambda x: x.sort(descending=True)[1], order(True)),
        (lambda x: torch.sort(x, stable=False)[1], order(False)),
        (lambda x: x.T.argsort(dim=0), order(False).T),
        (lambda x: x.kthvalue(9)[1], order(False)[:, 8]),
        (lambda x: x.T.kthvalue(18, 0, keepdim=True)[1], order(False)[:, 17:18].T),
    ],
)
def test_equal_values_come_in_their_order(call, expected, dtype):
    x = X.to(dtype)
    watch = ties.InOrder()
    with watch:
        found = call(x)
    assert watch.used
    assert np.array_equal(found, expected)
    assert not np.array_equal(call(x), expected), "torch has this order by itself: the test shows nothing"


@pytest.mark.parametrize(
    "call", [lambda x: x.median(-1), lambda x: x.max(-1), lambda x: x.argmax(-1), lambda x: x.unique(), lambda x: x + 1]
)
def test_what_torch_says_itself_is_left_alone(call):
    watch = ties.InOrder()
    with watch:
        call(X)
    assert not watch.used


class Best(nn.Module):
    def forward(self, x):
        values, places = x.topk(2)
        return values, places, x.gather(-1, places) * 0.1


def arrays_of(x, folder):
    network = load.hold_object(load.Given(Best(), x), None)[1]
    reference.build(network, (), (Case("example", {}, "example", "inside", 0),), folder)
    return golden.Reader(folder / "example.safetensors")


def test_the_other_run_is_kept_where_it_differs(tmp_path):
    arrays = arrays_of(X.float(), tmp_path)
    assert {key for key in arrays.names() if "tied" in key} == {
        *(f"example/tied/eager/output_{number}" for number in range(3)),
        *(f"example/tied/oracle/output_{number}" for number in (0, 2)),
    }
    assert np.array_equal(arrays.read("example/tied/eager/output_1"), order(True)[:, :2])


def test_no_other_run_is_kept_where_no_values_are_equal(tmp_path):
    assert not [key for key in arrays_of(torch.randn(2, 35), tmp_path).names() if "tied" in key]


EAGER = {"eager/i": np.array([3, 1]), "eager/y": np.array([0.5, 2.0])}
TIED = {"tied/eager/i": np.array([0, 1]), "tied/eager/y": np.array([0.25, 2.0])}


@pytest.mark.parametrize(
    ("i", "y", "other"),
    [([3, 1], [0.5, 2], False), ([0, 1], [0.25, 2.000001], True), ([3, 1], [0.25, 2], False), ([7, 7], [np.nan, 2], False)],
)
def test_one_run_is_chosen_for_all_outputs_together(i, y, other):
    chosen, in_order = gaps.nearest({**EAGER, **TIED}, {"i": np.array(i), "y": np.array(y)})
    assert in_order == other
    assert chosen["eager/i"][0] == (0 if other else 3)
    assert chosen["eager/y"][0] == (0.25 if other else 0.5)


def test_without_another_run_there_is_nothing_to_choose():
    assert gaps.nearest(EAGER, {"i": np.array([0, 1]), "y": np.array([0.25, 2.0])}) == (EAGER, False)
